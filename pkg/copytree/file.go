// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// file copies a regular file. again: it is something else, or gone.
func (e *entry) copyFile(ctx context.Context) (again bool) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	source, err := e.copy.source.open(e.dir, e.name, flags|uint64(e.copy.Methods.noDelegationFlag))
	if errors.Is(err, unix.EINVAL) { // a FIFO by now, which takes no O_DIRECT: the look below tells
		source, err = e.copy.source.open(e.dir, e.name, flags)
	}
	if err != nil {
		return e.canRetry("open", err)
	}
	defer unix.Close(source)
	var st unix.Stat_t
	if err := e.copy.source.stat(source, e.name, &st); err != nil {
		return e.canRetry("look at", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return e.canRetry("look at", errKindChanged)
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

// oneFile copies an open file, and counts it.
func (e *entry) copyOpenFile(ctx context.Context, source int, st *unix.Stat_t) (made, again bool) {
	began := time.Now()
	moving, err := e.writeCopy(ctx, source, st)
	if time.Since(began)-moving >= fileTimeout {
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
		// Removed, perhaps, while it was read: half of it is none.
		return false, e.canRetry("copy", err)
	}
	e.fail("copy", err)
	return false, false
}

// patience is how long a server takes at most for one file without its data. Is it longer, it
// was away, and a knfsd that was started again meanwhile may not have the times of the file
// that it was asked to change at that moment: seen, not understood.
const fileTimeout = 2500 * time.Millisecond

// errTwice: a directory that was changed while it was read has told of a name twice.
var errDuplicate = errors.New("the copy is there already")

// copyFile makes the copy of an open file. Its mode goes with its creation, where that can
// be, and its times come last: everything else changes them.
func (e *entry) writeCopy(ctx context.Context, source int, st *unix.Stat_t) (moving time.Duration, err error) {
	e.copy.announce("make a file")
	made, fresh, err := e.createFile(st)
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := unix.Close(made); err == nil { // where NFS says that the disk is full
			err = e
		}
	}()
	if st.Size > 0 {
		e.copy.announce("copy a file's data")
		began := time.Now()
		if err = e.copy.source.check(callRead, e.name); err != nil {
			return 0, err
		}
		err = e.copy.data().copy(ctx, source, made, st)
		if !e.copy.Methods.clone.usable() || st.Size >= largeFile { // else it takes no time
			moving = time.Since(began)
		}
		if err != nil {
			return moving, err
		}
	}
	t := target{fd: made, path: fdPath(made)}
	if err = e.copy.attributes().copy(source, t, st, fresh); err != nil {
		return moving, err
	}
	return moving, e.copy.attributes().copyTimes(t, st)
}

// create makes a file, with the mode of its source. Not by O_EXCL, for which NFS sets times to
// keep its verifier there, and then sets them right: nobody else is here. What may be there is
// our own, of another kind even, so that nothing is waited for (O_NONBLOCK).
func (e *entry) createFile(st *unix.Stat_t) (fd int, fresh *unix.Stat_t, err error) {
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
	fresh = &unix.Stat_t{}
	if err := unix.Fstat(fd, fresh); err != nil {
		_ = unix.Close(fd)
		return -1, nil, err
	}
	if fresh.Mode&unix.S_IFMT != unix.S_IFREG || fresh.Size > 0 || fresh.Nlink > 1 {
		_ = unix.Close(fd)
		return -1, nil, errDuplicate
	}
	return fd, fresh, nil
}
