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

	what    string       // was tried when the entry was gone, or something else
	err     error        // that said so
	partial *unix.Stat_t // of the directory of which a part is copied; nil: there is none
}

func (e *entry) fail(what string, err error) { e.copy.fail(e.dir, e.name, what, err) }

// failed reports whether the entry has to be looked at anew after an error of reading it. Other
// errors end the copy.
func (e *entry) canRetry(what string, err error) (again bool) {
	if isChanged(err) {
		e.what, e.err = what, err
		return true
	}
	e.fail(what, err)
	return false
}

// copy copies the entry. kind is what the directory said it is (readdir(3)).
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
		is, err := e.copy.source.recheck(e.dir, e.name)
		switch {
		case isGone(err): // the directory, which is there: perhaps the next turn finds it
		case err != nil:
			e.fail("look at", err)
			return
		case is == nil:
			e.copy.Vanished.Add(1)
			return
		default:
			kind = kindOf(uint32(is.Mode))
		}
	}
	e.fail(e.what, persistentError(e.err))
}

// kindOf is what readdir(3) calls the kind of a file.
func kindOf(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }

// turn tries to copy the entry. again: it is something else, or gone.
func (e *entry) try(ctx context.Context, kind uint8) (again bool) {
	if kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := e.copy.source.lstat(e.dir, e.name, &st); err != nil {
			return e.canRetry("look at", err)
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
	return e.canRetry("look at", errKindChanged)
}

// directory copies a directory. again: it is no directory, or gone.
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
		return e.canRetry("look at the directory", err)
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

// makeDirectory makes the copy of a directory, or opens what an earlier turn has made. What that
// has copied stays.
func (e *entry) makeDirectory(sub *directory) error {
	if e.partial == nil {
		e.copy.announce("make a directory")
		// We have to get in, whatever its mode is to be.
		if err := unix.Mkdirat(e.dir.target, e.name, sub.sourceStat.Mode&0o777|0o700); err != nil {
			return err
		}
		e.copy.Dirs.Add(1)
	}
	var err error
	// fstat(2) at once, while the attributes are those that came with the answer.
	sub.target, sub.targetStat, err = openCopied(e.dir.target, e.name)
	return err
}

// openMade opens a directory in the target.
func openCopied(dir int, name string) (fd int, made unix.Stat_t, err error) {
	fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, made, err
	}
	if err = unix.Fstatat(fd, "", &made, unix.AT_EMPTY_PATH); err != nil {
		_ = unix.Close(fd)
		return -1, made, err
	}
	return fd, made, nil
}

// settle gives owner, mode and times to the copy of a directory that was removed when a part of
// it was copied.
func (e *entry) finishPartial() {
	if e.partial == nil || e.copy.firstFailure() != nil {
		return
	}
	fd, made, err := openCopied(e.dir.target, e.name)
	if err != nil {
		e.fail("look at the new directory", err)
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
