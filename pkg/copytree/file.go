// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// copyFile copies a regular file. again: it was replaced or removed.
func (e *entry) copyFile(ctx context.Context) (again bool) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	source, err := e.copy.source.open(e.dir, e.name, flags|uint64(e.copy.Methods.noDelegationFlag))
	if errors.Is(err, unix.EINVAL) { // a FIFO by now, which does not support O_DIRECT: see the mode below
		source, err = e.copy.source.open(e.dir, e.name, flags)
	}
	if err != nil {
		return e.canRetry("open", err)
	}
	defer unix.Close(source)
	var st unix.Stat_t
	if err := e.copy.source.stat(source, e.name, &st); err != nil {
		return e.canRetry("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return e.canRetry("stat", errKindChanged)
	}
	if st.Nlink <= 1 {
		_, again = e.copyOpenFile(ctx, source, &st)
		return again
	}
	first := e.linkOrStart(&st, birthHash(source, ""))
	if first == nil {
		return false
	}
	made, again := e.copyOpenFile(ctx, source, &st)
	first.finish(e.dir, e.name, made)
	return again
}

// copyOpenFile copies an open file, and counts it.
func (e *entry) copyOpenFile(ctx context.Context, source int, st *unix.Stat_t) (made, again bool) {
	began := time.Now()
	dataTime, err := e.writeCopy(ctx, source, st)
	if time.Since(began)-dataTime >= fileTimeout {
		e.copy.serverStalled.Store(true)
	}
	switch {
	case err == nil:
		e.copy.Files.Add(1)
		e.copy.Bytes.Add(min(st.Size, st.Blocks*512))
		return true, false
	case errors.Is(err, errDuplicate):
		return false, false
	case isGone(err) && unix.Unlinkat(e.dir.target, e.name, 0) == nil:
		// It may have been removed while it was read: a part of it is not a copy.
		return false, e.canRetry("copy", err)
	}
	e.fail("copy", err)
	return false, false
}

// fileTimeout is the longest time that a server needs for one file without its data. After a longer
// time it did not answer for a while, and a knfsd that restarted meanwhile may have lost the times of
// the file that was being changed then. This was observed; the cause is unknown.
const fileTimeout = 2500 * time.Millisecond

// errDuplicate: a directory that changed while it was read has returned a name twice.
var errDuplicate = errors.New("the copy exists already")

// writeCopy makes the copy of an open file. It creates the file with its mode if possible, and sets
// the times last, because every other step changes them. dataTime is the time for copying the data.
func (e *entry) writeCopy(ctx context.Context, source int, st *unix.Stat_t) (dataTime time.Duration, err error) {
	e.copy.announce("make a file")
	fd, created, err := e.createFile(st)
	if err != nil {
		return 0, err
	}
	defer func() {
		err = cmp.Or(err, unix.Close(fd)) // close(2) reports a full disk on NFS
	}()
	if st.Size > 0 {
		e.copy.announce("copy a file's data")
		began := time.Now()
		if err = e.copy.source.check(callRead, e.name); err != nil {
			return 0, err
		}
		err = e.copy.data().copy(ctx, source, fd, st)
		if !e.copy.Methods.clone.usable() || st.Size >= largeFile { // a clone takes no time
			dataTime = time.Since(began)
		}
		if err != nil {
			return dataTime, err
		}
	}
	t := target{fd: fd, path: fdPath(fd)}
	if err = e.copy.attributes().copy(source, t, st, created); err != nil {
		return dataTime, err
	}
	return dataTime, e.copy.attributes().copyTimes(t, st)
}

// createFile creates a file with the mode of its source. It does not use O_EXCL, for which NFS keeps a
// verifier in the times and sets them again: nobody else writes here. An existing file is from this
// copy, but may be of another kind: O_NONBLOCK avoids waiting for a FIFO.
func (e *entry) createFile(st *unix.Stat_t) (fd int, created *unix.Stat_t, err error) {
	flags := unix.O_CREAT | unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC | e.copy.Methods.noDelegationFlag
	err = retry(func() error {
		fd, err = unix.Openat(e.dir.target, e.name, flags, st.Mode&0o777)
		return err
	})
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return -1, nil, errDuplicate
	}
	if err != nil {
		return -1, nil, err
	}
	created = &unix.Stat_t{}
	if err := unix.Fstat(fd, created); err != nil {
		_ = unix.Close(fd)
		return -1, nil, err
	}
	if created.Mode&unix.S_IFMT != unix.S_IFREG || created.Size > 0 || created.Nlink > 1 {
		_ = unix.Close(fd)
		return -1, nil, errDuplicate
	}
	return fd, created, nil
}
