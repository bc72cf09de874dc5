// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// shallow makes a volume that is a snapshot itself.
func (g *ground) shallow(key, snapshot string) {
	g.Helper()
	ctx, r := context.Background(), record(key, volume.SnapshotDirectory(snapshot))
	r.Source, r.Shallow = &volume.Source{Object: ofSnapshot(snapshot), Share: "nas1"}, true
	m, _, err := g.Begin(ctx, r)
	g.must(err)
	g.must(m.UseSnapshot(ctx))
	_, err = m.Commit(ctx)
	g.must(err)
}

func (g *ground) trashSnapshot(key string) (Trashed, error) {
	e, _, err := g.TrashSnapshot(context.Background(), key, time.Now())
	return e, err
}

// TestTrashSnapshot moves a snapshot to the trash, once, where it is kept for the share's time.
func TestTrashSnapshot(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.def.TrashRetention = time.Minute
	g.create("v1", "a")
	g.snapshot("s1", "v1")
	now := time.Unix(1e9, 5)
	e, due, err := g.TrashSnapshot(ctx, "s1", now)
	if err != nil || !due.Equal(now.Add(time.Minute)) || e.Key != "s1" || !e.snapshot() || !e.Recorded() {
		t.Errorf("in the trash is %+v, due %v, %v", e, due, err)
	}
	_, err = g.Snapshot(ctx, "s1")
	g.refused("a snapshot in the trash", err, volume.ErrNotFound, "s1")
	if e, err := g.trashSnapshot("s1"); err != nil || e.Name != "" {
		t.Errorf("again: %+v, %v", e, err)
	}
	entries, err := g.Trashed(ctx)
	g.must(err)
	if len(entries) != 1 || entries[0].Name != e.Name || !entries[0].Deleted.Equal(now) {
		t.Errorf("the trash holds %+v", entries)
	}
	if due, err := g.Due(e); err != nil || !due.Equal(now.Add(time.Minute)) {
		t.Errorf("it is due at %v, %v", due, err)
	}
	if got := g.text(".mooring/trash/" + e.Name + "/data/file"); got != "of s1" {
		t.Errorf("the trash holds %q", got)
	}
}

// TestDamagedSnapshot has a snapshot without a record that can be believed: it is not NotFound.
func TestDamagedSnapshot(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	for _, text := range []string{"", "{}", "null", `{"version": 1, "key": "s2"}`} {
		g.put(".mooring/snapshots/s1/record.json", text)
		_, err := g.Snapshot(ctx, "s1")
		g.refused(text, err, volume.ErrDamaged, "nas1", "s1", "record.json")
	}
	g.must(os.Remove(g.at(".mooring/snapshots/s1/record.json")))
	_, err := g.Snapshot(ctx, "s1")
	g.refused("no record", err, volume.ErrDamaged, "is missing")
}

// TestUsedSnapshot has a volume be the snapshot itself, which stays for as long as the volume.
func TestUsedSnapshot(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.snapshot("s1", "v1")
	g.must(g.Unused(ctx, "s1"))
	g.must(g.Unused(ctx, "none"))
	g.shallow("r1", "s1")
	g.shallow("r2", "s1")
	_, err := g.trashSnapshot("s1")
	g.refused("a snapshot that is used", err, volume.ErrConflict, "s1", "r1, r2", "shallow")
	g.refused("the same", g.Unused(ctx, "s1"), volume.ErrConflict)
	for _, key := range []string{"r1", "r2"} {
		r, err := g.Lookup(ctx, key)
		g.must(err)
		g.must(g.Release(ctx, r))
		g.must(g.Release(ctx, r))
		if g.has(".mooring/volumes/"+key+".json") || g.has(".mooring/snapshots/s1/users/"+key) || !g.has(".mooring/snapshots/s1/data/file") {
			t.Errorf("of %s too much or too little has gone", key)
		}
		if key == "r1" {
			_, err = g.trashSnapshot("s1")
			g.refused("a snapshot that r2 uses", err, volume.ErrConflict, "volume r2 is")
		}
	}
	_, err = g.trashSnapshot("s1")
	g.must(err)

	r := record("r3", volume.SnapshotDirectory("s1"))
	r.Source, r.Shallow = &volume.Source{Object: ofSnapshot("s1"), Share: "nas1"}, true
	m, _, err := g.Begin(ctx, r)
	g.must(err)
	g.refused("a snapshot in the trash", m.UseSnapshot(ctx), volume.ErrNotFound)
}

// TestMarkOfNobody has marks that hinder nothing: of volumes that are gone, or are another's.
func TestMarkOfNobody(t *testing.T) {
	g := newGround(t)
	g.create("v1", "a")
	g.snapshot("s1", "v1")
	g.snapshot("s2", "v1")
	g.shallow("r2", "s2")
	for _, key := range []string{"gone", "v1", "r2"} {
		g.put(".mooring/snapshots/s1/users/"+key, "")
	}
	e, err := g.trashSnapshot("s1")
	g.must(err)
	if left := g.names(".mooring/trash/" + e.Name + "/users"); len(left) != 0 {
		t.Errorf("left are the marks %q", left)
	}
	g.put(".mooring/snapshots/s2/users/odd", "")
	g.put(".mooring/volumes/odd.json", "{")
	_, err = g.trashSnapshot("s2")
	g.refused("on the word of a record that cannot be believed", err, volume.ErrDamaged)
}

// TestCopiedSnapshot has a snapshot be restored: it is deleted neither meanwhile nor, when it
// was in the trash before, purged.
func TestCopiedSnapshot(t *testing.T) {
	g := newGround(t)
	g.create("v1", "a")
	g.snapshot("s1", "v1")
	c := g.beginCopy(ofVolume("v2"), ofSnapshot("s1"))
	_, err := g.trashSnapshot("s1")
	g.refused("a snapshot that is restored", err, volume.ErrBusy, "snapshot s1", "volume v2")
	g.refused("the same", g.Unused(context.Background(), "s1"), volume.ErrBusy)
	c.End()
	e, err := g.trashSnapshot("s1")
	g.must(err)
	c = g.beginCopy(ofVolume("v2"), ofSnapshot("s1"))
	remove := func(int, string) error { return os.RemoveAll(g.at(".mooring/trash/" + e.Name)) }
	g.refused("a purge", g.Purge(e, remove), volume.ErrBusy)
	if !g.has(".mooring/trash/" + e.Name + "/data/file") {
		t.Error("it was purged all the same")
	}
	c.End()
	g.must(g.Purge(e, remove))
}

// TestMarkHindersPurge has a volume come to be a snapshot that is just being deleted: the
// snapshot is brought back, by who deletes or by who purges.
func TestMarkHindersPurge(t *testing.T) {
	for what, hinder := range map[string]func(g *ground) error{
		"deletion": func(g *ground) error {
			g.opt.Step = func(step string) {
				if step == "rename the snapshot into the trash" {
					g.opt.Step = nil
					g.shallow("r1", "s1")
				}
			}
			_, err := g.trashSnapshot("s1")
			return err
		},
		"purge": func(g *ground) error {
			e, err := g.trashSnapshot("s1")
			g.must(err)
			g.must(os.Rename(g.at(".mooring/trash/"+e.Name), g.at(".mooring/snapshots/s1")))
			g.shallow("r1", "s1")
			g.must(os.Rename(g.at(".mooring/snapshots/s1"), g.at(".mooring/trash/"+e.Name)))
			return g.Purge(e, func(int, string) error { t.Error("it is purged"); return nil })
		},
	} {
		g := newGround(t)
		g.create("v1", "a")
		g.snapshot("s1", "v1")
		g.refused(what, hinder(g), volume.ErrConflict, "r1")
		if got := g.text(".mooring/snapshots/s1/data/file"); got != "of s1" || len(g.names(".mooring/trash")) != 0 {
			t.Errorf("%s: the snapshot is %q; the trash holds %q", what, got, g.names(".mooring/trash"))
		}
		if _, err := g.Snapshot(context.Background(), "s1"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUseWhileDeleted has a snapshot go, or be replaced, while a volume comes to be it: the
// volume is told.
func TestUseWhileDeleted(t *testing.T) {
	ctx := context.Background()
	for what, replaced := range map[string]bool{"gone": false, "replaced": true} {
		g := newGround(t)
		g.create("v1", "a")
		g.snapshot("s1", "v1")
		r := record("r1", volume.SnapshotDirectory("s1"))
		r.Source, r.Shallow = &volume.Source{Object: ofSnapshot("s1"), Share: "nas1"}, true
		m, _, err := g.Begin(ctx, r)
		g.must(err)
		g.opt.Step = func(step string) {
			if step == "mark the snapshot as used" {
				g.opt.Step = nil
				g.must(os.Rename(g.at(".mooring/snapshots/s1"), g.at(".mooring/trash/s1.1.snapshot")))
				if replaced {
					g.snapshot("s1", "v1")
				}
			}
		}
		g.refused(what, m.UseSnapshot(ctx), volume.ErrNotFound, "just being deleted")
	}
}
