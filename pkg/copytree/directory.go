// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// deepest is how many directories may be one in the other. Each takes two descriptors, and
// some KiB; a path that fits a system call has 2,048 at most.
const maxTreeDepth = 8192

// directory is one that is being copied. It is done when all in it is.
type directory struct {
	parent     *directory // nil: it is the tree itself
	location   *location  // nil likewise
	depth      int
	source     *os.File
	target     int         // descriptor, O_PATH
	sourceStat unix.Stat_t // of the source
	targetStat unix.Stat_t // of the target when it was new
	names      *nameTable  // of files with several; guarded by links

	mu   sync.Mutex
	busy map[string]bool // what is being copied in it right now
}

func (d *directory) fd() int { return int(d.source.Fd()) }

func (d *directory) name() string {
	if d.location == nil {
		return "."
	}
	return d.location.name
}

// begin and end enclose the copying of an entry. A directory that is changed while it is read
// may tell of a name twice: what is there of it first stays.
func (d *directory) begin(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[name] {
		return false
	}
	if d.busy == nil {
		d.busy = map[string]bool{}
	}
	d.busy[name] = true
	return true
}

func (d *directory) end(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, name)
}

// place is where a directory is in the tree. It is all that is kept of a directory when that
// is done, for hard links.
type location struct {
	parent *location // nil: the tree itself
	name   string
}

// path is the way from the tree to name in a directory, for errors and for hard links.
func (p *location) path(name string) string {
	names := []string{name}
	for ; p != nil; p = p.parent {
		names = append(names, p.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}
