// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// other copies a symbolic link, a FIFO or a device. again: it is something else, or gone.
func (c *Copy) other(d *directory, name string) (again bool) {
	var st unix.Stat_t
	err := unix.Fstatat(int(d.source.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if gone(err) {
		return true
	}
	if err != nil {
		c.fail(d, name, "look at", err)
		return false
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFLNK && kind != unix.S_IFIFO && kind != unix.S_IFCHR && kind != unix.S_IFBLK {
		return true
	}
	if st.Nlink > 1 {
		f, first := c.firstName(d, name, &st, born(int(d.source.Fd()), name))
		if !first {
			return false
		}
		defer f.close()
		again, f.made = c.makeOther(d, name, &st)
		return again
	}
	again, _ = c.makeOther(d, name, &st)
	return again
}

// makeOther makes what other copies.
func (c *Copy) makeOther(d *directory, name string, st *unix.Stat_t) (again, made bool) {
	what, count := "make a symbolic link", &c.Symlinks
	var text string
	var err error
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if link {
		text, err = readLink(int(d.source.Fd()), name)
		if gone(err) || errors.Is(err, unix.EINVAL) { // no link any more (readlink(2))
			return true, false
		}
		if err != nil {
			c.fail(d, name, "read the link", err)
			return false, false
		}
		c.step(what)
		err = unix.Symlinkat(text, d.target, name)
	} else {
		what, count = "make a special file", &c.Special
		c.step(what)
		err = unix.Mknodat(d.target, name, st.Mode&^0o7000, int(st.Rdev))
		for _, no := range []unix.Errno{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL} {
			if err == no {
				c.Skipped.Add(1)
				return false, false
			}
		}
	}
	if errors.Is(err, unix.EEXIST) {
		return false, false
	}
	if err == nil {
		err = c.finishOther(d, name, st)
	}
	if err != nil {
		c.fail(d, name, what, err)
		return false, false
	}
	count.Add(1)
	return false, true
}

// finishOther gives what makeOther made the attributes of its source.
func (c *Copy) finishOther(d *directory, name string, st *unix.Stat_t) error {
	var made unix.Stat_t
	if err := unix.Fstatat(d.target, name, &made, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	t := target{fd: d.target, name: name, link: st.Mode&unix.S_IFMT == unix.S_IFLNK}
	if err := setOwnerAndMode(t, st, &made); err != nil {
		return err
	}
	if !t.link && c.asks() { // a symbolic link has none (xattr(7), acl(5))
		if err := c.otherExtended(d, name, st); err != nil {
			return err
		}
	}
	return setTimes(t, st)
}

// otherExtended copies a special file's access control lists. It is not opened for that.
func (c *Copy) otherExtended(d *directory, name string, st *unix.Stat_t) error {
	source, err := beneath.Openat(int(d.source.Fd()), name, unix.O_PATH)
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
	made, err := beneath.Openat(d.target, name, unix.O_PATH)
	if err != nil {
		return err
	}
	defer unix.Close(made)
	return c.extended(source, target{fd: made, path: byDescriptor(made)}, st)
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
