// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"maps"
	"slices"

	"github.com/mooring-csi/mooring/pkg/copytree"
)

// The ways in which a file's data is copied.
const (
	MethodClone = "clone"     // shared blocks (RFC 7862, CLONE)
	MethodCopy  = "copy"      // by the server (RFC 7862, COPY)
	MethodWrite = "readwrite" // through this client
)

// CopyCount counts files and their data.
type CopyCount struct{ Files, Bytes int64 }

// CopyTotals counts the copies of this process to a share.
type CopyTotals struct {
	Share        string
	Running      int // or waiting for a slot
	Done, Failed int64
	ByMethod     map[string]CopyCount
	Skipped      int64 // sockets, and devices that the server refuses
	Vanished     int64 // files that were removed while they were copied
	Entries      int64 // files, directories and others
}

// totalsOf finds or adds the totals of a share. The caller holds c.mu.
func (c *Copier) totalsOf(share string) *CopyTotals {
	if c.totals[share] == nil {
		c.totals[share] = &CopyTotals{Share: share, ByMethod: map[string]CopyCount{}}
	}
	return c.totals[share]
}

func (t *CopyTotals) add(tree *copytree.Copy, err error) {
	if err != nil {
		t.Failed++
	} else {
		t.Done++
	}
	t.count(tree)
}

func (t *CopyTotals) count(tree *copytree.Copy) {
	for method, n := range map[string]CopyCount{
		MethodClone: {tree.Cloned.Files.Load(), tree.Cloned.Bytes.Load()},
		MethodCopy:  {tree.Copied.Files.Load(), tree.Copied.Bytes.Load()},
		MethodWrite: {tree.Written.Files.Load(), tree.Written.Bytes.Load()},
	} {
		m := t.ByMethod[method]
		t.ByMethod[method] = CopyCount{m.Files + n.Files, m.Bytes + n.Bytes}
	}
	t.Entries += tree.Files.Load() + tree.Dirs.Load() + tree.Links.Load() + tree.Symlinks.Load() + tree.Special.Load()
	t.Skipped += tree.Skipped.Load()
	t.Vanished += tree.Vanished.Load()
}

// Status returns the totals of each share, with the running copies.
func (c *Copier) Status() []CopyTotals {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]CopyTotals{}
	for name, t := range c.totals {
		now := *t
		now.ByMethod = maps.Clone(t.ByMethod)
		all[name] = now
	}
	for at, r := range c.copies {
		if !r.ended.IsZero() {
			continue
		}
		now, ok := all[at.share]
		if !ok {
			now = CopyTotals{Share: at.share, ByMethod: map[string]CopyCount{}}
		}
		now.Running++
		now.count(r.tree)
		all[at.share] = now
	}
	return slices.Collect(maps.Values(all))
}
