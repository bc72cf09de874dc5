// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestTrash(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a", "b")
	p.create("a", "pvc-1", "one", "shop/db")
	p.create("a", "pvc-2", "two", "play/x")
	if err := os.WriteFile(p.at("a/one/data"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.delete("a", "pvc-1")
	p.delete("a", "pvc-2")
	s, reported := p.service()
	all := trashed(t, s, Filter{Namespace: "shop"})
	if len(all) != 1 || all[0].Handle != "a/pvc-1" || all[0].State != "whole" || all[0].Directory != "one" || all[0].Due.Sub(all[0].Deleted) != time.Hour {
		t.Fatalf("in the trash is %+v", all)
	}
	for _, ref := range []string{"pvc-1", "b/pvc-1", "a/pvc-3", "x/pvc-1"} {
		if _, _, err := s.Restore(ctx, Filter{}, ref, ""); err == nil || !strings.Contains(err.Error(), strings.Split(ref, "/")[0]) {
			t.Errorf("%s is brought back: %v", ref, err)
		}
	}
	if name, r, err := s.DeletedRecord(ctx, Filter{Shares: []string{"a"}}, "pvc-1"); err != nil || name != "a" || r.PVC.Name != "db" {
		t.Errorf("the deleted one is %s, %+v, %v", name, r, err)
	}
	if name, r, err := s.Restore(ctx, Filter{}, all[0].Entry, "else/where"); err != nil || name != "a" || r.Directory != "else/where" {
		t.Errorf("brought back is %s, %+v, %v", name, r, err)
	}
	if _, err := os.Stat(p.at("a/else/where/data")); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{"a/pvc-1", all[0].Entry} {
		if _, r, err := s.Restore(ctx, Filter{}, ref, ""); err != nil || r.Directory != "else/where" {
			t.Errorf("brought back again is %+v, %v", r, err)
		}
		if _, r, err := s.DeletedRecord(ctx, Filter{}, ref); err != nil || r.Key != "pvc-1" {
			t.Errorf("the one that is back is %+v, %v", r, err)
		}
	}
	p.delete("a", "pvc-1")
	var purged []string
	each := func(d Purged) error { purged = append(purged, strings.Split(d.Entry, ".")[0]); return nil }
	if err := s.Purge(ctx, Filter{}, []string{"a/pvc-1", "a/pvc-9"}, each); err != nil || !strings.Contains(reported(), "a/pvc-9 is not in the trash") {
		t.Errorf("a purge ends with %v, and %q", err, reported())
	}
	same(t, "purged", purged, "a/pvc-1")
	if err := s.Purge(ctx, Filter{}, nil, each); err != nil || len(trashed(t, s, Filter{})) != 0 {
		t.Errorf("a purge of all ends with %v, and there is %+v", err, trashed(t, s, Filter{}))
	}
	same(t, "purged", purged, "a/pvc-1", "a/pvc-2")
}

// TestTwice has one handle in the trash twice: the user has to say which.
func TestTwice(t *testing.T) {
	p := newPool(t, "a")
	for range 2 {
		p.create("a", "pvc-1", "one", "shop/db")
		p.delete("a", "pvc-1")
	}
	s, _ := p.service()
	if _, _, err := s.Restore(t.Context(), Filter{}, "a/pvc-1", ""); err == nil || !strings.Contains(err.Error(), "in the trash 2 times: say which one: a/pvc-1.") {
		t.Errorf("it is %v", err)
	}
}

// TestTrashStates has entries that are not whole, and others whose records cannot be read: they
// are listed, and not purged.
func TestTrashStates(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	for _, key := range []string{"good", "damaged", "directory", "unfinished", "empty", "purging"} {
		p.create("a", "pvc-"+key, key, "shop/db")
		if key != "unfinished" {
			p.delete("a", "pvc-"+key)
		}
	}
	p.until("a", share.Options{}, at("move the record into the trash"), func(s *share.Share) error {
		_, err := s.Volumes.Delete(ctx, "pvc-unfinished")
		return err
	})
	if err := os.Mkdir(p.at("a", ".mooring/trash", volume.TrashID(volume.TrashLeftover, "pvc-left", volume.NewNonce())), 0o700); err != nil {
		t.Fatal(err)
	}
	s, reported := p.service()
	names := map[string]string{} // of the trees
	for _, d := range trashed(t, s, Filter{}) {
		names[d.trashed.Key] = p.at("a/.mooring/trash", d.trashed.Name)
	}
	record := func(key string) string {
		t.Helper()
		found, err := filepath.Glob(names[key] + ".*.json")
		if err != nil || len(found) != 1 {
			t.Fatalf("the records of %s are %q, %v", key, found, err)
		}
		return found[0]
	}
	for _, err := range []error{
		os.Truncate(record("pvc-damaged"), 9),
		os.Remove(record("pvc-directory")), os.Mkdir(record("pvc-purging")+".not-ours", 0o700),
		os.Remove(names["pvc-empty"]), os.Rename(names["pvc-purging"], names["pvc-purging"]+".purging"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := os.Mkdir(p.at("a/.mooring/trash", volume.TrashRecordName(filepath.Base(names["pvc-directory"]), now, now)), 0o700); err != nil {
		t.Fatal(err)
	}
	show := func(f Filter) (all []string) {
		t.Helper()
		for _, d := range trashed(t, s, f) {
			if timed := d.State != "unfinished" && d.State != "leftover"; timed == d.Deleted.IsZero() || timed == d.Due.IsZero() {
				t.Errorf("the times of what is %s are %v and %v", d.State, d.Deleted, d.Due)
			}
			all = append(all, d.trashed.Key+" "+d.State)
		}
		slices.Sort(all)
		return all
	}
	same(t, "the trash", show(Filter{}), "pvc-damaged unreadable", "pvc-directory unreadable", "pvc-empty empty",
		"pvc-good whole", "pvc-left leftover", "pvc-purging purging", "pvc-unfinished unfinished")
	same(t, "the trash of a namespace", show(Filter{Namespace: "shop"}), "pvc-empty empty", "pvc-good whole", "pvc-purging purging")
	if said := reported(); !strings.Contains(said, "pvc-damaged cannot be believed") || !strings.Contains(said, "pvc-directory") {
		t.Errorf("reported is %q", said)
	}
	each := func(Purged) error { return nil }
	kept := []string{"pvc-damaged unreadable", "pvc-directory unreadable", "pvc-unfinished unfinished"}
	if err := s.Purge(ctx, Filter{}, nil, each); err != nil {
		t.Error(err)
	}
	same(t, "what a purge of all leaves", show(Filter{}), kept...)
	if err := s.Purge(ctx, Filter{}, []string{"a/pvc-damaged", "a/pvc-directory", "a/pvc-unfinished"}, each); err != nil {
		t.Error(err)
	}
	same(t, "what is left of a purge by name", show(Filter{}), kept...)
	for _, key := range []string{"pvc-damaged", "pvc-directory", "pvc-unfinished"} {
		if _, _, err := s.Restore(ctx, Filter{}, "a/"+key, ""); err == nil {
			t.Errorf("%s is brought back", key)
		}
	}
}

// TestInterrupted brings a volume back whose Restore has died before it took its nth step, by
// its handle and by the entry that it was.
func TestInterrupted(t *testing.T) {
	ctx := t.Context()
	n, died := 0, true
	for ; died; n++ {
		for _, by := range []string{"handle", "entry"} {
			p := newPool(t, "a")
			p.create("a", "pvc-1", "one", "shop/db")
			if err := os.WriteFile(p.at("a/one/data"), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
			p.delete("a", "pvc-1")
			s, _ := p.service()
			entry := trashed(t, s, Filter{})[0]
			steps, last := 0, ""
			died = p.until("a", share.Options{}, func(step string) bool {
				steps, last = steps+1, step
				return steps > n
			}, func(s *share.Share) error {
				_, err := s.Volumes.Restore(ctx, entry.trashed, "")
				return err
			})
			ref := map[string]string{"handle": entry.Handle, "entry": entry.Entry}[by]
			what := fmt.Sprintf("by its %s, after %d steps, before %q", by, n, last)
			if _, r, err := s.DeletedRecord(ctx, Filter{}, ref); err != nil || r.PVC.Name != "db" {
				t.Errorf("%s: the deleted one is %+v, %v", what, r, err)
			}
			if _, r, err := s.Restore(ctx, Filter{}, ref, ""); err != nil || r.Directory != "one" {
				t.Errorf("%s: brought back is %+v, %v", what, r, err)
			}
			if _, err := os.Stat(p.at("a/one/data")); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			same(t, what, handles(t, s, Filter{}), "a/pvc-1")
			for _, d := range trashed(t, s, Filter{}) {
				if d.State != "empty" {
					t.Errorf("%s: in the trash is %+v", what, d)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("there are only %d steps", n)
	}
}

// TestWaits has another process die while it brings a volume back: who comes next leaves it alone
// for the time of a lease.
func TestWaits(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	p.opt.Lease = 2 * time.Second
	p.create("a", "pvc-1", "one", "shop/db")
	p.delete("a", "pvc-1")
	s, _ := p.service()
	entry := trashed(t, s, Filter{})[0]
	begun := time.Now()
	p.until("a", share.Options{Maker: "ffffffff"}, at("rename the tree into its place"), func(s *share.Share) error {
		_, err := s.Volumes.Restore(ctx, entry.trashed, "")
		return err
	})
	if _, r, err := s.Restore(ctx, Filter{}, entry.Entry, ""); err != nil || r.Directory != "one" {
		t.Errorf("brought back is %+v, %v", r, err)
	}
	if took := time.Since(begun); took < p.opt.Lease {
		t.Errorf("it took %v only", took)
	}
}
