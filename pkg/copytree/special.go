// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// other copies a symbolic link, a FIFO or a device. again: it is something else, or gone.
func (e *entry) other() (again bool) {
	var st unix.Stat_t
	if err := e.c.source.look(e.d, e.name, &st); err != nil {
		return e.failed("look at", err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFLNK && kind != unix.S_IFIFO && kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return e.failed("look at", errKind)
	}
	if st.Nlink <= 1 {
		_, again = e.makeOther(&st)
		return again
	}
	first := e.firstName(&st, born(e.d.fd(), e.name))
	if first == nil {
		return false
	}
	made, again := e.makeOther(&st)
	first.end(e.d, e.name, made)
	return again
}

// makeOther makes what other copies.
func (e *entry) makeOther(st *unix.Stat_t) (made, again bool) {
	what, count := "make a special file", &e.c.Special
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		what, count = "make a symbolic link", &e.c.Symlinks
		var text string
		text, err = readLink(e.d.fd(), e.name)
		if errors.Is(err, unix.EINVAL) { // no link any more (readlink(2))
			err = errKind
		}
		if err != nil {
			return false, e.failed("read the link", err)
		}
		e.c.step(what)
		err = unix.Symlinkat(text, e.d.target, e.name)
	} else {
		e.c.step(what)
		err = unix.Mknodat(e.d.target, e.name, st.Mode&^0o7000, int(st.Rdev))
		for _, no := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL} {
			if err == no {
				e.c.Skipped.Add(1)
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
	err = e.finishOther(st)
	if gone(err) && unix.Unlinkat(e.d.target, e.name, 0) == nil {
		return false, e.failed("copy", err)
	}
	if err != nil {
		e.fail(what, err)
		return false, false
	}
	count.Add(1)
	return true, false
}

// finishOther gives what makeOther made the attributes of its source.
func (e *entry) finishOther(st *unix.Stat_t) error {
	var made unix.Stat_t
	if err := unix.Fstatat(e.d.target, e.name, &made, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t := target{fd: e.d.target, name: e.name, link: st.Mode&unix.S_IFMT == unix.S_IFLNK}
	if err := e.c.attributes().ownerAndMode(t, st, &made); err != nil {
		return err
	}
	if !t.link && e.c.attributes().asks() { // a symbolic link has none (xattr(7), acl(5))
		if err := e.otherExtended(st); err != nil {
			return err
		}
	}
	return e.c.attributes().times(t, st)
}

// otherExtended copies a special file's access control lists. It is not opened for that.
func (e *entry) otherExtended(st *unix.Stat_t) error {
	source, err := e.c.source.open(e.d, e.name, unix.O_PATH)
	if changed(err) {
		return fmt.Errorf("%w: %w", errKind, err)
	}
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var now unix.Stat_t
	if err := e.c.source.stat(source, e.name, &now); err != nil {
		return err
	}
	if now.Ino != st.Ino || now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return errKind
	}
	made, err := beneath.Openat(e.d.target, e.name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return e.c.attributes().extended(source, target{fd: made, path: byDescriptor(made)}, st)
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
