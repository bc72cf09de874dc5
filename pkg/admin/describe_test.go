// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"os"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestFind finds volumes by handles, names, entries of the trash and claims.
func TestFind(t *testing.T) {
	p := newPool(t, "a", "b")
	p.create("a", "pvc-1", "one", "shop/db")
	p.create("a", "pvc-2", "two", "shop/old")
	p.create("b", "pvc-3", "three", "shop/twice")
	p.create("b", "pvc-4", "four", "shop/twice")
	p.create("b", "pvc-5", "five", "a/pvc-1")
	p.create("b", "pvc-6", "six", "shop/db")
	p.delete("a", "pvc-2")
	p.delete("b", "pvc-6")
	p.lists()
	s, reported := p.service()
	d := NewDescriber(s)
	entry := trashed(t, s, Filter{Shares: []string{"a"}})[0].Entry
	for _, c := range []struct{ ref, handle, err string }{
		{ref: "a/pvc-1", handle: "a/pvc-1"},
		{ref: "pvc-3", handle: "b/pvc-3"},
		{ref: "shop/db", handle: "a/pvc-1"},
		{ref: "shop/old", handle: "a/pvc-2"},
		{ref: "a/pvc-2", handle: "a/pvc-2"},
		{ref: entry, handle: "a/pvc-2"},
		{ref: "shop/twice", err: "b/pvc-3, b/pvc-4"},
		{ref: "shop/none", err: "there is no volume"},
		{ref: "b/pvc-1", err: "there is no volume"},
		{ref: strings.Repeat("long", 30), err: "there is no volume"},
	} {
		h, err := d.Find(t.Context(), Filter{}, c.ref)
		if c.err == "" && (err != nil || h.String() != c.handle) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %s, %v", c.ref, h, err)
		}
	}
	if said := reported(); said != "" {
		t.Errorf("errors were reported: %s", said)
	}
	p.silent["a"] = volume.Errorf(volume.ErrUnavailable, "share a does not answer")
	if _, err := d.Find(t.Context(), Filter{}, "a/pvc-1"); volume.Kind(err) != volume.ErrUnavailable || reported() != "" {
		t.Errorf("on a silent share: %v, %s", err, reported())
	}
	if h, err := d.Find(t.Context(), Filter{}, "pvc-3"); err != nil || h.Key != "pvc-3" || !strings.Contains(reported(), "does not answer") {
		t.Errorf("with a silent share: %s, %v, %s", h, err, reported())
	}
}

// TestDescribe describes a volume with a snapshot, one that is copied from, and deleted ones.
func TestDescribe(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	p.create("a", "pvc-1", "one", "shop/db")
	sh := p.open("a", share.Options{})
	snapshot, _, err := sh.Snapshots.Begin(ctx, volume.SnapshotRecord{Key: "snap-1", Name: "snap-1", Volume: "pvc-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.BeginCopy(ctx, sh); err != nil {
		t.Fatal(err)
	}
	p.create("a", "pvc-2", "two", "")
	p.delete("a", "pvc-2")
	p.create("a", "pvc-3", "three", "shop/db")
	if err := os.RemoveAll(p.at("a", "three")); err != nil {
		t.Fatal(err)
	}
	p.lists()
	s, reported := p.service()
	describe := func(key string) *Description {
		d, err := NewDescriber(s).Describe(ctx, volume.Handle{Share: "a", Key: key})
		if err != nil || d.Handle != "a/"+key || !d.Share.Reachable || d.Share.Version != "4.2" || d.Share.Writable != nil {
			t.Fatalf("%s: %+v, %v", key, d, err)
		}
		return d
	}
	d := describe("pvc-1")
	if d.Volume == nil || d.Volume.Claim.Name != "db" || !d.Directory.Exists || d.Directory.ClaimedBy != "a/pvc-1" || len(d.Jobs) != 1 || len(d.Trash) != 0 {
		t.Errorf("the volume is %+v", d)
	}
	if d := describe("pvc-2"); d.Volume != nil || d.Directory != nil || len(d.Trash) != 1 || !d.Trash[0].Restorable() || len(d.Jobs) != 0 {
		t.Errorf("the deleted volume is %+v", d)
	}
	if d := describe("pvc-3"); d.Directory.Exists || d.Directory.ClaimedBy != "a/pvc-3" || reported() != "" {
		t.Errorf("the volume without a directory is %+v, %s", d, reported())
	}
	p.damage("a/.mooring/volumes/pvc-3/record.json")
	if d := describe("pvc-3"); d.Volume.State != "unreadable" || !strings.Contains(reported(), "pvc-3") {
		t.Errorf("the unreadable volume is %+v, %s", d, reported())
	}
}

// TestHealth checks shares of which some are not laid out, have another id, or do not answer.
func TestHealth(t *testing.T) {
	p := newPool(t, "a", "b", "c", "d")
	p.open("a", share.Options{})
	p.asIs, p.opt, p.ids = true, share.Options{AnyID: true}, map[string]string{"c": volume.NewShareID()}
	p.silent["d"] = volume.Errorf(volume.ErrUnavailable, "share d does not answer")
	s, reported := p.service()
	got := map[string]Health{}
	if err := NewShares(s).Health(t.Context(), Filter{}, func(h Health) error { got[h.Share] = h; return nil }); err != nil {
		t.Fatal(err)
	}
	for name, problem := range map[string]string{"a": "", "b": "", "c": "id", "d": "does not answer"} {
		h := got[name]
		reachable := name != "d"
		if h.Reachable != reachable || (h.Writable != nil && *h.Writable) != reachable || (h.Free != nil) != reachable || !strings.Contains(h.Problem, problem) || (h.Problem != "") != (problem != "") {
			t.Errorf("the health of %s is %+v", name, h)
		}
	}
	if names, err := os.ReadDir(p.at("a/.mooring/staging")); len(names) > 0 || err != nil {
		t.Errorf("left is %v, %v", names, err)
	}
	if said := reported(); said != "" {
		t.Errorf("errors were reported: %s", said)
	}
}
