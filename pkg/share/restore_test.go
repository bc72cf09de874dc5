// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// deleted makes a volume with a file in it, deletes it, and returns its entry in the trash.
func (g *ground) deleted(key, directory string) Trashed {
	g.Helper()
	g.create(key, directory)
	g.put(directory+"/data", "precious")
	g.delete(key)
	entries, err := g.Trashed(context.Background())
	g.must(err)
	i := slices.IndexFunc(entries, func(e Trashed) bool { return e.Key == key })
	if i < 0 || !entries[i].Whole() {
		g.Fatalf("in the trash is %+v", entries)
	}
	return entries[i]
}

// meanwhile calls do, once, before the change on the share that is so called.
func (g *ground) meanwhile(what string, do func()) {
	g.opt.Step = func(step string) {
		if step == what {
			g.opt.Step = nil
			do()
		}
	}
}

const intoPlace = "rename the tree into its place"

// TestRestoreMeanwhile has others come in the way just before the tree is renamed.
func TestRestoreMeanwhile(t *testing.T) {
	ctx := context.Background()
	t.Run("deleted", func(t *testing.T) {
		g := newGround(t)
		e := g.deleted("v1", "a/b")
		g.meanwhile(intoPlace, func() {
			other := openAt(t, g.dir, "ffffffff")
			r, err := other.Lookup(ctx, "v1")
			g.must(err)
			_, _, err = other.Trash(ctx, r, time.Now())
			g.must(err)
		})
		_, err := g.Restore(ctx, e, "")
		g.refused("a volume that is deleted meanwhile", err, volume.ErrBusy, "deleted while it was brought back")
		if g.has("a/b") || !g.has(".mooring/trash/"+e.Name+"/data") || !g.has(".mooring/trash/"+e.Name+".json") || g.has(".mooring/volumes/v1.json") {
			t.Error("it is not in the trash as before")
		}
		_, err = g.Restore(ctx, e, "")
		g.must(err)
	})
	t.Run("purged", func(t *testing.T) {
		g := newGround(t)
		e := g.deleted("v1", "a/b")
		g.meanwhile(intoPlace, func() {
			g.must(openAt(t, g.dir, "ffffffff").Purge(e, func(_ int, name string) error { return os.RemoveAll(g.at(".mooring/trash/" + name)) }))
		})
		_, err := g.Restore(ctx, e, "")
		g.refused("a volume that is purged meanwhile", err, volume.ErrNotFound, "nothing is left of "+e.Name)
		if g.has("a/b") || g.has(".mooring/volumes/v1.json") || g.has(".mooring/claims/a/b") {
			t.Error("something of it is left")
		}
	})
	t.Run("taken over", func(t *testing.T) {
		g := newGround(t)
		e := g.deleted("v1", "a/b")
		g.meanwhile(intoPlace, func() {
			_, err := openAt(t, g.dir, "ffffffff").Restore(ctx, e, "c")
			g.refused("to bring back what another is at", err, volume.ErrBusy, "another")
		})
		r, err := g.Restore(ctx, e, "")
		if err != nil || r.Directory != "a/b" {
			t.Errorf("it is brought back as %+v, %v", r, err)
		}
	})
}

// TestRestoreNotOurs has somebody put a directory where a volume was to be brought back that
// was purged before: it is not taken for the volume.
func TestRestoreNotOurs(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	e := g.deleted("v1", "a")
	g.meanwhile(intoPlace, func() { panic("killed") })
	func() {
		defer func() { _ = recover() }()
		_, _ = g.Restore(ctx, e, "")
	}()
	g.must(g.Purge(e, func(_ int, name string) error { return os.RemoveAll(g.at(".mooring/trash/" + name)) }))
	g.put("a/foreign", "x")
	_, err := g.Restored(ctx, "v1")
	g.refused("a directory that is not the volume's", err, volume.ErrConflict, "something else")
	if !g.has("a/foreign") || !g.has(".mooring/volumes/v1.json") {
		t.Error("what may be the volume's has lost its record")
	}
	// Its inode may be that of the tree that was purged.
	st, err := os.Stat(g.at("a"))
	g.must(err)
	r, err := g.Lookup(ctx, "v1")
	g.must(err)
	r.Restored.Inode = st.Sys().(*syscall.Stat_t).Ino
	g.must(g.Update(ctx, r.Record))
	_, err = g.Restored(ctx, "v1")
	g.refused("a directory of the same inode", err, volume.ErrConflict, "something else")

	g.must(os.RemoveAll(g.at("a")))
	_, err = g.Restored(ctx, "v1")
	g.refused("a volume that was purged", err, volume.ErrNotFound, "nothing is left")
	if g.has(".mooring/volumes/v1.json") || g.has(".mooring/claims/a") {
		t.Error("what cannot be brought back any more has left a record, or a claim")
	}
}

// TestRestorable has entries that are no whole volumes.
func TestRestorable(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	e := g.deleted("v1", "a")
	half, purging := e, e
	half.recorded, purging.purging = false, true
	for what, c := range map[string]struct {
		e    Trashed
		kind error
		say  string
	}{
		"half a deletion":  {half, volume.ErrConflict, "no record yet"},
		"half a purge":     {purging, volume.ErrNotFound, "is just being purged"},
		"a snapshot":       {Trashed{Name: "s.1" + snapshotSuffix, Key: "s", data: true}, volume.ErrConflict, "is a snapshot"},
		"a copy's remains": {Trashed{Name: "s.1" + stagingSuffix, Key: "s", data: true}, volume.ErrConflict, "never was a volume"},
	} {
		_, err := g.Restore(ctx, c.e, "")
		g.refused(what, err, c.kind, c.say)
	}
	_, err := g.Restore(ctx, e, "../b")
	g.refused("outside the share", err, volume.ErrInvalid, `".."`)
	if !g.has(".mooring/trash/"+e.Name+"/data") || g.has(".mooring/volumes/v1.json") {
		t.Error("a refusal has changed something")
	}
}

// TestReadOnly looks at shares that are laid out, and not, and at one without some of it.
func TestReadOnly(t *testing.T) {
	ctx := context.Background()
	look := func(g *ground, volumes, trashed int) {
		t.Helper()
		before := g.tree()
		s, err := Open(g.dir, nas1, Options{Maker: maker, ReadOnly: true, Step: func(what string) { t.Errorf("it does: %s", what) }})
		g.must(err)
		defer s.Close()
		keys, err := s.Keys(ctx)
		g.must(err)
		entries, err := s.Trashed(ctx)
		g.must(err)
		snapshots, err := s.SnapshotKeys(ctx)
		g.must(err)
		jobs, err := s.Jobs(ctx)
		g.must(err)
		places := 0
		g.must(s.Places(ctx, func(Place) error { places++; return nil }))
		if len(keys) != volumes || len(entries) != trashed || len(snapshots)+len(jobs) > 0 || places != volumes || s.Laid() != (volumes > 0) {
			t.Errorf("it sees %q, %v, %q, %v and %d places", keys, entries, snapshots, jobs, places)
		}
		_, err = s.Lookup(ctx, "none")
		g.refused("no volume", err, volume.ErrNotFound, "has no volume none")
		_, err = s.Snapshot(ctx, "none")
		g.refused("no snapshot", err, volume.ErrNotFound, "has no snapshot none")
		if after := g.tree(); !slices.Equal(before, after) {
			t.Errorf("there was %q, and now there is %q", before, after)
		}
	}
	look(&ground{t, nil, t.TempDir()}, 0, 0)
	g := newGround(t)
	g.create("v1", "a/b")
	g.deleted("v2", "c")
	g.put(".mooring/staging/v3."+maker+"-1-1.json", "an earlier run's")
	look(g, 1, 1)
	for _, d := range []string{"groups", "jobs", "snapshots"} {
		g.must(os.Remove(g.at(".mooring/" + d)))
	}
	look(g, 1, 1)
}

// tree lists all names on the share.
func (g *ground) tree() []string {
	var all []string
	var walk func(string)
	walk = func(at string) {
		for _, name := range g.names(at) {
			p := strings.TrimPrefix(at+"/"+name, "./")
			all = append(all, p)
			if st, err := os.Lstat(g.at(p)); err == nil && st.IsDir() {
				walk(p)
			}
		}
	}
	walk(".")
	return all
}

// TestPlaces tells directories of volumes, parents, and those of nobody.
func TestPlaces(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "teams/a/one")
	g.create("v2", "two")
	g.create("v3", "three")
	g.create("v4", "gone/four")
	g.must(os.RemoveAll(g.at("three")))
	g.must(os.RemoveAll(g.at("gone")))
	for _, p := range []string{"stray/x", "teams/stray/x", "two/inner/x", "file"} {
		g.put(p, "x")
	}
	g.must(os.Symlink("/etc", g.at("link")))
	var got []string
	g.must(g.Places(ctx, func(p Place) error {
		text := p.Directory
		if p.There {
			text += " there"
		}
		if p.Claimed {
			text += " claimed"
		}
		got = append(got, text)
		return nil
	}))
	slices.Sort(got)
	want := []string{"gone/four claimed", "stray there", "teams/a/one there claimed", "teams/stray there", "three claimed", "two there claimed"}
	if !slices.Equal(got, want) {
		t.Errorf("the places are %q, not %q", got, want)
	}
	for directory, want := range map[string]string{"two": "v2", "teams/a/one": "v1", "stray": "", "teams": "", "two/inner": ""} {
		if key, err := g.ClaimedFor(ctx, directory); err != nil || key != want {
			t.Errorf("%s is claimed for %q, %v", directory, key, err)
		}
	}
}
