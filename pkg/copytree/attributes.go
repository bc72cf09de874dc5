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
	fd        int
	path      string // "/proc/self/fd/N" of fd; "" where it is name in fd
	name      string
	isSymlink bool // name is a symbolic link
}

// attributeCopier copies what belongs to a file besides its data.
type attributeCopier struct {
	methods         *Methods
	owners          *owners
	sourceIsPlain   bool
	source          source
	foundAttributes *atomic.Bool  // see IsPlain
	lost            *atomic.Int64 // see Copy.Lost
}

// copy gives a copy the owner, mode, extended attributes and access control lists of its
// source. made is what the copy was when it was new.
func (c attributeCopier) copy(source int, t target, st, made *unix.Stat_t) error {
	if err := c.copyOwnerAndMode(t, st, made); err != nil {
		return err
	}
	if !c.mayHaveAttributes() {
		return nil
	}
	return c.copyExtended(source, t, st)
}

// ownerAndMode sets what differs.
func (c attributeCopier) copyOwnerAndMode(t target, st, made *unix.Stat_t) error {
	if err := c.owners.copyOwner(t, st, made); err != nil {
		return err
	}
	if t.isSymlink {
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
func (c attributeCopier) mayHaveAttributes() bool {
	return !c.sourceIsPlain && !c.methods.noAttributes.Load()
}

// refuses is where it is remembered that the target does not take an extended attribute of
// that name; nil for one that is not copied.
func (m *Methods) refusalFlag(name string) *atomic.Bool {
	switch {
	case strings.HasPrefix(name, "user."):
		return &m.noUserAttributes
	case strings.HasPrefix(name, posixACL):
		return &m.noPOSIXACL
	case name == nfs4ACL:
		return &m.noNFS4ACL
	}
	return nil
}

// extended copies extended attributes and access control lists.
func (c attributeCopier) copyExtended(source int, t target, st *unix.Stat_t) error {
	err := c.source.check(callAttributes, "")
	if err != nil {
		return &SourceError{err}
	}
	listed, err := listAttributes(source)
	if isUnsupported(err) {
		c.methods.noAttributes.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", &SourceError{err})
	}
	for _, name := range attributeNames(listed, st) {
		no := c.methods.refusalFlag(name)
		if no == nil {
			continue
		}
		value, err := getAttribute(source, name)
		if errors.Is(err, unix.ENODATA) || isUnsupported(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, &SourceError{err})
		}
		if err := c.setAttribute(t, st, name, value, no); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// asked returns the names of the attributes that a file is asked for: those that were listed, and those of
// access control lists. By NFSv3 Linux lists what the server says that there is, and nothing if the
// server answers with an error (nfs3_list_one_acl). What it was told it remembers: that is no round trip.
func attributeNames(listed string, st *unix.Stat_t) []string {
	names := append(strings.Split(listed, "\x00"), posixACL+"access")
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		names = append(names, defaultACL)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// give sets an extended attribute, unless it is a list that the target has already.
func (c attributeCopier) setAttribute(t target, st *unix.Stat_t, name, value string, no *atomic.Bool) error {
	if name == nfs4ACL {
		if plain, err := c.isPlainACL(t, st, value); err != nil || plain {
			return err
		}
	}
	c.foundAttributes.Store(true)
	if !no.Load() {
		err := c.methods.calls.setxattr(t.path, name, value)
		switch {
		case isUnsupported(err):
			no.Store(true)
		case isDeclined(err):
		case err != nil:
			return err
		case !needsCheck(name, st):
			return nil
		default:
			now, err := getAttributeAt(t.path, name)
			if err == nil && now == value {
				return nil
			}
			if err != nil && !errors.Is(err, unix.ENODATA) && !isUnsupported(err) {
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
func needsCheck(name string, st *unix.Stat_t) bool {
	return strings.HasPrefix(name, posixACL) || name == nfs4ACL && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// declined reports whether an error of setting an attribute says that the target does not take this one. It
// does so with EIO, too: NFS-Ganesha 4.3 has that for POSIX lists (NFSv3). A disk that fails, or a server
// that is gone, lets us change nothing else, and the file's times are set after this.
func isDeclined(err error) bool {
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
func (m *Methods) removeDefaultACL(fd int) error {
	path := fdPath(fd)
	if _, err := getAttributeAt(path, defaultACL); err != nil {
		if isDeclined(err) || isUnsupported(err) {
			return nil
		}
		return err
	}
	err := m.calls.removexattr(path, defaultACL)
	if errors.Is(err, unix.ENODATA) || isUnsupported(err) {
		return nil
	}
	return err
}

// plainACL reports whether an access control list says no more than the mode: it is that
// which the server gives a new file of the same mode. That is asked for once for each mode.
func (c attributeCopier) isPlainACL(t target, st *unix.Stat_t, value string) (bool, error) {
	key := st.Mode
	known, ok := c.methods.plainACLs.Load(key)
	if !ok {
		fresh, err := getAttributeAt(t.path, nfs4ACL)
		if isDeclined(err) || isUnsupported(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		known, _ = c.methods.plainACLs.LoadOrStore(key, fresh)
	}
	return known.(string) == value, nil
}

func isUnsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS)
}

// byDescriptor is a path to what a descriptor is open on, for calls that take no descriptor, or
// none that was opened with O_PATH.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// list returns the names of a file's extended attributes, each ended by a zero byte.
func listAttributes(fd int) (string, error) {
	names, err := readSized(func(b []byte) (int, error) { return unix.Flistxattr(fd, b) })
	if errors.Is(err, unix.EBADF) { // O_PATH
		return readSized(func(b []byte) (int, error) { return unix.Listxattr(fdPath(fd), b) })
	}
	return names, err
}

func getAttribute(fd int, name string) (string, error) {
	value, err := readSized(func(b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
	if errors.Is(err, unix.EBADF) {
		return getAttributeAt(fdPath(fd), name)
	}
	return value, err
}

func getAttributeAt(path, name string) (string, error) {
	return readSized(func(b []byte) (int, error) { return unix.Getxattr(path, name, b) })
}

// sized calls a function that fills a buffer with a larger one, as long as it says that is too small.
func readSized(fill func([]byte) (int, error)) (string, error) {
	for size := 1 << 10; ; size *= 8 {
		b := make([]byte, size)
		n, err := fill(b)
		if errors.Is(err, unix.ERANGE) && size < 1<<20 || errors.Is(err, unix.EINTR) {
			continue
		}
		return string(b[:max(n, 0)]), err
	}
}
