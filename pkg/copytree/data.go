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

// MethodCounts counts the copied data for each method: by shared blocks, by the server (or within the
// kernel), and through this process.
type MethodCounts struct{ Cloned, Copied, Written Counter }

// Counter counts regular files and the bytes of their data.
type Counter struct{ Files, Bytes atomic.Int64 }

// dataCopier copies the data of files.
type dataCopier struct {
	methods *Methods
	counts  *MethodCounts
}

// copy copies the data of a file by the best method that is available.
func (c dataCopier) copy(ctx context.Context, source, target int, st *unix.Stat_t) error {
	m := c.methods
	if m.clone.usable() {
		if err := m.clone.record(c.clone(source, target, st)); !isRefused(err) {
			return err
		}
	}
	if m.copy.usable() {
		moved, err := c.serverCopy(ctx, source, target, st)
		if moved > 0 || err != nil { // for a file without data it is unknown who would have copied it
			err = m.copy.record(err)
		}
		if !isRefused(err) {
			return err
		}
	}
	if err := c.readAndWrite(ctx, source, target, st); err != nil {
		return err
	}
	c.counts.Written.Files.Add(1)
	return nil
}

// clone makes the copy share the blocks of the source.
func (c dataCopier) clone(source, target int, st *unix.Stat_t) error {
	if err := retry(func() error { return unix.IoctlFileClone(target, source) }); err != nil {
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

// serverCopy copies a file by copy_file_range(2), and returns the number of copied bytes.
func (c dataCopier) serverCopy(ctx context.Context, source, target int, st *unix.Stat_t) (moved int64, err error) {
	length := int64(0) // the end of the last write
	end, err := segments(ctx, source, st, func(from, to int64) (int, error) {
		n, err := c.copyRange(source, target, from, to)
		if n > 0 {
			length = max(length, from+int64(n))
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			// That is the end of a file that was truncated. Some file systems return 0 for any file.
			if size, err := unix.Seek(source, 0, unix.SEEK_END); err != nil || size > from {
				return 0, unix.EINVAL
			}
		}
		moved += int64(n)
		c.counts.Copied.Bytes.Add(int64(n))
		return n, nil
	})
	if isRefused(err) && length > 0 { // readAndWrite may leave holes where this has written data
		c.counts.Copied.Bytes.Add(-moved)
		if e := retry(func() error { return unix.Ftruncate(target, 0) }); e != nil {
			return moved, e
		}
	}
	if err != nil {
		return moved, err
	}
	if err := finishFile(target, length, end); err != nil {
		return moved, err
	}
	c.counts.Copied.Files.Add(1)
	return moved, nil
}

const (
	// maxCopyRange limits one copy_file_range(2), so that a copy can be cancelled. A smaller limit has a
	// cost: the client may poll only every three seconds whether the server has finished a large one.
	maxCopyRange = 1 << 30
	// firstCopyRange limits the calls that find out who copies. The kernel would copy in small pieces and
	// wait for the server after each, because the files are open with O_DIRECT: with CephFS behind
	// NFS-Ganesha 4.3, 1.6 MiB took more than 45 s.
	firstCopyRange = 64 << 10
)

// copyRange calls copy_file_range(2) once. COPY is optional for a server of NFS 4.2. Without it the kernel
// reads and writes itself, and does not report that. But it counts the pages that it fills for the thread
// (proc_pid_io(5)), which it does not do for the work of a server. copyRange then returns EOPNOTSUPP, so
// that readAndWrite copies the file and leaves holes.
func (c dataCopier) copyRange(source, target int, from, to int64) (n int, err error) {
	do := func(limit int64) (err error) {
		in, out := from, from
		n, err = unix.CopyFileRange(source, &in, target, &out, int(min(to-from, limit)), 0)
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
	return n, err // n also with EOPNOTSUPP: these bytes were written
}

// finishFile sets the size of a copied file whose last write ended at length, because a hole at the end is
// not written. Then it makes the server confirm that all data is on its disk.
func finishFile(target int, length, size int64) error {
	if length != size {
		if err := retry(func() error { return unix.Ftruncate(target, size) }); err != nil {
			return err
		}
	}
	return retry(func() error { return unix.Fsync(target) })
}

// mayHaveHoles reports whether a file may have holes. A file that occupies its whole size may have
// some, too: XFS preallocates space for a file that is being written. For a large file it is worth
// the request to the server.
func mayHaveHoles(st *unix.Stat_t) bool { return st.Blocks*512 < st.Size || st.Size >= largeFile }

const largeFile = 4 << 20

// segments calls move for every part of the file that holds data, until move has moved all of it. If
// the file system does not report holes, the whole file is data. end is the current size, which is
// smaller than st.Size if the file was truncated meanwhile.
func segments(ctx context.Context, source int, st *unix.Stat_t, move func(from, to int64) (int, error)) (end int64, err error) {
	for offset := int64(0); offset < st.Size; {
		data, hole, err := nextData(source, offset, st)
		if err == io.EOF { // nothing but a hole is left, or not even that
			size, err := unix.Seek(source, 0, unix.SEEK_END)
			return max(offset, min(size, st.Size)), err
		}
		if err != nil {
			return 0, err
		}
		for offset = data; offset < hole; {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			n, err := move(offset, hole)
			if err != nil {
				return 0, err
			}
			if n == 0 {
				return offset, nil
			}
			offset += int64(n)
		}
	}
	return st.Size, nil
}

// nextData returns the start and end of the next data of a file. io.EOF: there is none.
func nextData(source int, offset int64, st *unix.Stat_t) (data, hole int64, err error) {
	if !mayHaveHoles(st) {
		return offset, st.Size, nil
	}
	data, err = unix.Seek(source, offset, unix.SEEK_DATA)
	if err != nil {
		return seekError(offset, st, err)
	}
	if data >= st.Size {
		return 0, 0, io.EOF
	}
	hole, err = unix.Seek(source, data, unix.SEEK_HOLE)
	if err != nil {
		return seekError(offset, st, err)
	}
	return data, min(hole, st.Size), nil
}

// seekError returns the result of nextData after an error of lseek(2).
func seekError(offset int64, st *unix.Stat_t, err error) (data, hole int64, _ error) {
	switch {
	case errors.Is(err, unix.ENXIO): // no more data, or the file was truncated
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP): // holes are not reported
		return offset, st.Size, nil
	}
	return 0, 0, err
}

const (
	blockSize  = 4096     // the unit that is checked for zeros
	bufferSize = 1 << 20  // the size of one read
	flushSize  = 64 << 20 // written bytes before a sync: close(2) waits for no more than these
)

// readAndWrite copies a file through this process. Blocks of zeros become holes, whatever the source
// reports: NFS before 4.2 cannot report holes, and some servers report that a file occupies its whole
// size (CephFS).
func (c dataCopier) readAndWrite(ctx context.Context, source, target int, st *unix.Stat_t) error {
	if c.methods.targetIsNFS() { // O_DIRECT was only for the open; readahead and writeback are faster
		for _, fd := range []int{source, target} {
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
		w, last, err := writeNonZero(target, (*b)[:n], from)
		c.counts.Written.Bytes.Add(w)
		if err != nil {
			return n, err
		}
		length = max(length, last)
		if pending += w; pending < flushSize {
			return n, nil
		}
		pending = 0
		return n, retry(func() error { return unix.Fdatasync(target) })
	})
	if err != nil {
		return err
	}
	return finishFile(target, length, end)
}

// writeNonZero writes b at an offset, without the blocks of zeros. It returns the number of written bytes
// and the end of the last write; 0: nothing was written.
func writeNonZero(target int, b []byte, offset int64) (written, last int64, err error) {
	for len(b) > 0 {
		skip := 0
		for skip < len(b) && isZero(b[skip:min(skip+blockSize, len(b))]) {
			skip = min(skip+blockSize, len(b))
		}
		b, offset = b[skip:], offset+int64(skip)
		n := 0
		for n < len(b) && !isZero(b[n:min(n+blockSize, len(b))]) {
			n = min(n+blockSize, len(b))
		}
		for n > 0 {
			w := 0
			err := retry(func() (err error) {
				w, err = unix.Pwrite(target, b[:n], offset)
				return err
			})
			if err != nil {
				return written, last, err
			}
			b, n, offset, written = b[w:], n-w, offset+int64(w), written+int64(w)
			last = offset
		}
	}
	return written, last, nil
}

// isZero reports whether all bytes are 0: the first is, and each equals the one before.
func isZero(b []byte) bool { return b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }
