// SPDX-License-Identifier: Apache-2.0

package copytree

import (
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
	path  string // from the tree's root
	ready chan struct{}
	left  uint64 // names that were not met
}

// enter finds out whether a file's name is the first of it that is met: then the caller copies
// the file and closes what is returned; all others wait for that.
func (l *links) enter(st *unix.Stat_t, path string) (file *linked, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := inode{st.Dev, st.Ino}
	file, met := l.of[key]
	if !met {
		if l.of == nil {
			l.of = map[inode]*linked{}
		}
		file = &linked{path: path, ready: make(chan struct{}), left: uint64(st.Nlink)}
		l.of[key] = file
	}
	if file.left--; file.left == 0 {
		delete(l.of, key)
	}
	return file, !met
}

// forget lets the next name be the first: this one was not made.
func (l *links) forget(st *unix.Stat_t) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, inode{st.Dev, st.Ino})
}

func (f *linked) close() { close(f.ready) }
