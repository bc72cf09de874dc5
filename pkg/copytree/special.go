// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// copySpecial copies a symbolic link, a FIFO or a device. again: it was replaced or removed.
func (e *entry) copySpecial() (again bool) {
	var st unix.Stat_t
	if err := e.copy.source.lstat(e.dir, e.name, &st); err != nil {
		return e.canRetry("stat", err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFLNK && kind != unix.S_IFIFO && kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return e.canRetry("stat", errKindChanged)
	}
	if st.Nlink <= 1 {
		_, again = e.makeSpecial(&st)
		return again
	}
	first := e.linkOrStart(&st, birthHash(e.dir.fd(), e.name))
	if first == nil {
		return false
	}
	made, again := e.makeSpecial(&st)
	first.finish(e.dir, e.name, made)
	return again
}

// makeSpecial makes the copy for copySpecial.
func (e *entry) makeSpecial(st *unix.Stat_t) (made, again bool) {
	what, count := "make a special file", &e.copy.Special
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		what, count = "make a symbolic link", &e.copy.Symlinks
		var text string
		text, err = readLink(e.dir.fd(), e.name)
		if errors.Is(err, unix.EINVAL) { // not a link any more (readlink(2))
			err = errKindChanged
		}
		if err != nil {
			return false, e.canRetry("read the link", err)
		}
		e.copy.announce(what)
		err = unix.Symlinkat(text, e.dir.target, e.name)
	} else {
		e.copy.announce(what)
		err = unix.Mknodat(e.dir.target, e.name, st.Mode&^0o7000, int(st.Rdev))
		for _, errno := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL} {
			if err == errno {
				e.copy.Skipped.Add(1)
				return false, false
			}
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return false, false
	}
	if err != nil {
		e.fail(what, err)
		return false, false
	}
	err = e.finishSpecial(st)
	if isGone(err) && unix.Unlinkat(e.dir.target, e.name, 0) == nil {
		return false, e.canRetry("copy", err)
	}
	if err != nil {
		e.fail(what, err)
		return false, false
	}
	count.Add(1)
	return true, false
}

// finishSpecial gives the copy of a special file the attributes of its source.
func (e *entry) finishSpecial(st *unix.Stat_t) error {
	var created unix.Stat_t
	if err := unix.Fstatat(e.dir.target, e.name, &created, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t := target{fd: e.dir.target, name: e.name, isSymlink: st.Mode&unix.S_IFMT == unix.S_IFLNK}
	if err := e.copy.attributes().copyOwnerAndMode(t, st, &created); err != nil {
		return err
	}
	if !t.isSymlink && e.copy.attributes().mayHaveAttributes() { // a symbolic link has none (xattr(7), acl(5))
		if err := e.copySpecialACL(st); err != nil {
			return err
		}
	}
	return e.copy.attributes().copyTimes(t, st)
}

// copySpecialACL copies the access control lists of a special file, without opening it for reading.
func (e *entry) copySpecialACL(st *unix.Stat_t) error {
	source, err := e.copy.source.open(e.dir, e.name, unix.O_PATH)
	if isChanged(err) {
		return fmt.Errorf("%w: %w", errKindChanged, err)
	}
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var current unix.Stat_t
	if err := e.copy.source.stat(source, e.name, &current); err != nil {
		return err
	}
	if current.Ino != st.Ino || current.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return errKindChanged
	}
	fd, err := beneath.Openat(e.dir.target, e.name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return e.copy.attributes().copyExtended(source, target{fd: fd, path: fdPath(fd)}, st)
}

func readLink(dir int, name string) (string, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := unix.Readlinkat(dir, name, b)
		if err != nil || n < size {
			return string(b[:max(n, 0)]), err
		}
	}
}
