// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"slices"
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
	marked        *atomic.Bool  // see IsPlain
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
	if t.link {
		return nil
	}
	if st.Mode&0o7777 == made.Mode&0o7777 {
		if st.Mode&0o7000 == 0 {
			return nil
		}
		has, err := t.mode() // a new owner may have taken the special bits away
		if err != nil || has&0o7777 == st.Mode&0o7777 {
			return err
		}
	}
	if t.path != "" {
		return unix.Fchmodat(unix.AT_FDCWD, t.path, st.Mode&0o7777, 0)
	}
	return unix.Fchmodat(t.fd, t.name, st.Mode&0o7777, 0)
}

// mode asks for the mode that the copy has by now.
func (t target) mode() (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(t.fd, t.name, &st, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	return st.Mode, err
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
	listed, err := list(source)
	if unsupported(err) {
		c.methods.noAttributes.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", &SourceError{err})
	}
	for _, name := range asked(listed, st) {
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

// asked returns the names of the attributes that a file is asked for: those that were listed, and those of
// access control lists. By NFSv3 Linux lists what the server says that there is, and nothing if the
// server answers with an error (nfs3_list_one_acl). What it was told it remembers: that is no round trip.
func asked(listed string, st *unix.Stat_t) []string {
	names := append(strings.Split(listed, "\x00"), posixACL+"access")
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		names = append(names, defaultACL)
	}
	slices.Sort(names)
	return slices.Compact(names)
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
		err := c.methods.system.setxattr(t.path, name, value)
		switch {
		case unsupported(err):
			no.Store(true)
		case declined(err):
		case err != nil:
			return err
		case !mayForget(name, st):
			return nil
		default:
			now, err := getAt(t.path, name)
			if err == nil && now == value {
				return nil
			}
			if err != nil && !errors.Is(err, unix.ENODATA) && !unsupported(err) {
				return err
			}
		}
	}
	c.lost.Add(1)
	return nil
}

// mayForget reports whether a server may say that it has taken an attribute, and have another, or none.
// Linux keeps what an NFSv4 list does not speak of: what a directory has for new files. Of POSIX lists
// NFS-Ganesha 4.3 takes those for new files, and keeps none (NFSv3).
func mayForget(name string, st *unix.Stat_t) bool {
	return strings.HasPrefix(name, posixACL) || name == nfs4ACL && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// declined reports whether an error of setting an attribute says that the target does not take this one. It
// does so with EIO, too: NFS-Ganesha 4.3 has that for POSIX lists (NFSv3). A disk that fails, or a server
// that is gone, lets us change nothing else, and the file's times are set after this.
func declined(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.EINVAL, unix.E2BIG, unix.ERANGE, unix.ENODATA} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// forgetDefault has the directory that fd is open on give new files no access control list: what the target
// has for new files is not what the source's files have. NFSv4 does not show it so, and there each list is
// compared with what a new file has: see plainACL. What is not there is not removed, which NFS-Ganesha 4.3
// answers with EIO (NFSv3). Where nothing can be learned of it, there are no lists; a disk that fails shows
// as soon as something is made in the directory.
func (m *Methods) forgetDefault(fd int) error {
	path := byDescriptor(fd)
	if _, err := getAt(path, defaultACL); err != nil {
		if declined(err) || unsupported(err) {
			return nil
		}
		return err
	}
	err := m.system.removexattr(path, defaultACL)
	if errors.Is(err, unix.ENODATA) || unsupported(err) {
		return nil
	}
	return err
}

// plainACL reports whether an access control list says no more than the mode: it is that
// which the server gives a new file of the same mode. That is asked for once for each mode.
func (c attributeCopier) plainACL(t target, st *unix.Stat_t, value string) (bool, error) {
	key := st.Mode
	known, ok := c.methods.lists.Load(key)
	if !ok {
		fresh, err := getAt(t.path, nfs4ACL)
		if declined(err) || unsupported(err) {
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
