// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// deepest is how many directories may be one in the other. Each takes two descriptors, and
// some KiB; a path that fits a system call has 2,048 at most.
const deepest = 8192

// directory is one that is being copied. It is done when all in it is.
type directory struct {
	above  *directory // nil: it is the tree itself
	name   string
	depth  int
	source *os.File
	target int         // descriptor, O_PATH
	stat   unix.Stat_t // of the source
	made   unix.Stat_t // of the target when it was new

	mu   sync.Mutex
	busy map[string]bool // what is being copied in it right now
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

// path is the way from the tree to name in d, for errors and for hard links.
func (d *directory) path(name string) string {
	names := []string{name}
	for ; d.above != nil; d = d.above {
		names = append(names, d.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		if b.WriteString(names[i]); i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}
