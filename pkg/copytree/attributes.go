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

// target is the file or directory whose attributes are set: an open one, which also has a path
// of its own, or a name in an open directory.
type target struct {
	fd        int
	path      string // "/proc/self/fd/N" of fd; "" if the target is name in fd
	name      string
	isSymlink bool // name is a symbolic link
}

// attributeCopier copies the metadata of a file.
type attributeCopier struct {
	methods         *Methods
	owners          *owners
	sourceIsPlain   bool
	source          source
	foundAttributes *atomic.Bool  // see IsPlain
	lost            *atomic.Int64 // see Copy.Lost
}

// copy gives a copy the owner, mode, extended attributes and access control lists of its
// source. st are the attributes of the source, created those of the new copy.
func (c attributeCopier) copy(source int, t target, st, created *unix.Stat_t) error {
	if err := c.copyOwnerAndMode(t, st, created); err != nil {
		return err
	}
	if !c.mayHaveAttributes() {
		return nil
	}
	return c.copyExtended(source, t, st)
}

// copyOwnerAndMode sets the owner and the mode if they differ.
func (c attributeCopier) copyOwnerAndMode(t target, st, created *unix.Stat_t) error {
	if err := c.owners.copyOwner(t, st, created); err != nil {
		return err
	}
	if t.isSymlink {
		return nil
	}
	if st.Mode&0o7777 == created.Mode&0o7777 {
		if st.Mode&0o7000 == 0 {
			return nil
		}
		mode, err := t.mode() // a change of the owner may clear the special bits
		if err != nil || mode&0o7777 == st.Mode&0o7777 {
			return err
		}
	}
	if t.path != "" {
		return unix.Fchmodat(unix.AT_FDCWD, t.path, st.Mode&0o7777, 0)
	}
	return unix.Fchmodat(t.fd, t.name, st.Mode&0o7777, 0)
}

// mode returns the current mode of the copy.
func (t target) mode() (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(t.fd, t.name, &st, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW)
	return st.Mode, err
}

const (
	// nfs4ACL is the attribute in which the NFSv4 client shows an access control list (nfs4_acl(5)).
	nfs4ACL = "system.nfs4_acl"
	// posixACL is the prefix of those attributes on local file systems and NFSv3 (acl(5)).
	posixACL   = "system.posix_acl_"
	defaultACL = posixACL + "default"
)

// mayHaveAttributes reports whether the source may have extended attributes.
func (c attributeCopier) mayHaveAttributes() bool {
	return !c.sourceIsPlain && !c.methods.noAttributes.Load()
}

// refusalFlag returns the flag that is set if the target does not accept the extended attribute
// name. It is nil for an attribute that is not copied.
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

// copyExtended copies extended attributes and access control lists.
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
		refused := c.methods.refusalFlag(name)
		if refused == nil {
			continue
		}
		value, err := getAttribute(source, name)
		if errors.Is(err, unix.ENODATA) || isUnsupported(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, &SourceError{err})
		}
		if err := c.setAttribute(t, st, name, value, refused); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// attributeNames returns the names of the attributes to read: the listed ones and those of access control
// lists. Over NFSv3 Linux lists the access control lists that the server reports, and none if the server
// answers with an error (nfs3_list_one_acl). It caches them, so reading them costs no round trip.
func attributeNames(listed string, st *unix.Stat_t) []string {
	names := append(strings.Split(listed, "\x00"), posixACL+"access")
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		names = append(names, defaultACL)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// setAttribute sets an extended attribute, unless it is an access control list that says no more than the mode.
func (c attributeCopier) setAttribute(t target, st *unix.Stat_t, name, value string, refused *atomic.Bool) error {
	if name == nfs4ACL {
		if plain, err := c.isPlainACL(t, st, value); err != nil || plain {
			return err
		}
	}
	c.foundAttributes.Store(true)
	if !refused.Load() {
		err := c.methods.calls.setxattr(t.path, name, value)
		switch {
		case isUnsupported(err):
			refused.Store(true)
		case isDeclined(err):
		case err != nil:
			return err
		case !needsCheck(name, st):
			return nil
		default:
			current, err := getAttributeAt(t.path, name)
			if err != nil && !errors.Is(err, unix.ENODATA) && !isUnsupported(err) {
				return err
			}
			if current == value {
				return nil
			}
		}
	}
	c.lost.Add(1)
	return nil
}

// needsCheck reports whether a server may report success for an attribute and store another one, or none.
// A Linux server keeps the part of a list that an NFSv4 list does not contain: the default list of a
// directory. NFS-Ganesha 4.3 accepts a POSIX default list and does not store it (NFSv3).
func needsCheck(name string, st *unix.Stat_t) bool {
	return strings.HasPrefix(name, posixACL) || name == nfs4ACL && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// isDeclined reports whether an error of setting an attribute means that the target does not accept this one.
// EIO means that, too: NFS-Ganesha 4.3 returns it for POSIX lists (NFSv3). After a failed disk or a lost
// server no other change succeeds either, and the times of the file are set after this.
func isDeclined(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.EINVAL, unix.E2BIG, unix.ERANGE, unix.ENODATA} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// removeDefaultACL removes the default access control list of the directory fd, so that new files do not
// inherit one: the files of the source do not have it. NFSv4 does not show it as a list of its own; there
// each list is compared with that of a new file: see isPlainACL. A list that does not exist is not removed,
// because NFS-Ganesha 4.3 answers that with EIO (NFSv3). If the list cannot be read, there are no lists; a
// failed disk causes an error as soon as something is created in the directory.
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

// isPlainACL reports whether an access control list says no more than the mode: it equals the one
// that the server gives a new file of the same mode. That one is read once for each mode.
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

// fdPath returns a path to the file of a descriptor, for calls that take no descriptor, or none that
// was opened with O_PATH.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// listAttributes returns the names of a file's extended attributes, each followed by a zero byte.
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

// readSized calls fill with a larger buffer for as long as it returns ERANGE: the buffer is too small.
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
