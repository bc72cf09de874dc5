// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// file copies the regular file name in d. again: it is something else, or gone.
func (c *Copy) file(ctx context.Context, d *directory, name string) (again bool) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	source, err := beneath.Openat(int(d.source.Fd()), name, flags|c.Methods.wantNone)
	if errors.Is(err, unix.EINVAL) { // a FIFO by now, which takes no O_DIRECT: the look below tells
		source, err = beneath.Openat(int(d.source.Fd()), name, flags)
	}
	if changed(err) {
		return true
	}
	if err != nil {
		c.fail(d, name, "open", err)
		return false
	}
	defer unix.Close(source)
	var st unix.Stat_t
	if err = unix.Fstat(source, &st); gone(err) || err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return true
	}
	if err != nil {
		c.fail(d, name, "look at", err)
		return false
	}
	if st.Nlink > 1 {
		f, first := c.firstName(d, name, &st, born(source, ""))
		if !first {
			return false
		}
		defer f.close()
		f.made = c.oneFile(ctx, d, name, source, &st)
		return false
	}
	c.oneFile(ctx, d, name, source, &st)
	return false
}

// oneFile copies an open file, and counts it.
func (c *Copy) oneFile(ctx context.Context, d *directory, name string, source int, st *unix.Stat_t) (made bool) {
	began := time.Now()
	moving, err := c.copyFile(ctx, d, name, source, st)
	if time.Since(began)-moving >= patience {
		c.away.Store(true)
	}
	switch {
	case err == nil:
		c.Files.Add(1)
		c.Bytes.Add(min(st.Size, st.Blocks*512))
		return true
	case errors.Is(err, errTwice):
	case gone(err) && unix.Unlinkat(d.target, name, 0) == nil:
		// Removed while it was read: half of it is none.
		c.Vanished.Add(1)
	default:
		c.fail(d, name, "copy", err)
	}
	return false
}

// patience is how long a server takes at most for one file without its data. Is it longer, it
// was away, and a knfsd that was started again meanwhile may not have the times of the file
// that it was asked to change at that moment: seen, not understood.
const patience = 2500 * time.Millisecond

// errTwice: a directory that was changed while it was read has told of a name twice.
var errTwice = errors.New("the copy is there already")

// copyFile makes the copy of an open file. Its mode goes with its creation, where that can
// be, and its times come last: everything else changes them.
func (c *Copy) copyFile(ctx context.Context, d *directory, name string, source int, st *unix.Stat_t) (moving time.Duration, err error) {
	c.step("make a file")
	made, fresh, err := c.create(d, name, st)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := unix.Close(made); err == nil { // where NFS says that the disk is full
			err = e
		}
	}()
	if st.Size > 0 {
		c.step("copy a file's data")
		began := time.Now()
		err = c.data(ctx, source, made, st)
		if !c.Methods.clone.usable() || st.Size >= large { // else it takes no time
			moving = time.Since(began)
		}
		if err != nil {
			return moving, err
		}
	}
	t := target{fd: made, path: byDescriptor(made)}
	if err = c.attributes(source, t, st, fresh); err != nil {
		return moving, err
	}
	return moving, setTimes(t, st)
}

// create makes a file, with the mode of its source. Not by O_EXCL, for which NFS sets times to
// keep its verifier there, and then sets them right: nobody else is here. What may be there is
// our own, of another kind even, so that nothing is waited for (O_NONBLOCK).
func (c *Copy) create(d *directory, name string, st *unix.Stat_t) (fd int, fresh *unix.Stat_t, err error) {
	flags := unix.O_CREAT | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | c.Methods.wantNone
	err = retry(func() error {
		fd, err = unix.Openat(d.target, name, flags, st.Mode&0o777)
		return err
	})
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return -1, nil, errTwice
	}
	if err != nil {
		return -1, nil, err
	}
	fresh = &unix.Stat_t{}
	err = unix.Fstat(fd, fresh)
	if err == nil && (fresh.Mode&unix.S_IFMT != unix.S_IFREG || fresh.Size > 0 || fresh.Nlink > 1) {
		err = errTwice
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, fresh, err
}
