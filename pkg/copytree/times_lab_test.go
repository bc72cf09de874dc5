// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"os"
	"path/filepath"
	"testing"
)

// TestTimesOfNFS3 copies files whose times on the server do not fit in 32 unsigned bits.
func TestTimesOfNFS3(t *testing.T) {
	type times struct{ is, shown, copied int64 }
	files := map[string]times{
		"1902":    {-1 << 31, 1 << 31, 1 << 31},
		"1969":    {-1, 1<<32 - 1, 1<<32 - 1},
		"1970":    {0, 0, 0},
		"2038":    {1<<31 - 1, 1<<31 - 1, 1<<31 - 1},
		"unsure":  {1 << 31, 1 << 31, 1 << 31}, // it is kept, but may be 1902
		"2106":    {1<<32 + 5, 5, 5},           // which cannot be detected
		"regular": {1_700_000_000, 1_700_000_000, 1_700_000_000},
	}
	for _, version := range []string{"3", "4.1"} {
		client, server := mountExport(t, "exports", version)
		tree := filepath.Join(server, "tree")
		must(t, os.Mkdir(tree, 0o755))
		for name, f := range files {
			writeDated(t, filepath.Join(tree, name), f.is)
		}
		lost := int64(3)
		if version != "3" {
			lost = 0
		}
		c := &Copy{Workers: 1}
		must(t, copyTree(t, t.Context(), client, c))
		for name, f := range files {
			if version != "3" {
				f.shown, f.copied = f.is, f.is
			}
			if got := modifiedAt(t, filepath.Join(client, "tree", name)); got != f.shown {
				t.Errorf("%s: %s is shown as %d, want %d", version, name, got, f.shown)
			}
			if got := modifiedAt(t, filepath.Join(server, "copy", name)); got != f.copied {
				t.Errorf("%s: the copy of %s has the time %d, want %d", version, name, got, f.copied)
			}
		}
		if got := c.Lost.Load(); got != lost {
			t.Errorf("%s: %d are counted as lost, want %d", version, got, lost)
		}
	}
}

// TestTimesToNFS3 copies such times to NFSv3, which does not have them: Linux sets the nearest ones.
func TestTimesToNFS3(t *testing.T) {
	client, server := mountExport(t, "exports", "3")
	tree := filepath.Join(server, "tree")
	must(t, os.Mkdir(tree, 0o755))
	must(t, os.Mkdir(filepath.Join(client, "copy"), 0o755))
	want := map[string][2]int64{"1902": {-1 << 31, 0}, "1969": {-1, 0}, "2105": {1<<32 - 2, 1<<32 - 2}, "2106": {1<<32 + 5, 1<<32 - 1}}
	for name, sec := range want {
		writeDated(t, filepath.Join(tree, name), sec[0])
	}
	c := &Copy{Workers: 1}
	must(t, copyInto(t, t.Context(), tree, filepath.Join(client, "copy"), c))
	for name, sec := range want {
		if got := modifiedAt(t, filepath.Join(server, "copy", name)); got != sec[1] {
			t.Errorf("the copy of %s has the time %d, want %d", name, got, sec[1])
		}
	}
	if c.Lost.Load() != 3 {
		t.Errorf("%d are counted as lost, want 3", c.Lost.Load())
	}
}
