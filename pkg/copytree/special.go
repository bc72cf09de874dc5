// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"

	"golang.org/x/sys/unix"
)

// other copies a symbolic link, a FIFO or a device. again: it is something else, or gone.
func (e *entry) other() (again bool) {
	var st unix.Stat_t
	err := unix.Fstatat(int(e.d.source.Fd()), e.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if gone(err) {
		return true
	}
	if err != nil {
		e.fail("look at", err)
		return false
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFLNK && kind != unix.S_IFIFO && kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return true
	}
	if st.Nlink > 1 {
		first := e.firstName(&st, born(int(e.d.source.Fd()), e.name))
		if first == nil {
			return false
		}
		again, made := e.makeOther(&st)
		first.end(e.d, e.name, made)
		return again
	}
	again, _ = e.makeOther(&st)
	return again
}

// makeOther makes what other copies.
func (e *entry) makeOther(st *unix.Stat_t) (again, made bool) {
	what, count := "make a symbolic link", &e.c.Symlinks
	var text string
	var err error
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if link {
		text, err = readLink(int(e.d.source.Fd()), e.name)
		if gone(err) || errors.Is(err, unix.EINVAL) { // no link any more (readlink(2))
			return true, false
		}
		if err != nil {
			e.fail("read the link", err)
			return false, false
		}
		e.c.step(what)
		err = unix.Symlinkat(text, e.d.target, e.name)
	} else {
		what, count = "make a special file", &e.c.Special
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
	if err == nil {
		err = e.finishOther(st)
	}
	if err != nil {
		e.fail(what, err)
		return false, false
	}
	count.Add(1)
	return false, true
}

// finishOther gives what makeOther made the attributes of its source.
func (e *entry) finishOther(st *unix.Stat_t) error {
	var made unix.Stat_t
	if err := unix.Fstatat(e.d.target, e.name, &made, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t := target{fd: e.d.target, name: e.name, link: st.Mode&unix.S_IFMT == unix.S_IFLNK}
	if err := setOwnerAndMode(t, st, &made); err != nil {
		return err
	}
	if !t.link && e.c.attributes().asks() { // a symbolic link has none (xattr(7), acl(5))
		if err := e.otherExtended(st); err != nil {
			return err
		}
	}
	return setTimes(t, st)
}

// otherExtended copies a special file's access control lists. It is not opened for that.
func (e *entry) otherExtended(st *unix.Stat_t) error {
	source, err := openBeneath(int(e.d.source.Fd()), e.name, unix.O_PATH)
	if changed(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(source)
	var now unix.Stat_t
	if err := unix.Fstat(source, &now); err != nil || now.Ino != st.Ino || now.Mode&unix.S_IFMT != st.Mode&unix.S_IFMT {
		return nil // it was replaced
	}
	made, err := openBeneath(e.d.target, e.name, unix.O_PATH)
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
