// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// entry is an entry of a directory that is being copied.
type entry struct {
	copy *Copy
	dir  *directory
	name string

	what    string       // the step that found the entry removed or replaced
	err     error        // the error of that step
	partial *unix.Stat_t // attributes of the directory if it is copied in part; nil: it is not
}

func (e *entry) fail(what string, err error) { e.copy.fail(e.dir, e.name, what, err) }

// canRetry reports whether the entry must be copied again after an error of reading it. Any other
// error ends the copy.
func (e *entry) canRetry(what string, err error) bool {
	if isChanged(err) {
		e.what, e.err = what, err
		return true
	}
	e.fail(what, err)
	return false
}

// run copies the entry. kind is the kind that the directory reports (readdir(3)).
func (e *entry) run(ctx context.Context, kind uint8) {
	if !e.dir.begin(e.name) {
		return
	}
	defer e.dir.end(e.name)
	defer e.finishPartial()
	for range maxAttempts {
		if ctx.Err() != nil {
			return
		}
		if !e.try(ctx, kind) {
			return
		}
		st, err := e.copy.source.recheck(e.dir, e.name)
		switch {
		case isGone(err): // the parent, which exists: the next attempt may find it
		case err != nil:
			e.fail("stat", err)
			return
		case st == nil:
			e.copy.Vanished.Add(1)
			return
		default:
			kind = kindOf(uint32(st.Mode))
		}
	}
	e.fail(e.what, persistentError(e.err))
}

// kindOf returns the kind of a file as readdir(3) reports it.
func kindOf(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }

// try tries to copy the entry. again: it was replaced or removed.
func (e *entry) try(ctx context.Context, kind uint8) (again bool) {
	if kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := e.copy.source.lstat(e.dir, e.name, &st); err != nil {
			return e.canRetry("stat", err)
		}
		kind = kindOf(st.Mode)
	}
	switch kind {
	case unix.DT_REG:
		return e.copyFile(ctx)
	case unix.DT_DIR:
		return e.copyDirectory(ctx)
	case unix.DT_LNK, unix.DT_FIFO, unix.DT_CHR, unix.DT_BLK:
		return e.copySpecial()
	case unix.DT_SOCK:
		e.copy.Skipped.Add(1)
		return false
	}
	return e.canRetry("stat", errKindChanged)
}

// copyDirectory copies a directory. again: it was replaced or removed.
func (e *entry) copyDirectory(ctx context.Context) (again bool) {
	f, err := e.copy.source.openDir(e.dir, e.name)
	if err != nil {
		return e.canRetry("open the directory", err)
	}
	defer f.Close()
	sub := &directory{parent: e.dir, location: &location{e.dir.location, e.name}, depth: e.dir.depth + 1, source: f}
	if sub.depth > maxTreeDepth {
		e.fail("open the directory", fmt.Errorf("it is more than %d directories down: %w", maxTreeDepth, unix.ENAMETOOLONG))
		return false
	}
	if err := e.copy.source.stat(sub.fd(), e.name, &sub.sourceStat); err != nil {
		return e.canRetry("stat the directory", err)
	}
	err = e.makeDirectory(sub)
	if errors.Is(err, unix.EEXIST) {
		return false
	}
	if err != nil {
		e.fail("make the directory", err)
		return false
	}
	defer unix.Close(sub.target)
	e.partial = &sub.sourceStat
	if err := e.copy.copyEntries(ctx, sub); err != nil {
		return e.canRetry("copy the directory", err)
	}
	e.partial = nil
	return false
}

// makeDirectory makes the copy of a directory, or opens the one of an earlier attempt, whose entries
// are kept.
func (e *entry) makeDirectory(sub *directory) error {
	if e.partial == nil {
		e.copy.announce("make a directory")
		// This process needs access, whatever the final mode is.
		if err := unix.Mkdirat(e.dir.target, e.name, sub.sourceStat.Mode&0o777|0o700); err != nil {
			return err
		}
		e.copy.Dirs.Add(1)
	}
	var err error
	// stat(2) at once, while the attributes of the server's answer are cached.
	sub.target, sub.targetStat, err = openCopied(e.dir.target, e.name)
	return err
}

// openCopied opens a directory in the target, and returns its attributes.
func openCopied(dir int, name string) (fd int, st unix.Stat_t, err error) {
	fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, st, err
	}
	if err = unix.Fstatat(fd, "", &st, unix.AT_EMPTY_PATH); err != nil {
		_ = unix.Close(fd)
		return -1, st, err
	}
	return fd, st, nil
}

// finishPartial sets owner, mode and times of the copy of a directory that was removed after a part
// of it was copied.
func (e *entry) finishPartial() {
	if e.partial == nil || e.copy.firstFailure() != nil {
		return
	}
	fd, made, err := openCopied(e.dir.target, e.name)
	if err != nil {
		e.fail("stat the new directory", err)
		return
	}
	defer unix.Close(fd)
	t := target{fd: fd, path: fdPath(fd)}
	if err := e.copy.attributes().copyOwnerAndMode(t, e.partial, &made); err != nil {
		e.fail("set the attributes of", err)
		return
	}
	if err := e.copy.attributes().copyTimes(t, e.partial); err != nil {
		e.fail("set the attributes of", err)
	}
}
