// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// file copies the regular file name in d. again: it is something else, or gone.
func (c *Copy) file(ctx context.Context, d *directory, name string) (again bool) {
	source, err := openBeneath(int(d.source.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|uint64(c.Methods.wantNone))
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
		done, first := c.links.enter(&st, d.path(name))
		if !first {
			return c.link(d, name, done)
		}
		defer done.close()
	}
	err = c.copyFile(ctx, d, name, source, &st)
	if gone(err) && unix.Unlinkat(d.target, name, 0) == nil {
		// Removed while it was read: half of it is none.
		c.Vanished.Add(1)
		return false
	}
	if err != nil {
		c.fail(d, name, "copy", err)
		return false
	}
	c.Files.Add(1)
	c.Bytes.Add(min(st.Size, st.Blocks*512))
	return false
}

// copyFile makes the copy of an open file. Its mode goes with its creation, where that can
// be, and its times come last: everything else changes them.
func (c *Copy) copyFile(ctx context.Context, d *directory, name string, source int, st *unix.Stat_t) (err error) {
	c.step("make a file")
	// Not O_EXCL, for which NFS sets times to keep its verifier there, and then sets them
	// right: nobody else is here.
	made, err := unix.Openat(d.target, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|c.Methods.wantNone, st.Mode&0o777)
	if err != nil {
		return err
	}
	defer func() {
		if e := unix.Close(made); err == nil { // where NFS says that the disk is full
			err = e
		}
	}()
	var fresh unix.Stat_t
	if err = unix.Fstat(made, &fresh); err != nil {
		return err
	}
	if st.Size > 0 {
		c.step("copy a file's data")
		if err = c.data(ctx, source, made, st); err != nil {
			return err
		}
	}
	t := target{fd: made, path: fmt.Sprintf("/proc/self/fd/%d", made)}
	if err = c.attributes(source, t, st, &fresh); err != nil {
		return err
	}
	return setTimes(t, st)
}

// link makes a further name of a file that was copied, or is just being copied, under another.
func (c *Copy) link(d *directory, name string, done *linked) (again bool) {
	<-done.ready
	c.step("make a hard link")
	err := unix.Linkat(c.root, done.path, d.target, name, 0)
	if errors.Is(err, unix.ENAMETOOLONG) {
		err = linkFar(c.root, done.path, d.target, name)
	}
	switch {
	case err == nil:
		c.Links.Add(1)
	case c.failed() != nil, gone(err): // the first name was never made: it was skipped, or it failed
		c.Vanished.Add(1)
	default:
		c.fail(d, name, "link", err)
	}
	return false
}

// linkFar is linkat(2) for a path that is longer than one call takes: it goes there by stages.
func linkFar(root int, path string, dir int, name string) error {
	at, err := unix.Openat(root, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == nil && len(path) > stage {
		cut := strings.LastIndexByte(path[:stage], '/')
		var next int
		next, err = unix.Openat(at, path[:cut], unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		_ = unix.Close(at)
		at, path = next, path[cut+1:]
	}
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.Linkat(at, path, dir, name, 0)
}

// stage is a path that any call takes (PATH_MAX, 4096), and longer than any one name.
const stage = 2048

// data copies what is in a file by the best way that is there.
func (c *Copy) data(ctx context.Context, source, made int, st *unix.Stat_t) error {
	m := c.Methods
	if !m.noClone.Load() {
		err := retry(func() error { return unix.IoctlFileClone(made, source) })
		if err == nil {
			c.Cloned.Files.Add(1)
			c.Cloned.Bytes.Add(st.Size)
			return nil
		}
		if !refused(err) {
			return err
		}
		if !errors.Is(err, unix.EINVAL) { // that may be this file's alone
			m.noClone.Store(true)
		}
	}
	if !m.noCopy.Load() {
		err := c.copyRange(ctx, source, made, st)
		if err == nil {
			c.Copied.Files.Add(1)
			return nil
		}
		if !refused(err) {
			return err
		}
		m.noCopy.Store(true)
	}
	if err := c.readAndWrite(ctx, source, made, st); err != nil {
		return err
	}
	c.Written.Files.Add(1)
	return nil
}

// refused reports whether an error says that a method cannot be had, and nothing else is wrong.
func refused(err error) bool {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EINVAL, unix.EBADF} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func retry(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// copyStep bounds one copy_file_range(2), so that a copy can be ended.
const copyStep = 64 << 20

func (c *Copy) copyRange(ctx context.Context, source, made int, st *unix.Stat_t) error {
	err := segments(source, st, func(from, to int64) error {
		for from < to {
			if err := ctx.Err(); err != nil {
				return err
			}
			in, out := from, from
			var n int
			err := retry(func() (err error) {
				n, err = unix.CopyFileRange(source, &in, made, &out, int(min(to-from, copyStep)), 0)
				return err
			})
			if err != nil {
				return err
			}
			if n == 0 { // the file has become shorter
				return nil
			}
			from += int64(n)
			c.Copied.Bytes.Add(int64(n))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return finishData(made, st)
}

// finishData gives a copied file its size, which a hole at the end does not, and has the server
// confirm that all of it is on its disk.
func finishData(made int, st *unix.Stat_t) error {
	if st.Blocks*512 < st.Size {
		if err := retry(func() error { return unix.Ftruncate(made, st.Size) }); err != nil {
			return err
		}
	}
	return retry(func() error { return unix.Fsync(made) })
}

// segments calls each for every part of the file that holds data, as far as that is known. A
// file system that does not say takes all for data.
func segments(source int, st *unix.Stat_t, each func(from, to int64) error) error {
	if st.Blocks*512 >= st.Size { // no hole
		return each(0, st.Size)
	}
	for from := int64(0); from < st.Size; {
		data, err := unix.Seek(source, from, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // nothing but a hole is left
		}
		hole := st.Size
		if err == nil {
			hole, err = unix.Seek(source, data, unix.SEEK_HOLE)
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
			data, hole, err = from, st.Size, nil
		}
		if err != nil {
			return err
		}
		if err := each(data, min(hole, st.Size)); err != nil {
			return err
		}
		from = hole
	}
	return nil
}

// block is what is looked at for zeros, and buffer what is read at once.
const (
	block  = 4096
	buffer = 1 << 20
)

func (c *Copy) readAndWrite(ctx context.Context, source, made int, st *unix.Stat_t) error {
	if c.Methods.wantNone != 0 { // that was for the open; reading ahead, and writing behind, is quicker
		for _, fd := range []int{source, made} {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err != nil {
				return err
			}
		}
	}
	b := c.Methods.buffer()
	defer c.Methods.release(b)
	sparse := st.Blocks*512 < st.Size
	err := segments(source, st, func(from, to int64) error {
		for from < to {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := 0
			err := retry(func() (err error) {
				n, err = unix.Pread(source, (*b)[:min(to-from, buffer)], from)
				return err
			})
			if err != nil {
				return err
			}
			if n == 0 {
				return nil
			}
			w, err := write(made, (*b)[:n], from, sparse)
			c.Written.Bytes.Add(w)
			if err != nil {
				return err
			}
			from += int64(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return finishData(made, st)
}

// write writes b at an offset; of a sparse file, without the blocks that hold nothing.
func write(made int, b []byte, at int64, sparse bool) (written int64, err error) {
	for len(b) > 0 {
		n := len(b)
		if sparse {
			skip := 0
			for skip < len(b) && zero(b[skip:min(skip+block, len(b))]) {
				skip = min(skip+block, len(b))
			}
			b, at = b[skip:], at+int64(skip)
			for n = 0; n < len(b) && !zero(b[n:min(n+block, len(b))]); {
				n = min(n+block, len(b))
			}
		}
		for n > 0 {
			w := 0
			err := retry(func() (err error) {
				w, err = unix.Pwrite(made, b[:n], at)
				return err
			})
			if err != nil {
				return written, err
			}
			b, n, at, written = b[w:], n-w, at+int64(w), written+int64(w)
		}
	}
	return written, nil
}

func zero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
