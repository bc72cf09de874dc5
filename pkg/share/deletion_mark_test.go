// SPDX-License-Identifier: Apache-2.0

package share

import (
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestDeleteAfterChange changes a volume after its deletion has read the record: the deletion
// follows the changed record.
func TestDeleteAfterChange(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "a")
	g.put("a/data", "of v1")
	changed := false
	late := openTestShare(t, g.dir, Options{Maker: otherMaker, Step: func(what string) {
		if what == "mark as being deleted" && !changed {
			changed = true
			_, err := g.Volumes.Update(t.Context(), "v1", func(r *volume.Record) error { r.OnDelete = volume.Retain; return nil })
			g.must(err)
		}
	}})
	g.must(second(late.Volumes.Delete(t.Context(), "v1")))
	if !changed || g.text("a/data") != "of v1" {
		t.Error("its directory was not retained")
	}
}

// TestSealed stops a deletion after it has sealed the holds of a volume and of a snapshot: nobody
// can take a hold any more, and a retry finishes the deletion.
func TestSealed(t *testing.T) {
	g := newTestShare(t)
	withSnapshot(g)
	g.must(second(g.make(shallowRecord("v2", "s1"))))
	g.delete("v2")
	a := &actor{testShare: g}
	a.killed(4, func(b *actor) error { return second(b.Volumes.Delete(b.Context(), "v1")) })
	a.killed(4, func(b *actor) error { return second(b.Snapshots.Delete(b.Context(), "s1", nil)) })
	for _, entry := range []string{"volumes/v1", "snapshots/s1"} {
		if !g.has(".mooring/"+entry+"/deletion/sealed") || !g.has(".mooring/"+entry+"/record.json") {
			t.Fatalf("of %s there is %q", entry, g.names(".mooring/"+entry))
		}
	}
	_, err := g.setCapacity("v1", 9)
	g.wantError("a change", err, volume.ErrNotFound, "v1 is being deleted")
	_, err = g.trySnapshot("s2", "v1", nil)
	g.wantError("a snapshot", err, volume.ErrNotFound, "v1 is being deleted")
	_, err = g.make(shallowRecord("v3", "s1"))
	g.wantError("a volume that is it", err, volume.ErrNotFound, "s1 is being deleted")
	g.delete("v1")
	g.must(second(g.Snapshots.Delete(t.Context(), "s1", nil)))
	entries, err := g.Trash.List(t.Context())
	if err != nil || len(entries) != 2 || !entries[0].Complete() || !entries[1].Complete() {
		t.Errorf("in the trash are %+v, %v", entries, err)
	}
	if left := append(g.names(".mooring/volumes"), g.names(".mooring/snapshots")...); len(left) != 0 {
		t.Errorf("there are still %q", left)
	}
}

// TestHoldUnderSeal seals the holds of a snapshot just before a volume that becomes the snapshot
// takes its hold, and loses the answer to that: the request that is sent again finds the hold,
// which was too late.
func TestHoldUnderSeal(t *testing.T) {
	g := newTestShare(t)
	withSnapshot(g)
	g.must(second(g.make(shallowRecord("v2", "s1"))))
	g.delete("v2")
	sealed := false
	late := openTestShare(t, g.dir, Options{Maker: otherMaker, Step: func(what string) {
		if what != "hold the source" || sealed {
			return
		}
		sealed = true
		a := &actor{testShare: g}
		a.killed(4, func(b *actor) error { return second(b.Snapshots.Delete(b.Context(), "s1", nil)) })
		_, nonce := decodeIdentity([]byte(g.text(".mooring/volumes/v3/making.json")))
		g.put(".mooring/snapshots/s1/deletion/user.v3."+nonce, "")
	}})
	_, err := late.make(shallowRecord("v3", "s1"))
	g.wantError("a volume that is it", err, volume.ErrNotFound, "s1 is being deleted")
	if holds := g.names(".mooring/snapshots/s1/deletion"); len(holds) != 1 || holds[0] != sealName {
		t.Errorf("among the holds is %q", holds)
	}
	g.must(second(g.Snapshots.Delete(t.Context(), "s1", nil)))
}
