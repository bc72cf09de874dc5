// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestTrash lists the trash, with and without records.
func TestTrash(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	short := time.Minute
	kept := map[string]time.Duration{"plain": nas1.TrashRetention, "short": short, "damaged": nas1.TrashRetention}
	deleted := map[string]TrashEntry{}
	for key, keep := range kept {
		r := record(key, key)
		if key == "short" {
			r.Retention = &short
		}
		_, err := g.make(r)
		g.must(err)
		g.put(key+"/data", "of "+key)
		e := g.delete(key)
		if e == nil || e.Key != key || e.Due.Sub(e.Deleted) != keep || !e.Complete() || e.Kind() != "volume" || time.Since(e.Deleted).Abs() > time.Minute {
			t.Fatalf("%s is in the trash as %+v", key, e)
		}
		deleted[key] = *e
	}
	records, err := filepath.Glob(g.at(".mooring/trash/damaged.*.json"))
	g.must(err)
	g.must(os.Truncate(records[0], 7))
	g.put(".mooring/trash/not-ours", "")
	g.put(".mooring/trash/"+volume.TrashID(volume.TrashLeftover, "copy", volume.NewNonce())+"/x", "")
	half := volume.TrashID(volume.TrashVolume, "half", volume.NewNonce())
	g.put(".mooring/trash/"+half+"/x", "")
	all, err := g.Trash.List(ctx)
	g.must(err)
	if len(all) != len(kept)+2 {
		t.Errorf("the trash is %+v", all)
	}
	for _, e := range all {
		switch e.Key {
		case "copy":
			if e.Kind() != "leftover" || !e.HasRecord() || e.Complete() || !e.Due.IsZero() {
				t.Errorf("the leftover of a copy is %+v", e)
			}
			g.must(g.Trash.Purge(e, g.remove))
		case "half":
			if e.HasRecord() || e.Complete() {
				t.Errorf("half a deletion is %+v", e)
			}
			g.wantError("its purge", g.Trash.Purge(e, g.remove), volume.ErrPrecondition, half)
		case "damaged":
			g.wantError("its purge", g.Trash.Purge(e, g.remove), volume.ErrDamaged, "damaged")
			_, _, err := g.Trash.Record(e)
			g.wantError("its record", err, volume.ErrDamaged)
			if e != deleted[e.Key] {
				t.Errorf("it is %+v, and was %+v", e, deleted[e.Key])
			}
		default:
			if e != deleted[e.Key] {
				t.Errorf("it is %+v, and was %+v", e, deleted[e.Key])
			}
			r, s, err := g.Trash.Record(e)
			if err != nil || s != nil || r.Key != e.Key {
				t.Errorf("its record is %+v, %+v, %v", r, s, err)
			}
			g.must(g.Trash.Purge(e, g.remove))
		}
	}
	if n := len(g.names(".mooring/trash")); n != 4 { // the damaged one, with its record, half a deletion, another's
		t.Errorf("the trash holds %q", g.names(".mooring/trash"))
	}
}

// TestPurgeOrder checks that the record is removed last, and stays if the data does.
func TestPurgeOrder(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "a")
	wrong := errors.New("no")
	if err := g.Trash.Purge(e, func(int, string) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("a purge that failed: %v", err)
	}
	all, err := g.Trash.List(t.Context())
	if err != nil || len(all) != 1 || !all[0].Purging() || all[0].Complete() || !all[0].HasRecord() {
		t.Errorf("the trash is %+v, %v", all, err)
	}
	for _, e := range []TrashEntry{e, all[0], all[0], e} {
		g.must(g.Trash.Purge(e, g.remove))
	}
	if len(g.names(".mooring/trash")) != 0 {
		t.Errorf("the trash holds %q", g.names(".mooring/trash"))
	}
}

// TestPurgeFinishes stops a deletion after its record came into the trash: a purge releases what it
// has left, and nothing of a volume that came after it.
func TestPurgeFinishes(t *testing.T) {
	for _, successor := range []string{"", "v1", "v2"} {
		for _, at := range []string{"remove the entry", "release the claim"} {
			g := newTestShare(t)
			g.create("v1", "team/a")
			g.put("team/a/data", "of v1")
			s := scenarioRun{t, scenario{run: func(a *actor) (string, error) {
				_, err := a.Volumes.Delete(a.Context(), "v1")
				return "", err
			}}, sameView}
			for n := 1; ; n++ {
				if now := s.runKilled(g.view, nil, n); now == at || now == "" {
					break
				}
			}
			var image []string
			if successor != "" && at == "release the claim" { // before it the entry is in the way
				image = createSuccessor(g, successor, "team/a")
			}
			g.must(g.purge())
			if image != nil {
				checkVolume(g, successor, "team/a", image)
				continue
			}
			if owner, err := g.Directories.Owner(t.Context(), "team/a"); err != nil || owner != "" || len(g.names(".mooring/volumes")) > 0 {
				t.Errorf("killed before %q: the directory is that of %q, %v; there are the volumes %q", at, owner, err, g.names(".mooring/volumes"))
			}
		}
	}
}

// TestArchive checks that another name is used if the first is taken, and the error if all are.
func TestArchive(t *testing.T) {
	g := newTestShare(t)
	g.put("team/archived-a/file", "first")
	for _, key := range []string{"v1", "v2"} {
		r := record(key, "team/a")
		r.OnDelete = volume.Archive
		_, err := g.make(r)
		g.must(err)
		g.put("team/a/file", key)
		for range 2 {
			if e := g.delete(key); e != nil {
				t.Errorf("in the trash is %+v", e)
			}
		}
		owner, err := g.Directories.Owner(t.Context(), "team/a")
		if g.has("team/a") || g.state(key) >= Making || owner != "" || err != nil {
			t.Errorf("%s still exists (%q, %v)", key, owner, err)
		}
	}
	found := map[string]bool{}
	all, _ := filepath.Glob(g.at("team/archived-a*/file"))
	for _, file := range all {
		data, _ := os.ReadFile(file)
		found[string(data)] = true
	}
	if len(all) != 3 || !found["first"] || !found["v1"] || !found["v2"] {
		t.Errorf("archived are %q, with %v", all, found)
	}
	if left := g.names(".mooring/claims/team/taken"); len(left) > 0 {
		t.Errorf("left are the claims %q", left)
	}

	r := record("v3", "b")
	r.OnDelete = volume.Archive
	made, err := g.make(r)
	g.must(err)
	g.put("b/file", "of v3")
	for _, suffix := range []string{"", "-" + made.Nonce[:8], "-" + made.Nonce[:8] + "-2", "-" + made.Nonce[:8] + "-3", "-" + made.Nonce[:8] + "-4"} {
		g.put(volume.ArchiveName("b", suffix)+"/x", "")
	}
	for range 2 {
		_, err = g.Volumes.Delete(t.Context(), "v3")
		g.wantError("where all names are taken", err, volume.ErrPrecondition, "archived-b", "move the older archives away")
		if g.text("b/file") != "of v3" {
			t.Error("the volume's file is not in its place")
		}
	}
	g.must(os.RemoveAll(g.at("archived-b")))
	g.delete("v3")
	if g.text("archived-b/file") != "of v3" {
		t.Error("it was not archived")
	}
}

// TestArchiveIsClaimed makes a volume of the archived name just before the rename to it.
func TestArchiveIsClaimed(t *testing.T) {
	g := newTestShare(t)
	r := record("v1", "a")
	r.OnDelete = volume.Archive
	_, err := g.make(r)
	g.must(err)
	g.put("a/file", "of v1")
	g.beforeStep("rename the directory to its archived name", func() {
		r := record("v2", "archived-a") // which exists, and is empty
		r.Adopt, r.Adopted = true, true
		_, err := openTestShare(t, g.dir, Options{Maker: otherMaker}).make(r)
		g.wantError("the archived name", err, volume.ErrBusy, "v1")
	})
	g.delete("v1")
	if g.text("archived-a/file") != "of v1" {
		t.Error("it was not archived")
	}
	g.create("v3", "archived-b")
	r = record("v4", "b")
	r.OnDelete = volume.Archive
	_, err = g.make(r)
	g.must(err)
	g.put("b/file", "of v4")
	g.delete("v4")
	if len(g.names("archived-b")) > 0 || len(g.find("file")) != 2 {
		t.Errorf("the files are at %q", g.find("file"))
	}
}

// TestRetain deletes a volume and keeps its directory.
func TestRetain(t *testing.T) {
	g := newTestShare(t)
	r := record("v1", "a")
	r.OnDelete = volume.Retain
	_, err := g.make(r)
	g.must(err)
	g.put("a/file", "")
	image := g.image("a")
	for range 2 {
		if e := g.delete("v1"); e != nil {
			t.Errorf("in the trash is %+v", e)
		}
	}
	owner, err := g.Directories.Owner(t.Context(), "a")
	if strings.Join(image, "") != strings.Join(g.image("a"), "") || owner != "" || err != nil || g.state("v1") >= Making || len(g.names(".mooring/trash")) > 0 {
		t.Error("too much or too little was removed")
	}
}

// TestVanished deletes volumes whose directory was removed by hand.
func TestVanished(t *testing.T) {
	for _, on := range []volume.OnDelete{volume.Delete, volume.Archive, volume.Retain} {
		g := newTestShare(t)
		r := record("v1", "team/a")
		r.OnDelete = on
		_, err := g.make(r)
		g.must(err)
		g.must(os.RemoveAll(g.at("team")))
		if e := g.delete("v1"); e != nil || g.state("v1") >= Making || g.has("team") {
			t.Errorf("%s: in the trash is %+v", on, e)
		}
		if left := clearShare(g.withExpiredLease()); len(left) > 0 {
			t.Errorf("%s: in the end there is %q", on, left)
		}
	}
}

// TestClocks has a controller whose clock is years ahead, or behind: what it deletes is due by the
// server's clock, and what another process has just begun is not abandoned.
func TestClocks(t *testing.T) {
	g := newTestShare(t)
	g.begin(record("busy", "busy")).Close()
	for key, at := range map[string]time.Time{"behind": {}, "ahead": time.Unix(4e9, 0)} {
		g.create(key, key)
		synctest.Test(t, func(t *testing.T) {
			if !at.IsZero() {
				time.Sleep(time.Until(at)) // its clock does not move by itself
			}
			s, err := Open(g.dir, nas1, Options{Maker: otherMaker})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			e, err := s.Volumes.Delete(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			if off := time.Since(e.Deleted); off.Abs() < 1000*time.Hour {
				t.Errorf("the clocks differ by %v only", off)
			}
			if e.Due.Sub(e.Deleted) != nas1.TrashRetention {
				t.Errorf("it is due after %v", e.Due.Sub(e.Deleted))
			}
			if _, err := s.Volumes.Delete(t.Context(), "busy"); volume.Kind(err) != volume.ErrBusy {
				t.Errorf("%s: what another has just begun: %v", key, err)
			}
		})
	}
	all, err := g.Trash.List(t.Context())
	g.must(err)
	for _, e := range all {
		if time.Since(e.Deleted).Abs() > time.Minute {
			t.Errorf("by the server's clock it was deleted at %v", e.Deleted)
		}
	}
	if len(all) != 2 {
		t.Errorf("the trash is %+v", all)
	}
}

// TestTidyLater finds the parents that an earlier process has left, and keeps them as long as
// another controller may still use them.
func TestTidyLater(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "a/b/c")
	g.delete("v1")
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(g.dir, nas1, Options{Maker: maker})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		tidy := func() {
			t.Helper()
			if err := s.Tidy(t.Context(), ParentIdle); err != nil {
				t.Fatal(err)
			}
		}
		tidy() // it finds them for the first time
		time.Sleep(ParentIdle - time.Nanosecond)
		tidy()
		if !g.has("a/b") {
			t.Fatal("a parent was removed too early")
		}
		time.Sleep(time.Nanosecond)
		tidy()
		if g.has("a") {
			t.Error("a parent was not removed")
		}
	})
}
