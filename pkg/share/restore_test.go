// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const intoPlace = "rename the tree into its place"

// TestRestore restores volumes: as they were, elsewhere, and only once.
func TestRestore(t *testing.T) {
	ctx := t.Context()
	for _, directory := range []string{"", "x/y"} {
		g := newTestShare(t)
		e := g.createDeleted("v1", "a/b")
		g.must(os.Chmod(g.at(".mooring/trash/"+e.Name), 0o1751))
		was, _, err := g.Trash.Record(e)
		g.must(err)
		r, err := g.Volumes.Restore(ctx, e, directory)
		g.must(err)
		at := "a/b"
		if directory != "" {
			at = directory
		}
		info, err := os.Stat(g.at(at))
		if err != nil || info.Mode().Perm() != 0o751 || g.text(at+"/data") != "of v1" || r.Directory != at || g.state("v1") != Ready {
			t.Errorf("it is brought back as %+v: %v, %v", r, info, err)
		}
		if r.Restored.Entry != e.Name || !r.Restored.Due.Equal(e.Due) || r.Nonce == was.Nonce || !r.Created.Equal(was.Created) {
			t.Errorf("its record is %+v, and was %+v", r, was)
		}
		if left := g.names(".mooring/trash"); len(left) > 0 {
			t.Errorf("in the trash is %q", left)
		}
		for range 2 { // a retry
			again, err := g.Volumes.Restore(ctx, e, directory)
			if err != nil || again.Nonce != r.Nonce {
				t.Errorf("again: %+v, %v", again, err)
			}
			if again, err = g.Volumes.LookupRestored(ctx, "v1"); err != nil || again.Nonce != r.Nonce {
				t.Errorf("again: %+v, %v", again, err)
			}
		}
		e = *g.delete("v1")
		_, err = g.Volumes.LookupRestored(ctx, "v1")
		g.wantError("deleted again", err, volume.ErrNotFound)
		g.create("v1", "c")
		_, err = g.Volumes.Restore(ctx, e, "")
		g.wantError("while another volume has its name", err, volume.ErrPrecondition, "v1")
		_, err = g.Volumes.LookupRestored(ctx, "v1")
		g.wantError("another", err, volume.ErrNotFound)
		g.delete("v1")
		g.create("v2", at)
		_, err = g.Volumes.Restore(ctx, e, "")
		g.wantError("while another volume has its directory", err, volume.ErrPrecondition, "v2")
		if g.text(".mooring/trash/"+e.Name+"/data") != "of v1" {
			t.Error("a refusal has changed something")
		}
	}
}

// TestRestoreMeanwhile lets other processes interfere just before the tree is placed.
func TestRestoreMeanwhile(t *testing.T) {
	ctx := t.Context()
	t.Run("deleted", func(t *testing.T) {
		g := newTestShare(t)
		e := g.createDeleted("v1", "a/b")
		g.beforeStep(intoPlace, func() { g.withExpiredLease().delete("v1") })
		_, err := g.Volumes.Restore(ctx, e, "")
		g.wantError("a volume that is deleted meanwhile", err, volume.ErrBusy, "undone by another process")
		all, err := g.Trash.List(ctx)
		// The former entry of the trash has no tree any more, and goes when it is due.
		all = slices.DeleteFunc(all, func(t TrashEntry) bool { return t.Name == e.Name && !t.Complete() })
		if err != nil || len(all) != 1 || !all[0].Complete() || !all[0].Due.Equal(e.Due) || !all[0].Deleted.Equal(e.Deleted) || all[0].Name == e.Name {
			t.Errorf("in the trash is %+v (%v), and was %+v", all, err, e)
		}
		if g.has("a/b") || g.state("v1") >= Making {
			t.Error("it exists again")
		}
		_, err = g.Volumes.Restore(ctx, e, "")
		g.wantError("under its old name", err, volume.ErrNotFound, "nothing is left of "+e.Name)
		_, err = g.Volumes.Restore(ctx, all[0], "")
		g.must(err)
	})
	t.Run("purged", func(t *testing.T) {
		g := newTestShare(t)
		e := g.createDeleted("v1", "a/b")
		g.beforeStep("take the tree out of the trash", func() { g.must(g.withExpiredLease().purge()) })
		_, err := g.Volumes.Restore(ctx, e, "")
		g.wantError("a volume that is purged meanwhile", err, volume.ErrNotFound, "nothing is left of "+e.Name)
		if owner, err := g.Directories.Owner(ctx, "a/b"); g.has("a/b") || g.state("v1") >= Making || owner != "" || err != nil {
			t.Errorf("something of it is left (%q, %v)", owner, err)
		}
	})
	t.Run("taken over", func(t *testing.T) {
		g := newTestShare(t)
		e := g.createDeleted("v1", "a/b")
		g.beforeStep(intoPlace, func() {
			patient := openTestShare(t, g.dir, Options{Maker: otherMaker})
			_, err := patient.Volumes.Restore(ctx, e, "c")
			g.wantError("to bring back what another is at", err, volume.ErrBusy)
		})
		r, err := g.Volumes.Restore(ctx, e, "")
		if err != nil || r.Directory != "a/b" {
			t.Errorf("it is brought back as %+v, %v", r, err)
		}
	})
}

// TestRestoreNotOurs puts a directory where a volume is to be restored: it is not taken for the
// volume.
func TestRestoreNotOurs(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "a")
	g.put("a/foreign", "x")
	for range 2 {
		_, err := g.Volumes.Restore(t.Context(), e, "")
		g.wantError("a directory that is not the volume's", err, volume.ErrPrecondition, `"a"`)
	}
	if g.text("a/foreign") != "x" || g.state("v1") >= Making || g.text(".mooring/trash/"+e.Name+"/data") != "of v1" {
		t.Error("too much has changed")
	}
	_, err := g.Volumes.Restore(t.Context(), e, "b")
	g.must(err)
}

// TestRestorable has entries of the trash that are no complete volumes.
func TestRestorable(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "a")
	half, purging := e, e
	half.recorded, purging.purging = false, true
	for what, c := range map[string]struct {
		e    TrashEntry
		kind error
		say  string
	}{
		"half a deletion":  {half, volume.ErrPrecondition, "no record yet"},
		"half a purge":     {purging, volume.ErrNotFound, "is being purged"},
		"a snapshot":       {TrashEntry{Name: "s", Key: "s", kind: volume.TrashSnapshot, hasTree: true}, volume.ErrPrecondition, "is a snapshot"},
		"a copy's remains": {TrashEntry{Name: "s", Key: "s", kind: volume.TrashLeftover, hasTree: true}, volume.ErrPrecondition, "never was a volume"},
	} {
		_, err := g.Volumes.Restore(t.Context(), c.e, "")
		g.wantError(what, err, c.kind, c.say)
	}
	_, err := g.Volumes.Restore(t.Context(), e, "../b")
	g.wantError("outside the share", err, volume.ErrInvalid, `".."`)
	if !e.Complete() || g.text(".mooring/trash/"+e.Name+"/data") != "of v1" || g.state("v1") >= Making {
		t.Error("a refusal has changed something")
	}
}

// TestRestoreElsewhereLeaves restores a volume to another directory: nothing is left of its claim
// on the first, and a claim of another volume there stays.
func TestRestoreElsewhereLeaves(t *testing.T) {
	for _, another := range []bool{false, true} {
		g := newTestShare(t)
		e := g.createDeleted("v1", "first")
		if another {
			g.create("v2", "first")
		}
		r, err := g.Volumes.Restore(t.Context(), e, "second")
		g.must(err)
		if r.Directory != "second" || g.has(".mooring/claims/first/taken") != another || g.has(".mooring/claims/first") != another {
			t.Errorf("another %v: it is in %q, and there are %q", another, r.Directory, g.tree())
		}
		if left := clearShare(g); len(left) > 0 {
			t.Errorf("another %v: in the end there is %q", another, left)
		}
	}
}
