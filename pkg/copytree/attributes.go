// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// target is what attributes are set on: an open file or directory, which also has a path of
// its own, or a name in an open directory.
type target struct {
	fd   int
	path string // "/proc/self/fd/N" of fd; "" where it is name in fd
	name string
	link bool // name is a symbolic link
}

// attributeCopier copies what belongs to a file besides its data.
type attributeCopier struct {
	methods       *Methods
	owners        *owners
	sourceIsPlain bool
	source        source
	marked        *atomic.Bool  // see Plain
	lost          *atomic.Int64 // see Copy.Lost
}

// copy gives a copy the owner, mode, extended attributes and access control lists of its
// source. made is what the copy was when it was new.
func (c attributeCopier) copy(source int, t target, st, made *unix.Stat_t) error {
	if err := c.ownerAndMode(t, st, made); err != nil {
		return err
	}
	if !c.asks() {
		return nil
	}
	return c.extended(source, t, st)
}

// ownerAndMode sets what differs.
func (c attributeCopier) ownerAndMode(t target, st, made *unix.Stat_t) error {
	if err := c.owners.give(t, st, made); err != nil {
		return err
	}
	special := st.Mode&0o7000 != 0 // which a new owner, and data, take away
	if t.link || st.Mode&0o7777 == made.Mode&0o7777 && !special {
		return nil
	}
	if t.path != "" {
		return unix.Fchmodat(unix.AT_FDCWD, t.path, st.Mode&0o7777, 0)
	}
	return unix.Fchmodat(t.fd, t.name, st.Mode&0o7777, 0)
}

func setTimes(t target, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	if t.path != "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, t.path, times, 0)
	}
	return unix.UtimesNanoAt(t.fd, t.name, times, unix.AT_SYMLINK_NOFOLLOW)
}

const (
	// nfs4ACL is the name by which the NFSv4 client shows access control lists (nfs4_acl(5)).
	nfs4ACL = "system.nfs4_acl"
	// posixACL begins the names of those of local file systems and of NFSv3 (acl(5)).
	posixACL   = "system.posix_acl_"
	defaultACL = posixACL + "default"
)

// asks reports whether the source has to be asked for extended attributes.
func (c attributeCopier) asks() bool { return !c.sourceIsPlain && !c.methods.noAttributes.Load() }

// refuses is where it is remembered that the target does not take an extended attribute of
// that name; nil for one that is not copied.
func (m *Methods) refuses(name string) *atomic.Bool {
	switch {
	case strings.HasPrefix(name, "user."):
		return &m.noUser
	case strings.HasPrefix(name, posixACL):
		return &m.noPosix
	case name == nfs4ACL:
		return &m.noNFSList
	}
	return nil
}

// extended copies extended attributes and access control lists.
func (c attributeCopier) extended(source int, t target, st *unix.Stat_t) error {
	err := c.source.check(callAttributes, "")
	if err != nil {
		return &SourceError{err}
	}
	names, err := list(source)
	if unsupported(err) {
		c.methods.noAttributes.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", &SourceError{err})
	}
	for name := range strings.SplitSeq(names, "\x00") {
		no := c.methods.refuses(name)
		if no == nil {
			continue
		}
		value, err := get(source, name)
		if errors.Is(err, unix.ENODATA) || unsupported(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, &SourceError{err})
		}
		if err := c.give(t, st, name, value, no); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// give sets an extended attribute, unless it is a list that the target has already.
func (c attributeCopier) give(t target, st *unix.Stat_t, name, value string, no *atomic.Bool) error {
	if name == nfs4ACL {
		if plain, err := c.plainACL(t, st, value); err != nil || plain {
			return err
		}
	}
	c.marked.Store(true)
	if !no.Load() {
		err := unix.Setxattr(t.path, name, []byte(value), 0)
		switch {
		case unsupported(err):
			no.Store(true)
		case err != nil:
			return err
		case name != nfs4ACL || st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil
		default: // Linux servers keep what a directory has for new files if the list does not speak of it
			now, err := getAt(t.path, name)
			if err != nil || now == value {
				return err
			}
		}
	}
	c.lost.Add(1)
	return nil
}

// plainACL reports whether an access control list says no more than the mode: it is that
// which the server gives a new file of the same mode. That is asked for once for each mode.
func (c attributeCopier) plainACL(t target, st *unix.Stat_t, value string) (bool, error) {
	key := st.Mode
	known, ok := c.methods.lists.Load(key)
	if !ok {
		fresh, err := getAt(t.path, nfs4ACL)
		if errors.Is(err, unix.ENODATA) || unsupported(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		known, _ = c.methods.lists.LoadOrStore(key, fresh)
	}
	return known.(string) == value, nil
}

func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// byDescriptor is a path to what a descriptor is open on, for calls that take no descriptor, or
// none that was opened with O_PATH.
func byDescriptor(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// list returns the names of a file's extended attributes, each ended by a zero byte.
func list(fd int) (string, error) {
	names, err := sized(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.EBADF) { // O_PATH
		return sized(func(b []byte) (int, error) { return unix.Listxattr(byDescriptor(fd), b) })
	}
	return names, err
}

func get(fd int, name string) (string, error) {
	value, err := sized(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if errors.Is(err, unix.EBADF) {
		return getAt(byDescriptor(fd), name)
	}
	return value, err
}

func getAt(path, name string) (string, error) {
	return sized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
}

// sized calls a function that fills a buffer with a larger one, as long as it says that is too small.
func sized(fill func([]byte) (int, error)) (string, error) {
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := fill(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 || errors.Is(err, unix.EINTR) {
			continue
		}
		return string(b[:max(n, 0)]), err
	}
}
