// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestClaims has directories of which one is another's, inside it or around it.
func TestClaims(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "team/a/b")
	for directory, parts := range map[string][]string{
		"team/a/b":     {"v1", "two volumes cannot share"},
		"team/a/b/c":   {"v1", `"team/a/b"`, "inside another"},
		"team/a/b/c/d": {"v1", `"team/a/b"`, "inside another"},
		"team/a":       {"there are volumes inside it"},
		"team":         {"there are volumes inside it"},
	} {
		m := g.begin("v2", directory)
		g.refused(directory, m.Claim(ctx), volume.ErrConflict, parts...)
		g.must(m.Undo())
	}
	g.create("v2", "team/a/c")
	g.create("v3", "team/a/b-2")
	m := g.begin("v4", "d")
	g.must(m.Claim(ctx))
	g.must(m.Claim(ctx)) // again is no conflict
	g.must(m.Undo())
}

// TestDamagedClaim has a claim of which nobody knows whose it is: nothing is destroyed.
func TestDamagedClaim(t *testing.T) {
	ctx := context.Background()
	for _, text := range []string{"", "{", `{"key": ""}`, `{"version": 1}`} {
		g := newGround(t)
		g.create("v1", "a")
		g.must(os.Remove(g.at(".mooring/claims/a")))
		g.put(".mooring/claims/a", text)
		g.put("a/file", "")
		r, err := g.Lookup(ctx, "v1")
		g.must(err)
		_, _, err = g.Share.Trash(ctx, r, time.Now())
		g.refused("trash", err, volume.ErrDamaged, ".mooring/claims")
		g.refused("release", g.Release(ctx, r), volume.ErrDamaged)
		g.refused("archive", g.Archive(ctx, r), volume.ErrDamaged)
		m := g.begin("v2", "a")
		g.refused("claim", m.Claim(ctx), volume.ErrDamaged)
		if !g.has("a/file") || !g.has(".mooring/claims/a") || !g.has(".mooring/volumes/v1.json") {
			t.Errorf("on the word of %q something was destroyed", text)
		}
	}
}

// TestForeignClaim has a record whose directory is claimed for another volume, or for none.
func TestForeignClaim(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.create("v2", "b")
	g.put("b/file", "")
	r, err := g.Lookup(ctx, "v1")
	g.must(err)
	changed := r.Record
	changed.Directory = "b" // of v2
	g.must(g.Update(ctx, changed))
	r, err = g.Lookup(ctx, "v1")
	g.must(err)
	_, _, err = g.Share.Trash(ctx, r, time.Now())
	g.refused("another's directory", err, volume.ErrDamaged, "v1", "v2", "nothing was changed")
	if !g.has("b/file") || !g.has("a") || !g.has(".mooring/volumes/v1.json") {
		t.Error("something was destroyed")
	}

	g.must(os.Remove(g.at(".mooring/claims/b")))
	r, err = g.Lookup(ctx, "v2")
	g.must(err)
	_, _, err = g.Share.Trash(ctx, r, time.Now())
	g.refused("a directory without a claim", err, volume.ErrDamaged, "no volume")
	if !g.has("b/file") {
		t.Error("something was destroyed")
	}
}

// TestDamagedRecord has a record that cannot be believed.
func TestDamagedRecord(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	for _, text := range []string{"", "{}", "null"} {
		g.must(os.Remove(g.at(".mooring/volumes/v1.json")))
		g.put(".mooring/volumes/v1.json", text)
		_, err := g.Lookup(ctx, "v1")
		g.refused(text, err, volume.ErrDamaged, "nas1", "v1")
		_, _, err = g.Begin(ctx, record("v1", "a"))
		g.refused(text, err, volume.ErrDamaged)
	}
	if _, err := g.Lookup(ctx, "none"); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
}

// TestLinksAreNotFollowed has tenants' links, and ours, where a directory is to be.
func TestLinksAreNotFollowed(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	out := t.TempDir()
	g.must(os.Symlink(out, g.at("link")))
	g.must(os.Symlink("real", g.at("inner")))
	g.put("real/keep", "")
	for _, directory := range []string{"link", "link/v", "inner", "inner/v", "real/keep/v"} {
		m := g.begin("v1", directory)
		err := m.Claim(ctx)
		if err == nil {
			err = m.MakeDirectory(ctx)
		}
		g.refused(directory, err, volume.ErrConflict)
		g.must(m.Undo())
		if there, _ := g.Exists(ctx, directory); there {
			t.Errorf("%s is there", directory)
		}
	}
	if entries, _ := os.ReadDir(out); len(entries) > 0 {
		t.Errorf("outside of the share there is %v", entries)
	}
	g.create("v2", "b")
	g.must(os.Remove(g.at("b")))
	g.must(os.Symlink(out, g.at("b")))
	g.delete("v2") // the link goes to the trash, and not what it shows
	if _, err := os.Stat(out); err != nil || g.has("b") {
		t.Errorf("after a deletion there is %v, %v", g.has("b"), err)
	}
}
