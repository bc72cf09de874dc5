// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxTreeDepth is the largest number of nested directories. Each takes two descriptors and some
// KiB; a path that fits a system call has at most 2,048.
const maxTreeDepth = 8192

// directory is a directory that is being copied. It is finished after all of its entries.
type directory struct {
	parent     *directory // nil for the tree itself
	location   *location  // nil for the tree itself
	depth      int
	source     *os.File
	target     int         // descriptor, O_PATH
	sourceStat unix.Stat_t // of the source
	targetStat unix.Stat_t // of the new target
	names      *nameTable  // of files with several hard links; guarded by links

	mu   sync.Mutex
	busy map[string]bool // names of the entries that are being copied
}

func (d *directory) fd() int { return int(d.source.Fd()) }

func (d *directory) name() string {
	if d.location == nil {
		return "."
	}
	return d.location.name
}

// begin and end enclose the copying of an entry. A directory that changes while it is read may
// return a name twice: the first copy is kept.
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

// location is the position of a directory in the tree. For hard links it is kept after the
// directory is finished.
type location struct {
	parent *location // nil for the tree itself
	name   string
}

// path returns the path of name in the directory, relative to the tree.
func (p *location) path(name string) string {
	names := []string{name}
	for ; p != nil; p = p.parent {
		names = append(names, p.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}
