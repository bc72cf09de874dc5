// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// MethodCounts counts by how data was copied: by shared blocks, by the server (or within the kernel),
// and through this process.
type MethodCounts struct{ Cloned, Copied, Written Counter }

// Counter counts regular files and the bytes of their data.
type Counter struct{ Files, Bytes atomic.Int64 }

// dataCopier copies what is in files.
type dataCopier struct {
	methods *Methods
	counts  *MethodCounts
}

// copy copies what is in a file by the best way that is there.
func (c dataCopier) copy(ctx context.Context, source, made int, st *unix.Stat_t) error {
	m := c.methods
	if m.clone.usable() {
		if err := m.clone.record(c.clone(source, made, st)); !isRefused(err) {
			return err
		}
	}
	if m.copy.usable() {
		moved, err := c.serverCopy(ctx, source, made, st)
		if moved > 0 || err != nil { // of a file without data it is not known who would have copied it
			err = m.copy.record(err)
		}
		if !isRefused(err) {
			return err
		}
	}
	if err := c.readAndWrite(ctx, source, made, st); err != nil {
		return err
	}
	c.counts.Written.Files.Add(1)
	return nil
}

// clone has the copy share the blocks of the source.
func (c dataCopier) clone(source, made int, st *unix.Stat_t) error {
	if err := retry(func() error { return unix.IoctlFileClone(made, source) }); err != nil {
		return err
	}
	c.counts.Cloned.Files.Add(1)
	c.counts.Cloned.Bytes.Add(st.Size)
	return nil
}

func retry(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// serverCopy copies a file by copy_file_range(2), and returns how much data that was.
func (c dataCopier) serverCopy(ctx context.Context, source, made int, st *unix.Stat_t) (moved int64, err error) {
	length := int64(0) // up to which something was written
	end, err := segments(ctx, source, st, func(from, to int64) (int, error) {
		n, err := c.copyRange(source, made, from, to)
		if n > 0 {
			length = max(length, from+int64(n))
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			// So it ends for a file that has become shorter, but on some file systems for any.
			if size, err := unix.Seek(source, 0, unix.SEEK_END); err != nil || size > from {
				return 0, unix.EINVAL
			}
		}
		moved += int64(n)
		c.counts.Copied.Bytes.Add(int64(n))
		return n, nil
	})
	if isRefused(err) && length > 0 { // what is written instead may have holes where there was data when this was copied
		c.counts.Copied.Bytes.Add(-moved)
		if e := retry(func() error { return unix.Ftruncate(made, 0) }); e != nil {
			return moved, e
		}
	}
	if err != nil {
		return moved, err
	}
	if err := finishFile(made, length, end); err != nil {
		return moved, err
	}
	c.counts.Copied.Files.Add(1)
	return moved, nil
}

const (
	// copyStep bounds one copy_file_range(2), so that a copy can be ended. A smaller one costs: the
	// client may ask only every three seconds whether the server has done a large one.
	maxCopyRange = 1 << 30
	// firstStep bounds those by which it is found out who copies. If it is the kernel, it does so in small
	// pieces, each of which waits for the server, as the files are open by O_DIRECT: with CephFS behind
	// NFS-Ganesha 4.3 it took more than 45 s for 1.6 MiB.
	firstCopyRange = 64 << 10
)

// copyRange is copy_file_range(2), once. A server of NFS 4.2 need not know how to copy. The kernel then
// reads and writes itself, and does not tell; but the pages that it fills are put down to the thread
// (proc_pid_io(5)), while a server's work is not. That is called what it is, EOPNOTSUPP, and left to
// readAndWrite, which leaves holes.
func (c dataCopier) copyRange(source, made int, from, to int64) (n int, err error) {
	do := func(step int64) (err error) {
		in, out := from, from
		n, err = unix.CopyFileRange(source, &in, made, &out, int(min(to-from, step)), 0)
		return err
	}
	if !c.methods.targetIsNFS() || c.methods.copy.works.Load() {
		err = retry(func() error { return do(maxCopyRange) })
		return n, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := bytesWrittenByThread()
	err = retry(func() error { return do(firstCopyRange) })
	switch {
	case err != nil:
	case bytesWrittenByThread() > before:
		err = unix.EOPNOTSUPP
	case n > 0:
		c.methods.copy.works.Store(true)
	}
	return n, err // n also of what is to be called refused
}

// finishData gives a copied file that was written up to length its size, which a hole at the end does not,
// and has the server confirm that all of it is on its disk.
func finishFile(made int, length, size int64) error {
	if length != size {
		if err := retry(func() error { return unix.Ftruncate(made, size) }); err != nil {
			return err
		}
	}
	return retry(func() error { return unix.Fsync(made) })
}

// holes reports whether a file may have holes. What takes all of its size may, too: XFS adds
// room for more to a file that is being written. That is worth a question for a large one.
func mayHaveHoles(st *unix.Stat_t) bool { return st.Blocks*512 < st.Size || st.Size >= largeFile }

const largeFile = 4 << 20

// segments calls move for every part of the file that holds data, as far as that is known,
// until it has moved all of that. A file system that does not say takes all for data. end is
// what the size has become: less than it was for a file that was cut meanwhile.
func segments(ctx context.Context, source int, st *unix.Stat_t, move func(from, to int64) (int, error)) (end int64, err error) {
	for at := int64(0); at < st.Size; {
		data, hole, err := nextData(source, at, st)
		if err == io.EOF { // nothing but a hole is left, or not even that
			size, err := unix.Seek(source, 0, unix.SEEK_END)
			return max(at, min(size, st.Size)), err
		}
		if err != nil {
			return 0, err
		}
		for at = data; at < hole; {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			n, err := move(at, hole)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				return at, nil
			}
			at += int64(n)
		}
	}
	return st.Size, nil
}

// nextData returns where the next data of a file begins and ends. io.EOF: there is none.
func nextData(source int, at int64, st *unix.Stat_t) (data, hole int64, err error) {
	if !mayHaveHoles(st) {
		return at, st.Size, nil
	}
	data, err = unix.Seek(source, at, unix.SEEK_DATA)
	if err != nil {
		return seekError(at, st, err)
	}
	if data >= st.Size {
		return 0, 0, io.EOF
	}
	hole, err = unix.Seek(source, data, unix.SEEK_HOLE)
	if err != nil {
		return seekError(at, st, err)
	}
	return data, min(hole, st.Size), nil
}

// noSeek is what nextData returns after an error of lseek(2).
func seekError(at int64, st *unix.Stat_t, err error) (data, hole int64, _ error) {
	switch {
	case errors.Is(err, unix.ENXIO): // no data from there on; or the file was cut just now
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // it does not tell
		return at, st.Size, nil
	}
	return 0, 0, err
}

const (
	blockSize  = 4096     // what is looked at for zeros
	bufferSize = 1 << 20  // what is read at once
	flushSize  = 64 << 20 // what is written before the server confirms it: all that close(2) may have to wait for
)

// readAndWrite copies a file through this process. Blocks of zeros become holes, whatever the source says
// of itself: by NFS before 4.2 there is no question for holes, and some servers report that a file takes
// all of its size (CephFS).
func (c dataCopier) readAndWrite(ctx context.Context, source, made int, st *unix.Stat_t) error {
	if c.methods.targetIsNFS() { // O_DIRECT: that was for the open; reading ahead, and writing behind, is quicker
		for _, fd := range []int{source, made} {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, 0); err != nil {
				return err
			}
		}
	}
	b := c.methods.getBuffer()
	defer c.methods.putBuffer(b)
	pending, length := int64(0), int64(0)
	end, err := segments(ctx, source, st, func(from, to int64) (int, error) {
		n := 0
		err := retry(func() (err error) {
			n, err = unix.Pread(source, (*b)[:min(to-from, bufferSize)], from)
			return err
		})
		if err != nil {
			return 0, err
		}
		w, last, err := writeNonZero(made, (*b)[:n], from)
		c.counts.Written.Bytes.Add(w)
		if err != nil {
			return n, err
		}
		length = max(length, last)
		if pending += w; pending < flushSize {
			return n, nil
		}
		pending = 0
		return n, retry(func() error { return unix.Fdatasync(made) })
	})
	if err != nil {
		return err
	}
	return finishFile(made, length, end)
}

// write writes b at an offset, without the blocks that hold nothing. It returns how many bytes that were,
// and where the last of them ends; 0: there was none.
func writeNonZero(made int, b []byte, at int64) (written, last int64, err error) {
	for len(b) > 0 {
		skip := 0
		for skip < len(b) && isZero(b[skip:min(skip+blockSize, len(b))]) {
			skip = min(skip+blockSize, len(b))
		}
		b, at = b[skip:], at+int64(skip)
		n := 0
		for n < len(b) && !isZero(b[n:min(n+blockSize, len(b))]) {
			n = min(n+blockSize, len(b))
		}
		for n > 0 {
			w := 0
			err := retry(func() (err error) {
				w, err = unix.Pwrite(made, b[:n], at)
				return err
			})
			if err != nil {
				return written, last, err
			}
			b, n, at, written = b[w:], n-w, at+int64(w), written+int64(w)
			last = at
		}
	}
	return written, last, nil
}

// zero reports whether all bytes are 0: the first is, and each is like the one before.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }
