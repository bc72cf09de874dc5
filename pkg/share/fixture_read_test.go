// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// reopen opens an unpacked share as a controller that starts later.
func reopen(g *testShare) *testShare {
	g.Helper()
	return openTestShare(g.T, g.dir, Options{Maker: otherMaker, beforeRename: refuseByProject})
}

// fixtureVolumes returns the healthy volumes of the fixture, and their data.
func fixtureVolumes() map[string]string {
	return map[string]string{
		"plain": "data of plain", "nested": "data of nested", "changed": "data of changed",
		volume.KeyFor("odd/name"): "data of " + volume.KeyFor("odd/name"),
		"adopted":                 "data of adopted", "clone": "copy of plain", "restored": "copy of plain",
		"shallow": "copy of nested", "back": "data of back", "moved": "data of moved",
	}
}

// The names of each kind.
var inState = map[volume.ObjectKind]string{volume.ObjectVolume: "volumes", volume.ObjectSnapshot: "snapshots", ofGroup: "groups"}

// stateOf returns the state of a volume, snapshot or group.
func stateOf(g *testShare, kind volume.ObjectKind, key string) State {
	g.Helper()
	t := map[volume.ObjectKind]*table{volume.ObjectVolume: g.Volumes.table, volume.ObjectSnapshot: g.Snapshots.table, ofGroup: g.Groups.table}[kind]
	e, s, err := t.read(key)
	if isMissing(err) {
		return Empty
	}
	g.must(err)
	e.close()
	return s.state
}

// contentOf returns the data of a volume's directory, for example "data of v1".
func contentOf(g *testShare, directory string) string {
	for _, file := range []string{"data", "copy"} {
		if text, ok := strings.CutSuffix(g.text(directory+"/"+file), "\n"); ok {
			return file + " " + text
		}
	}
	return ""
}

// sameLists fails the test unless two lists are equal.
func sameLists(g *testShare, what string, got, want []string) {
	g.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if d := diffLines(got, want); d != "" || len(got) != len(want) {
		g.Errorf("%s%s: %d, not %d\n%s", g.label, what, len(got), len(want), d)
	}
}

// TestFixtureVolumes reads every record of the fixture.
func TestFixtureVolumes(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		ctx := t.Context()
		g = reopen(g)
		checkVolumes(g)
		r, err := g.Volumes.Lookup(ctx, volume.KeyFor("odd/name"))
		g.must(err)
		if r.Name != "odd/name" || r.Directory != "shop/<db> & ä" || r.Capacity != 5<<30 || *r.Mode != 0o2770 || r.UID == nil || r.GID != nil ||
			*r.Retention != 24*time.Hour || r.RequestedOnDelete != volume.Archive || r.OnDelete != volume.Archive || *r.PVC != (volume.PVC{Namespace: "shop", Name: "db"}) || r.Maker != "controller-0" {
			t.Errorf("the odd one is %+v", r)
		}
		for key, good := range map[string]func(r *StoredRecord) bool{
			"adopted":  func(r *StoredRecord) bool { return r.Adopt && r.Adopted && r.OnDelete == volume.Retain },
			"changed":  func(r *StoredRecord) bool { return r.Capacity == 7 },
			"clone":    func(r *StoredRecord) bool { return r.Source.String() == "volume nas1/plain" },
			"restored": func(r *StoredRecord) bool { return r.Source.String() == "snapshot nas1/snap" && !r.Shallow },
			"shallow":  func(r *StoredRecord) bool { return r.Source.String() == "snapshot nas1/shared" && r.Shallow },
			"back":     func(r *StoredRecord) bool { return strings.HasPrefix(r.Restored.Entry, "back.") },
			"moved":    func(r *StoredRecord) bool { return r.Directory == "elsewhere/moved" },
		} {
			if r, err := g.Volumes.Lookup(ctx, key); err != nil || !good(r) {
				t.Errorf("%s is %+v, %v", key, r, err)
			}
		}
		for _, h := range interruptedOps() {
			if was := stateOf(g, h.of, h.key); was != h.left {
				t.Errorf("%s %s is in state %d, not %d", h.of, h.key, was, h.left)
			}
		}
	})
}

// checkVolumes fails the test unless each healthy volume is unchanged.
func checkVolumes(g *testShare) {
	g.Helper()
	for key, content := range fixtureVolumes() {
		r, err := g.Volumes.Lookup(g.Context(), key)
		if err != nil || r.State != Ready || contentOf(g, r.Directory) != content {
			g.Errorf("%svolume %s is %+v, %v", g.label, key, r, err)
			continue
		}
		if owner, err := g.Directories.Owner(g.Context(), r.Directory); !r.Shallow && (err != nil || owner != key) {
			g.Errorf("%sthe owner of the directory %q is %q, %v", g.label, r.Directory, owner, err)
		}
	}
}

// TestFixtureSnapshots reads snapshots and groups, and cannot delete those in use.
func TestFixtureSnapshots(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		ctx := t.Context()
		g = reopen(g)
		for key, content := range map[string]string{"snap": "plain", "shared": "nested", "outlived": "deleted-since", "group.plain": "plain", "group.nested": "nested"} {
			r, err := g.Snapshots.Lookup(ctx, key)
			if err != nil || r.Volume != content || r.Size != 7 || !r.Plain || contentOf(g, volume.SnapshotDirectory(key)) != "copy of "+content {
				t.Errorf("snapshot %s is %+v, %v", key, r, err)
			}
		}
		group, err := g.Groups.Lookup(ctx, "group")
		if err != nil || group.State != Ready || len(group.Members) != 2 || g.Groups.Commit(ctx, group) != nil {
			t.Errorf("the group is %+v, %v", group, err)
		}
		_, err = g.Snapshots.Delete(ctx, "shared", nil)
		g.wantError("to delete what a volume is", err, volume.ErrPrecondition, "volume shallow")
		g.must(second(g.Volumes.Delete(ctx, "shallow")))
		g.must(second(g.Snapshots.Delete(ctx, "shared", nil)))
		// The copies that held it are dead.
		g.must(second(g.Volumes.Delete(ctx, "plain")))
	})
}

// TestFixtureClaims cannot create a volume in any directory of the fixture.
func TestFixtureClaims(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		g = reopen(g)
		for _, directory := range []string{"plain", "plain/x", "team", "team/app", "team/app/nested", "elsewhere", "elsewhere/moved", "shop", "old", "old/x", "create-4", "delete-1/x", "restore-4"} {
			_, err := g.make(record("new", directory))
			if kind := volume.Kind(err); kind != volume.ErrPrecondition && kind != volume.ErrBusy {
				t.Errorf("create a volume in %q: %v", directory, err)
			}
		}
		for _, directory := range []string{"delete-5", "delete-6", "team/new", "below/new", "tidy-3/x"} {
			g.must(second(g.make(record(strings.ReplaceAll(directory, "/", "-"), directory))))
		}
		checkVolumes(g)
	})
}

// copiesLeft are the copies of the fixture that another controller continues.
var copiesLeft = []string{
	"volume clone-1", "volume clone-2", "volume clone-3", "volume clone-4", "volume fill-1", "volume fill-2", "volume refill-1", "volume refill-2", "volume refill-3",
	"snapshot snap-1", "snapshot snap-2", "snapshot snap-3",
}

// TestFixtureRetry retries what was interrupted on the fixture: all of it finishes.
func TestFixtureRetry(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		g = reopen(g)
		copies, err := g.Jobs.Abandoned(t.Context())
		g.must(err)
		var of []string
		for _, c := range copies {
			of = append(of, c.Target.String())
		}
		sameLists(g, "the copies", of, slices.Clone(copiesLeft))
		for _, h := range interruptedOps() {
			runAgain(g, h)
		}
		checkVolumes(g)
		allowed := append(slices.Clone(unsolvableProblems), "warning volumes/plain/deletion/copy.snapshot.unmake-2.NONCE", "warning volumes/plain/deletion/copy.volume.unclone-7.NONCE")
		for _, p := range problemsOf(g) {
			if !strings.HasPrefix(p, "note ") && !slices.Contains(allowed, p) {
				t.Errorf("still there: %s", p)
			}
		}
	})
}

// runAgain retries an operation, and fails the test unless it finishes.
func runAgain(g *testShare, h interruptedOp) {
	g.Helper()
	if err := h.run(g, h.key); err != nil {
		g.Errorf("%s%s, stopped before %q, again: %v", g.label, h.key, h.at, err)
		return
	}
	if state := stateOf(g, h.of, h.key); state != h.ends {
		g.Errorf("%s%s, stopped before %q, is in state %d again, not %d", g.label, h.key, h.at, state, h.ends)
	}
	kind, _, _ := strings.Cut(h.key, "-")
	if e := findTrashed(g, h.key); kind == "unrestore" && (!e.Complete() || contentOf(g, ".mooring/trash/"+e.Name) != "data of "+h.key) {
		g.Errorf("%s%s, stopped before %q, is in the trash as %+v", g.label, h.key, h.at, e)
	}
	if h.of != volume.ObjectVolume || h.ends != Ready {
		return
	}
	r, err := g.Volumes.Lookup(g.Context(), h.key)
	g.must(err)
	want := map[string]string{"clone": "copy of plain", "fill": "copy of plain", "refill": "copy of plain", "share": "copy of plain", "adopt": "data of " + h.key, "update": "data of " + h.key, "restore": "data of " + h.key}
	if got := contentOf(g, r.Directory); got != want[kind] {
		g.Errorf("%s%s, stopped before %q, contains %q again, not %q", g.label, h.key, h.at, got, want[kind])
	}
}

// problemsOf returns what a check reports, without the messages and without what differs between runs.
func problemsOf(g *testShare) (all []string) {
	g.Helper()
	for _, p := range checked(g, 0, nil) {
		where, _, _ := strings.Cut(p, ": ")
		all = append(all, dates.ReplaceAllString(nonces.ReplaceAllString(where, "NONCE"), ".TIMES"))
	}
	return all
}

// unsolvableProblems are the problems that only an administrator can solve.
var unsolvableProblems = []string{"error trash/stray.NONCE"}

// fixtureProblems are the problems that a check reports on the fixture, besides those of each interrupted operation.
var fixtureProblems = []string{
	"note claims/archive-4", "note claims/archived-archive-4", "note claims/delete-5", "note claims/below/taken/delete-6",
	"note claims/retain-2", "warning claims/tidy-2", "warning claims/tidy-3", "warning claims/tidy-4",
	"note claims/unclone-7", "note claims/undo-5",
	"note groups/ungroup-3", "note snapshots/unmake-2", "note snapshots/unsnap-3", "note volumes/delete-4", "note volumes/undo-4",
	"note jobs/snapshot.snap-4.NONCE", "note jobs/volume.clone-5.NONCE", "note jobs/volume.unclone-7.NONCE",
	"warning staging/controller-1.run-1.NONCE", "warning staging/controller-1.run-1.NONCE",
	"note snapshots/snap/deletion/user.unshare-2.NONCE", "warning volumes/plain/deletion/copy.snapshot.unmake-1.NONCE",
	"warning volumes/plain/deletion/copy.snapshot.unmake-2.NONCE", "warning volumes/plain/deletion/copy.volume.unclone-7.NONCE",
	"warning volumes/update-2/deletion/change", "warning volumes/update-3/deletion/change", "warning volumes/update-4/deletion/change",
	"note trash/archive-4.NONCE", "note trash/purge-2.NONCE", "note trash/retain-2.NONCE", "note trash/unclone-7.NONCE",
	"note trash/undo-4.NONCE", "note trash/undo-5.NONCE", "note trash/unshare-2.NONCE",
}

// TestFixtureCheck lets a check report what was interrupted on the fixture, and nothing else.
func TestFixtureCheck(t *testing.T) {
	want := slices.Concat(fixtureProblems, unsolvableProblems)
	for _, h := range interruptedOps() {
		promised := strings.HasPrefix(h.key, "unkeep-") // the trash has the record of its purge
		if h.left != Empty && h.left != Ready && !promised {
			want = append(want, fmt.Sprintf("warning %s/%s", inState[h.of], h.key))
		}
	}
	fixtures(t, func(t *testing.T, g *testShare) {
		before := g.tree()
		want := want
		if !strings.Contains(g.text(".mooring/"+formatFile), `"id"`) {
			want = append(slices.Clip(want), "note format.json")
		}
		sameLists(g, "what is found", problemsOf(g), want)
		if d := diffLines(g.tree(), before); d != "" {
			t.Errorf("a check has changed\n%s", d)
		}
	})
}

// fixtureTrash is what is in the trash of the fixture. "-" marks an entry with only a record, "?" one
// without a record.
var fixtureTrash = []string{
	"volume due", "volume kept", "volume deleted-since", "snapshot gone", "leftover csi-2", "? stray",
	"volume delete-4", "volume delete-5", "volume delete-6", "? delete-3", "- retain-2", "- archive-4", "- unshare-2",
	"? unsnap-2", "snapshot unsnap-3",
	"snapshot ungroup-2.plain", "snapshot ungroup-2.nested", "snapshot ungroup-3.plain", "snapshot ungroup-3.nested",
	"- undo-4", "- undo-5", "- unclone-7", "? unrestore-2", "- unrestore-3", "leftover unmake-1", "leftover unmake-2", "leftover unclone-6", "leftover unclone-7",
	"volume restore-1", "- restore-2", "- restore-3", "- restore-4", "volume purge-1", "- purge-2",
	"- in-place", "volume unkeep-1", "volume unkeep-2", "volume unkeep-3", "leftover refill-3",
}

// TestFixtureTrash lists the trash, restores, and purges what is due.
func TestFixtureTrash(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		ctx := t.Context()
		g = reopen(g)
		all, err := g.Trash.List(ctx)
		g.must(err)
		var got []string
		for _, e := range all {
			kind := e.Kind()
			switch {
			case !e.HasRecord():
				kind = "?"
			case !e.hasTree:
				kind = "-"
			}
			got = append(got, kind+" "+e.Key)
			if e.HasRecord() && e.Due != e.Deleted && time.Until(e.Due) < endlessRetention/2 {
				t.Errorf("%s is due at %v: the test would fail from then on", e.Key, e.Due)
			}
		}
		sameLists(g, "the trash", got, slices.Clone(fixtureTrash))
		now := time.Now()
		for _, e := range all {
			if e.HasRecord() && !e.Due.After(now) {
				g.must(e.purge(g))
			}
		}
		if e := findTrashed(g, "due"); e.Name != "" {
			t.Errorf("still in the trash: %+v", e)
		}
		if err := g.Trash.Purge(findTrashed(g, "stray"), g.remove); volume.Kind(err) != volume.ErrPrecondition {
			t.Errorf("the stray: %v", err)
		}
		kept, place := findTrashed(g, "kept"), findTrashed(g, "in-place")
		if in, err := g.Trash.IsInPlace(ctx, place); err != nil || !in || contentOf(g, "in-place") != "data of in-place" {
			t.Errorf("what is kept in its place is %+v: %v, %v", place, in, err)
		}
		g.must(place.purge(g))
		if g.has("in-place") {
			t.Error("its directory still exists")
		}
		if !kept.Complete() || kept.Due.Sub(kept.Deleted) != endlessRetention {
			t.Errorf("what is kept is %+v", kept)
		}
		r, err := g.Volumes.Restore(ctx, kept, "")
		if err != nil || contentOf(g, r.Directory) != "data of kept" {
			t.Errorf("it is restored as %+v, %v", r, err)
		}
		checkVolumes(g)
	})
}

func (t TrashEntry) purge(g *testShare) error { return g.Trash.Purge(t, g.remove) }

// fixtureLeaves are the directories of the fixture that nobody deletes: users' own.
var fixtureLeaves = []string{
	"old", "adopt-1", "retained", "archived-archived", "shop", "quota", "retain-1", "retain-2",
	"archived-archive-1", "archived-archive-2", "archived-archive-3", "archived-archive-4",
}

// TestFixtureClear deletes everything on the fixture, and purges the trash. After users have removed their
// own files, nothing of Mooring's remains.
func TestFixtureClear(t *testing.T) {
	fixtures(t, func(t *testing.T, g *testShare) {
		g = reopen(g)
		v, err := OpenInline(g.dir, nas1, true)
		g.must(err)
		defer v.Close()
		g.must(v.Trash("csi-1"))
		stray := volume.TrashID(volume.TrashVolume, "stray", someNonce)
		for _, p := range clearShare(g) {
			if strings.HasPrefix(p, ".mooring/") && !strings.HasPrefix(p, ".mooring/trash/"+stray) && p != ".mooring/parents/d.shop" {
				t.Errorf("still there: %s", p)
			}
		}
		sameLists(g, "what is left of the users", slices.DeleteFunc(g.names("."), func(name string) bool { return name == volume.StateDir }), slices.Clone(fixtureLeaves))
		for _, p := range append(slices.Clone(fixtureLeaves), ".mooring/trash/"+stray) {
			g.removeAll(p)
		}
		if left := clearShare(g); len(left) > 0 {
			t.Errorf("left in the end: %q", left)
		}
	})
}
