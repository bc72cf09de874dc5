// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// links knows which files with several names have been copied. It remembers nothing of files
// with one name, nor of those of which all names were met.
type links struct {
	mu sync.Mutex
	of map[inode]*linked
}

type inode struct{ dev, ino uint64 }

// linked is a file whose first name is copied, or being copied.
type linked struct {
	dir   *directory // of that name; not its path, which may be long, and in memory only once so
	name  string
	ready chan struct{}
	made  bool   // once it is ready
	left  uint64 // names that were not met
	born  int64  // nanoseconds; 0 where the file system does not tell
}

// enter finds out whether a file's name is the first of it that is met: then the caller copies
// the file and closes what is returned; all others wait for that.
func (l *links) enter(st *unix.Stat_t, born int64, d *directory, name string) (file *linked, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := inode{st.Dev, st.Ino}
	file, met := l.of[key]
	if met && file.born != 0 && born != 0 && file.born != born {
		met = false // that one was removed, and this has got its number
	}
	if !met {
		if l.of == nil {
			l.of = map[inode]*linked{}
		}
		file = &linked{dir: d, name: name, ready: make(chan struct{}), left: uint64(st.Nlink), born: born}
		l.of[key] = file
	}
	if file.left--; file.left == 0 {
		delete(l.of, key)
	}
	return file, !met
}

// forget lets the next name of a file be the first again.
func (l *links) forget(st *unix.Stat_t, file *linked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := (inode{st.Dev, st.Ino}); l.of[key] == file {
		delete(l.of, key)
	}
}

func (f *linked) close() { close(f.ready) }

// firstName reports whether a name of a file with several is the first one that is met, or has
// to be copied like that. Else it has become a link when this returns.
func (e *entry) firstName(st *unix.Stat_t, born int64) (f *linked, first bool) {
	for {
		f, first := e.c.links.enter(st, born, e.d, e.name)
		if first {
			return f, true
		}
		<-f.ready
		if f.made && e.link(f) {
			return nil, false
		}
		e.c.links.forget(st, f)
	}
}

// link makes a further name of a file that was copied. It reports false where the file has all
// the names that it may have there.
func (e *entry) link(f *linked) bool {
	e.c.step("make a hard link")
	path := f.dir.path(f.name)
	err := unix.Linkat(e.c.root, path, e.d.target, e.name, 0)
	if errors.Is(err, unix.ENAMETOOLONG) {
		err = linkFar(e.c.root, path, e.d.target, e.name)
	}
	switch {
	case err == nil:
		e.c.Links.Add(1)
	case errors.Is(err, unix.EMLINK):
		return false
	case !errors.Is(err, unix.EEXIST): // else the directory told of the name twice
		e.fail("link", err)
	}
	return true
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

// born tells when a file was made, as far as that is known without asking the server: name in
// a directory, or "" for what fd is open on.
func born(fd int, name string) int64 {
	var st unix.Statx_t
	flags := unix.AT_STATX_DONT_SYNC | unix.AT_SYMLINK_NOFOLLOW | unix.AT_EMPTY_PATH
	if unix.Statx(fd, name, flags, unix.STATX_BTIME, &st) != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}
