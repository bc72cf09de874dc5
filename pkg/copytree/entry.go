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
	c    *Copy
	d    *directory
	name string
}

func (e *entry) fail(what string, err error) { e.c.fail(e.d, e.name, what, err) }

// turns is how often an entry is looked at anew because it has become something else.
const turns = 3

// copy copies the entry. kind is what the directory said it is (readdir(3)).
func (e *entry) copy(ctx context.Context, kind uint8) {
	if !e.d.begin(e.name) {
		return
	}
	defer e.d.end(e.name)
	for range turns {
		if ctx.Err() != nil {
			return
		}
		var again bool
		switch kind {
		case unix.DT_REG:
			again = e.file(ctx)
		case unix.DT_DIR:
			again = e.directory(ctx)
		case unix.DT_LNK, unix.DT_FIFO, unix.DT_CHR, unix.DT_BLK:
			again = e.other()
		case unix.DT_SOCK:
			e.c.Skipped.Add(1)
		default:
			again = true
		}
		if !again {
			return
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(e.d.source.Fd()), e.name, &st, unix.AT_SYMLINK_NOFOLLOW); gone(err) {
			break
		} else if err != nil {
			e.fail("look at", err)
			return
		}
		kind = uint8(st.Mode & unix.S_IFMT >> 12)
	}
	e.c.Vanished.Add(1)
}

// gone reports whether an error says that a name, or the directory it was in, is not there any more.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// changed reports whether an error of opening says that an entry is gone, or something else by now.
func changed(err error) bool {
	return gone(err) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR)
}

// directory copies a directory. again: it is no directory, or gone.
func (e *entry) directory(ctx context.Context) (again bool) {
	f, err := openDir(int(e.d.source.Fd()), e.name)
	if changed(err) {
		return true
	}
	if err != nil {
		e.fail("open the directory", err)
		return false
	}
	defer f.Close()
	sub := &directory{place: &place{e.d.place, e.name}, depth: e.d.depth + 1, source: f}
	if sub.depth > deepest {
		e.fail("open the directory", fmt.Errorf("it is more than %d directories down: %w", deepest, unix.ENAMETOOLONG))
		return false
	}
	if err = unix.Fstat(int(f.Fd()), &sub.stat); err != nil {
		if gone(err) {
			return true
		}
		e.fail("look at the directory", err)
		return false
	}
	e.c.step("make a directory")
	// We have to get in, whatever its mode is to be.
	err = unix.Mkdirat(e.d.target, e.name, sub.stat.Mode&0o777|0o700)
	if errors.Is(err, unix.EEXIST) {
		return false
	}
	if err == nil {
		sub.target, err = unix.Openat(e.d.target, e.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		e.fail("make the directory", err)
		return false
	}
	defer unix.Close(sub.target)
	// Now, while its attributes are those that came with the answer.
	if err = unix.Fstatat(sub.target, "", &sub.made, unix.AT_EMPTY_PATH); err != nil {
		e.fail("look at the new directory", err)
		return false
	}
	e.c.Dirs.Add(1)
	e.c.fill(ctx, sub)
	return false
}
