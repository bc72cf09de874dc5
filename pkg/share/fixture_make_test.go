// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// endlessRetention is a retention that never ends while there are tests.
const endlessRetention = 100 * 365 * 24 * time.Hour

// makeFixture makes a share on which one controller has done everything that is possible, and other controllers
// have died in operations. All data end with a newline: see pack.
func makeFixture(t *testing.T) *testShare {
	t.Helper()
	g := openTestShare(t, scratchDir(t), Options{Maker: "controller-0", Run: "run-1", beforeRename: refuseByProject})
	g.def.TrashRetention = endlessRetention // what is due in an hour would be due when the tests run next
	makeVolumes(g)
	makeSnapshots(g)
	makeTrash(g)
	g.must(g.Heartbeat(t.Context()))
	for _, h := range interruptedOps() {
		h.prepare(g)
		h.begin(g)
	}
	return g
}

// createWithData creates a volume with a file in it.
func createWithData(g *testShare, r volume.Record) {
	g.Helper()
	_, err := g.make(r)
	g.must(err)
	g.put(r.Directory+"/data", "of "+r.Key+"\n")
}

// createFilled creates a volume in that directory, with a file in it.
func createFilled(g *testShare, key, directory string) {
	g.Helper()
	createWithData(g, record(key, directory))
}

// makeVolumes creates a volume of each kind.
func makeVolumes(g *testShare) {
	createFilled(g, "plain", "plain")
	createFilled(g, "nested", "team/app/nested")
	createFilled(g, "changed", "changed")
	_, err := g.setCapacity("changed", 7)
	g.must(err)
	mode, id, day := uint32(0o2770), uint32(os.Getuid()), 24*time.Hour
	odd := record(volume.KeyFor("odd/name"), "shop/<db> & ä")
	odd.Name, odd.Capacity = "odd/name", 5<<30
	odd.Mode, odd.UID, odd.Retention = &mode, &id, &day
	odd.RequestedOnDelete, odd.OnDelete = volume.Archive, volume.Archive
	odd.PVC = &volume.PVC{Namespace: "shop", Name: "db"}
	createWithData(g, odd)
	g.put("old/before", "of somebody\n")
	adopted := record("adopted", "old")
	adopted.Adopt, adopted.Adopted, adopted.OnDelete = true, true, volume.Retain
	createWithData(g, adopted)
	clone := record("clone", "clone")
	clone.Source = sourceOf(volumeObject("plain"))
	_, err = g.make(clone)
	g.must(err)
}

// makeSnapshots makes snapshots, one of which is also a volume, and a group.
func makeSnapshots(g *testShare) {
	g.snapshot("snap", "plain")
	g.snapshot("shared", "nested")
	_, err := g.make(shallowRecord("shallow", "shared"))
	g.must(err)
	restored := record("restored", "team/restored")
	restored.Source = sourceOf(snapshotObject("snap"))
	_, err = g.make(restored)
	g.must(err)
	createFilled(g, "deleted-since", "deleted-since")
	g.snapshot("outlived", "deleted-since")
	g.delete("deleted-since")
	g.must(makeGrouped(g, "group", false))
}

// makeGrouped makes a group of two snapshots, or, with half, only its first snapshot.
func makeGrouped(g *testShare, key string, half bool) error {
	want := volume.GroupRecord{Key: key, Name: key, Created: time.Unix(1, 0).UTC()}
	for _, of := range []string{"plain", "nested"} {
		want.Members = append(want.Members, volume.Member{Snapshot: key + "." + of, Volume: of})
	}
	r, err := g.Groups.Begin(g.Context(), want)
	if err != nil {
		return err
	}
	for _, m := range r.Members {
		if _, err := g.trySnapshot(m.Snapshot, m.Volume, r); err != nil || half {
			return err
		}
	}
	return g.Groups.Commit(g.Context(), r)
}

// makeTrash deletes and restores volumes.
func makeTrash(g *testShare) {
	for key, retention := range map[string]time.Duration{"due": 0, "kept": endlessRetention} {
		r := record(key, "team/"+key)
		r.Retention = &retention
		createWithData(g, r)
		g.delete(key)
	}
	for key, directory := range map[string]string{"back": "", "moved": "elsewhere/moved"} {
		createFilled(g, key, key)
		_, err := g.Volumes.Restore(g.Context(), *g.delete(key), directory)
		g.must(err)
	}
	for key, on := range map[string]volume.OnDelete{"retained": volume.Retain, "archived": volume.Archive} {
		r := record(key, key)
		r.OnDelete = on
		createWithData(g, r)
		g.delete(key)
	}
	createImmovable(g, "in-place")
	g.must(deleteVolume(g, "in-place"))
	g.snapshot("gone", "plain")
	_, err := g.Snapshots.Delete(g.Context(), "gone", nil)
	g.must(err)
	v, err := OpenInline(g.dir, nas1, true)
	g.must(err)
	defer v.Close()
	for _, key := range []string{"csi-1", "csi-2"} {
		_, err := v.Make(key)
		g.must(err)
		g.put(".mooring/inline/"+key+"/data", "of a pod\n")
	}
	g.must(v.Trash("csi-2"))
	g.put(".mooring/trash/"+volume.TrashID(volume.TrashVolume, "stray", someNonce)+"/data", "of nobody\n")
}

// dieBefore does something as another controller, which dies before the nth step of that name. It fails the
// test if there is no such step.
func dieBefore(g *testShare, at string, nth int, do func(h *testShare) error) {
	g.Helper()
	dieIn(g, func(h *testShare, die func()) error {
		dead := false
		h.opt.Step = func(step string) {
			if step == at {
				nth--
			}
			if dead = dead || nth == 0; dead {
				die()
			}
		}
		return do(h)
	}, at)
}

// dieIn does something as another controller, which dies when do calls die. Deferred calls change nothing
// after that.
func dieIn(g *testShare, do func(h *testShare, die func()) error, at string) {
	g.Helper()
	s, err := Open(g.dir, g.def, Options{Maker: "controller-1", Run: "run-1", Lease: expiredLease, beforeRename: refuseByProject})
	g.must(err)
	defer s.Close()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- do(&testShare{files: files{T: g.T, view: g.view}, Share: s}, runtime.Goexit)
	}()
	if err, ended := <-done; ended {
		g.Fatalf("it ended with %v, and should die before %q", err, at)
	}
}
