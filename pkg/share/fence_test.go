// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// These tests stop a process at a step, let others do something that it does not know, and let it continue.
// Each finds an error that an earlier Mooring had. TestPause has all steps and more of the others.

// steps lists the changes that do makes on a share that prepare has made.
func steps(t *testing.T, prepare func(g *testShare), do func(g *testShare)) (names []string) {
	t.Helper()
	g := newTestShare(t)
	prepare(g)
	g.opt.Step = func(what string) { names = append(names, what) }
	do(g)
	return names
}

// stopped calls do in a process that stops before its nth step, and calls meanwhile there.
func stopped(g *testShare, n int, do, meanwhile func()) {
	g.opt.Step = func(string) {
		if n--; n == 0 {
			meanwhile()
		}
	}
	do()
	g.opt.Step = nil
}

// eachStep stops do before each of its steps, each time on a new share. Meanwhile another process does
// something. At the end check checks the result.
func eachStep(t *testing.T, prepare, do, meanwhile, check func(g, other *testShare)) {
	t.Helper()
	names := steps(t, func(g *testShare) { prepare(g, g) }, func(g *testShare) { do(g, g) })
	for i, name := range names {
		g := newTestShare(t)
		other := g.withExpiredLease()
		g.label = fmt.Sprintf("before step %d, %q: ", i+1, name)
		other.label = g.label
		prepare(g, other)
		stopped(g, i+1, func() { do(g, other) }, func() { meanwhile(g, other) })
		check(g, other)
	}
	if len(names) < 3 {
		t.Errorf("only these steps: %q", names)
	}
}

// image is all that stat(2) reports of a tree, and its contents. Whatever is added, moved or changed in the
// tree changes its image.
func (f *files) image(directory string) (all []string) {
	f.Helper()
	f.must(filepath.Walk(f.at(directory), func(p string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %d %o %d:%d %d %v", p, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			f.must(err)
			line += " " + string(data)
		}
		all = append(all, line)
		return nil
	}))
	return all
}

// createSuccessor makes a volume in the place of another, with files in it.
func createSuccessor(g *testShare, key, directory string) (image []string) {
	g.Helper()
	r := record(key, directory)
	if g.has(directory) {
		r.Adopt, r.Adopted = true, true
	}
	_, err := g.make(r)
	g.must(err)
	g.put(directory+"/new/file", "of "+key)
	return g.image(directory)
}

// checkVolume fails the test unless a volume exists and its directory is unchanged.
func checkVolume(g *testShare, key, directory string, image []string) {
	g.Helper()
	r, err := g.Volumes.Lookup(g.Context(), key)
	if err != nil || r.State != Ready || r.Directory != directory {
		g.Errorf("%s%s is %+v, %v", g.label, key, r, err)
		return
	}
	if now := g.image(directory); !slices.Equal(now, image) {
		g.Errorf("%sthe directory of %s was %q, and is %q", g.label, key, image, now)
	}
	if owner, err := g.Directories.Owner(g.Context(), directory); err != nil || owner != key {
		g.Errorf("%sthe owner of %s is %q, %v", g.label, directory, owner, err)
	}
}

// TestLateDeletion stops a process in the deletion of a volume. Another one finishes it, and makes a volume in
// the same place. The first continues: it must not move the new volume's directory away.
func TestLateDeletion(t *testing.T) {
	for _, on := range []volume.OnDelete{volume.Delete, volume.Archive, volume.Retain} {
		for _, successor := range []string{"v1", "v2"} {
			var image []string
			eachStep(t, func(g, _ *testShare) {
				r := record("v1", "team/a")
				r.OnDelete = on
				_, err := g.make(r)
				g.must(err)
				g.put("team/a/data", "of v1")
			}, func(g, _ *testShare) {
				if _, err := g.Volumes.Delete(g.Context(), "v1"); err != nil && volume.Kind(err) != volume.ErrBusy {
					g.Errorf("%s%v", g.label, err)
				}
			}, func(_, other *testShare) {
				other.delete("v1")
				image = createSuccessor(other, successor, "team/a")
			}, func(g, other *testShare) {
				checkVolume(other, successor, "team/a", image)
				if found := g.find("data"); len(found) != 1 || g.text(found[0]) != "of v1" {
					g.Errorf("%sthe data of the first is at %q", g.label, found)
				}
			})
		}
	}
}

// TestKilledDeletion lets a process die in the deletion of a volume. Then a volume is made in the same place.
// If that is possible, the first does not exist any more: no snapshot of it reads what is in its place, and
// the retry of its deletion touches nothing.
func TestKilledDeletion(t *testing.T) {
	for _, on := range []volume.OnDelete{volume.Delete, volume.Archive, volume.Retain} {
		prepare := func(g *testShare) {
			r := record("v1", "a")
			r.OnDelete = on
			_, err := g.make(r)
			g.must(err)
		}
		names := steps(t, prepare, func(g *testShare) { g.delete("v1") })
		made := 0
		for n := range names {
			s := scenarioRun{t, scenario{
				prepare: prepare,
				run:     func(a *actor) (string, error) { a.delete("v1"); return "", nil },
			}, sameView}
			v, _, was := s.newShare()
			s.runKilled(v.first, was, n+1)
			g := openTestShare(t, v.other.dir, Options{Maker: otherMaker, Lease: expiredLease})
			g.label = fmt.Sprintf("killed before %q: ", names[n])
			r := record("v2", "a")
			r.Adopted = g.has("a")
			_, err := g.make(r)
			if errors.Is(err, volume.ErrPrecondition) || errors.Is(err, volume.ErrBusy) {
				g.delete("v1")
				continue
			}
			g.must(err)
			made++
			g.put("a/new/file", "of v2")
			image := g.image("a")
			_, err = g.trySnapshot("s1", "v1", nil)
			g.wantError("a snapshot of the first", err, volume.ErrNotFound)
			for range 2 {
				g.delete("v1")
				checkVolume(g, "v2", "a", image)
			}
		}
		if made == 0 {
			t.Errorf("%s: no successor was made", on)
		}
	}
}

// TestLateUndo stops a process that undoes a creation whose directory is empty. The empty directory of a
// successor must stay.
func TestLateUndo(t *testing.T) {
	for _, successor := range []string{"v1", "v2"} {
		var image []string
		eachStep(t, func(*testShare, *testShare) {}, func(g, _ *testShare) {
			p := g.begin(record("v1", "a"))
			g.must(p.MakeDirectory(g.Context()))
			if err := p.Abort(); err != nil && volume.Kind(err) != volume.ErrBusy {
				g.Errorf("%s%v", g.label, err)
			}
		}, func(g, other *testShare) {
			image = nil
			if !g.has("a") { // its directory does not exist yet, or was moved away
				return
			}
			other.delete("v1")
			other.must(os.RemoveAll(other.at("a"))) // as users do
			_, err := other.make(record(successor, "a"))
			other.must(err)
			image = other.image("a")
		}, func(_, other *testShare) {
			if image != nil {
				checkVolume(other, successor, "a", image)
			}
		})
	}
}

// TestLateOwner stops a creation before it sets the owner and mode of the directory. Those of a successor's
// directory must not change.
func TestLateOwner(t *testing.T) {
	var image []string
	eachStep(t, func(*testShare, *testShare) {}, func(g, _ *testShare) {
		r := record("v1", "a")
		mode := uint32(0o4701) // mkdir(2) cannot set that
		r.Mode = &mode
		_, err := g.make(r)
		if err != nil && volume.Kind(err) != volume.ErrBusy && volume.Kind(err) != volume.ErrPrecondition {
			g.Errorf("%s%v", g.label, err)
		}
	}, func(_, other *testShare) {
		other.delete("v1")
		image = createSuccessor(other, "v2", "a")
	}, func(_, other *testShare) {
		checkVolume(other, "v2", "a", image)
	})
}

// TestLateUpdate stops an update of a record, and the volume is deleted. The volume must not exist again, and
// the record of a successor must not change.
func TestLateUpdate(t *testing.T) {
	for _, again := range []bool{false, true} {
		var image []string
		eachStep(t, func(g, _ *testShare) { g.create("v1", "a") }, func(g, _ *testShare) {
			if _, err := g.setCapacity("v1", 7); err != nil && volume.Kind(err) != volume.ErrBusy && volume.Kind(err) != volume.ErrNotFound {
				g.Errorf("%s%v", g.label, err)
			}
		}, func(_, other *testShare) {
			other.delete("v1")
			if again {
				image = createSuccessor(other, "v1", "a")
			}
		}, func(_, other *testShare) {
			if again {
				checkVolume(other, "v1", "a", image)
			}
			r, err := other.Volumes.Lookup(other.Context(), "v1")
			if !again && !errors.Is(err, volume.ErrNotFound) {
				other.Errorf("%sa deleted volume is %+v, %v", other.label, r, err)
			}
			if again && (err != nil || r.Capacity != 0) {
				other.Errorf("%sthe successor is %+v, %v", other.label, r, err)
			}
			if left := clearShare(other); len(left) > 0 {
				other.Errorf("%sleft in the end: %q", other.label, left)
			}
		})
	}
}

// TestLateClaim stops a creation before it places its claim. The creation is undone, and another volume gets
// and loses the directory: the late claim must not be placed then.
func TestLateClaim(t *testing.T) {
	eachStep(t, func(*testShare, *testShare) {}, func(g, _ *testShare) {
		p := g.begin(record("v1", "team/a"))
		if err := p.MakeDirectory(g.Context()); err != nil {
			g.wantError("the late one", err, volume.ErrBusy)
		}
		p.Close()
	}, func(g, other *testShare) {
		if g.state("v1") < Making {
			return
		}
		other.delete("v1")
		other.create("v2", "team/a")
		other.delete("v2")
	}, func(_, other *testShare) {
		other.delete("v1")
		if owner, err := other.Directories.Owner(other.Context(), "team/a"); err != nil || owner != "" {
			other.Errorf("%sthe owner of the directory is %q, %v", other.label, owner, err)
		}
		_ = os.Remove(other.at("team/a")) // which it made late, empty
		other.create("v3", "team/a")
	})
}

// TestLateTidy stops a Tidy, and the parent that it is about to remove becomes a volume, or gets one.
func TestLateTidy(t *testing.T) {
	for _, directory := range []string{"team/x", "team", "team/x/b"} {
		var image []string
		eachStep(t, func(g, _ *testShare) {
			g.create("v1", "team/x/a")
			g.delete("v1")
		}, func(g, _ *testShare) { g.must(g.Tidy(g.Context(), 0)) }, func(_, other *testShare) {
			image = nil
			_, err := other.make(record("v2", directory))
			if errors.Is(err, volume.ErrPrecondition) {
				return // it is not completely removed yet
			}
			other.must(err)
			image = other.image(directory) // empty
		}, func(_, other *testShare) {
			if image != nil {
				checkVolume(other, "v2", directory, image)
			}
			other.must(other.Tidy(other.Context(), 0))
			if image != nil {
				checkVolume(other, "v2", directory, image)
				return
			}
			other.must(other.Tidy(other.Context(), 0))
			other.create("v2", directory)
		})
	}
}

// TestRestoreAndPurge stops each of the two at each of its steps while the other runs. A volume is restored
// completely, or not at all.
func TestRestoreAndPurge(t *testing.T) {
	var e TrashEntry
	prepare := func(g, _ *testShare) {
		e = g.createDeleted("v1", "a")
		g.must(os.Rename(g.at(".mooring/trash/"+e.Name+"/data"), g.at("other")))
		g.put(".mooring/trash/"+e.Name+"/1/data", "of v1")
		g.put(".mooring/trash/"+e.Name+"/2/data", "of v1")
		g.must(os.Remove(g.at("other")))
	}
	var restored *volume.Record
	var refused error
	restore := func(g, _ *testShare) { restored, refused = g.Volumes.Restore(g.Context(), e, "") }
	purge := func(g, _ *testShare) { refused = g.Trash.Purge(e, g.remove) }
	check := func(g, other *testShare) {
		ready := g.state("v1") == Ready
		one, two := g.text("a/1/data"), g.text("a/2/data")
		if ready && (one != "of v1" || two != "of v1") {
			g.Errorf("%sthe volume exists with %q", g.label, g.tree())
		}
		if !ready && g.has("a") {
			g.Errorf("%sthe volume does not exist, but its directory does: %v", g.label, refused)
		}
		if ready && g.has(".mooring/trash/"+e.Name) {
			g.Errorf("%sit is in the trash too", g.label)
		}
		if left := clearShare(other); len(left) > 0 {
			g.Errorf("%sleft in the end: %q", g.label, left)
		}
	}
	t.Run("purge meanwhile", func(t *testing.T) {
		eachStep(t, prepare, restore, purgeAll, func(g, other *testShare) {
			if refused == nil && (restored == nil || g.state("v1") != Ready) {
				g.Errorf("%sit is restored as %+v, %v", g.label, restored, refused)
			}
			check(g, other)
		})
	})
	t.Run("restore meanwhile", func(t *testing.T) {
		eachStep(t, prepare, purge, restore, check)
	})
	t.Run("restore in the middle of a purge", func(t *testing.T) {
		g := newTestShare(t)
		prepare(g, g)
		err := g.Trash.Purge(e, func(_ int, name string) error {
			g.must(os.RemoveAll(g.at(".mooring/trash/" + name + "/1")))
			restore(g.withExpiredLease(), nil)
			g.wantError("what is just being purged", refused, volume.ErrNotFound)
			return os.RemoveAll(g.at(".mooring/trash/" + name))
		})
		g.must(err)
		check(g, g.withExpiredLease())
	})
}

func purgeAll(_, other *testShare) { _ = other.purge() }

// TestLateGroup stops the deletion of a group. A group of that key is made again with the same snapshots. None
// of these may be deleted.
func TestLateGroup(t *testing.T) {
	var nonces []string
	members := func(g *testShare) (nonces []string) {
		for _, key := range []string{"s1", "s2"} {
			if r, err := g.Snapshots.Lookup(g.Context(), key); err == nil {
				nonces = append(nonces, r.Nonce)
			}
		}
		return nonces
	}
	eachStep(t, func(g, _ *testShare) {
		withPair(g)
		_, err := g.createGroup("g1")
		g.must(err)
	}, func(g, _ *testShare) {
		if _, err := g.Groups.Delete(g.Context(), "g1", nil); err != nil && volume.Kind(err) != volume.ErrBusy {
			g.Errorf("%s%v", g.label, err)
		}
	}, func(_, other *testShare) {
		_, err := other.Groups.Delete(other.Context(), "g1", nil)
		other.must(err)
		_, err = other.createGroup("g1")
		other.must(err)
		nonces = members(other)
	}, func(_, other *testShare) {
		r, err := other.Groups.Lookup(other.Context(), "g1")
		if err != nil || r.State != Ready {
			other.Errorf("%sthe new group is %+v, %v", other.label, r, err)
		}
		if now := members(other); len(now) != 2 || !slices.Equal(now, nonces) {
			other.Errorf("%sthe snapshots of the new group were %q, and are %q", other.label, nonces, now)
		}
	})
}

// TestCopyAndDeletion deletes the source of a copy meanwhile. Within the lease that is not possible. After it
// the copy must not become a volume, or a snapshot.
func TestCopyAndDeletion(t *testing.T) {
	clone := record("v2", "team/v2")
	clone.Source = sourceOf(volumeObject("v1"))
	restored := record("v2", "team/v2")
	restored.Source = sourceOf(snapshotObject("s1"))
	ofShallow := record("v2", "team/v2")
	ofShallow.Source = sourceOf(volumeObject("sh"))
	volumes := func(g *testShare) error { _, err := g.Volumes.Delete(g.Context(), "v1"); return err }
	snapshots := func(g *testShare) error { _, err := g.Snapshots.Delete(g.Context(), "s1", nil); return err }
	for what, c := range map[string]struct {
		make    func(g *testShare) error
		delete  func(g *testShare) error
		refused string
	}{
		"a clone":             {func(g *testShare) error { _, err := g.make(clone); return err }, volumes, "volume v1 is being copied, for the copy volume v2"},
		"a snapshot":          {func(g *testShare) error { _, err := g.trySnapshot("s2", "v1", nil); return err }, volumes, "for the copy snapshot s2"},
		"a restored snapshot": {func(g *testShare) error { _, err := g.make(restored); return err }, snapshots, "snapshot s1 is being copied"},
		"a clone of a shallow": {func(g *testShare) error { _, err := g.make(ofShallow); return err }, func(g *testShare) error {
			if err := deleteShallow(g); err != nil {
				return err
			}
			return snapshots(g)
		}, "volume sh is being copied"},
	} {
		t.Run(what, func(t *testing.T) {
			g := newTestShare(t)
			withSnapshot(g)
			_, err := g.make(shallowRecord("sh", "s1"))
			g.must(err)
			if what == "a restored snapshot" {
				g.must(deleteShallow(g))
			}
			g.beforeStep("write the copy", func() {
				patient := openTestShare(t, g.dir, Options{Maker: otherMaker})
				g.wantError("its source's deletion", c.delete(patient), volume.ErrBusy, c.refused)
				other := g.withExpiredLease()
				g.must(c.delete(other))
				g.must(other.purge())
				createSuccessor(other, "v9", "team/v9")
			})
			g.wantError("the copy", c.make(g), volume.ErrBusy)
			if g.state("v2") == Ready {
				t.Error("the copy is a volume")
			}
			if _, err := g.Snapshots.Lookup(t.Context(), "s2"); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("the copy is a snapshot: %v", err)
			}
		})
	}
}

func deleteShallow(g *testShare) error {
	_, err := g.Volumes.Delete(g.Context(), "sh")
	return err
}

// TestShallowIsHeld keeps a shallow volume, and its snapshot, while the volume is copied.
func TestShallowIsHeld(t *testing.T) {
	g := newTestShare(t)
	withSnapshot(g)
	_, err := g.make(shallowRecord("sh", "s1"))
	g.must(err)
	clone := record("v2", "v2")
	clone.Source = sourceOf(volumeObject("sh"))
	g.beforeStep("write the copy", func() {
		g.wantError("its deletion", deleteShallow(g), volume.ErrBusy, "volume sh is being copied")
		_, err := g.Snapshots.Delete(t.Context(), "s1", nil)
		g.wantError("that of its snapshot", err, volume.ErrPrecondition, "volume sh")
	})
	_, err = g.make(clone)
	g.must(err)
	if got := g.text("v2/copy"); got != "of v1" {
		t.Errorf("the copy is %q", got)
	}
}

// TestForeignFile puts a file into the directory of a copy before that is placed. The volume must not exist
// with that file in it.
func TestForeignFile(t *testing.T) {
	clone := record("v2", "v2")
	clone.Source = sourceOf(volumeObject("v1"))
	for _, what := range []string{"make the staging directory", "copy", "begin to place the tree", "rename the tree into its place"} {
		g := newTestShare(t)
		withData(g)
		g.beforeStep(what, func() { g.put("v2/.DS_Store", "") })
		_, err := g.make(clone)
		g.wantError(what, err, volume.ErrPrecondition, `"v2"`, "something was put into the directory")
		if g.state("v2") >= Making || !g.has("v2/.DS_Store") || g.has("v2/copy") {
			t.Errorf("%s: the volume is %d, in its directory is %q", what, g.state("v2"), g.names("v2"))
		}
		if owner, err := g.Directories.Owner(t.Context(), "v2"); err != nil || owner != "" {
			t.Errorf("%s: the owner of the directory is %q, %v", what, owner, err)
		}
		g.must(os.RemoveAll(g.at("v2")))
		_, err = g.make(clone)
		g.must(err)
	}
	g := newTestShare(t)
	e := g.createDeleted("v1", "a")
	g.beforeStep("rename the tree into its place", func() { g.put("a/.DS_Store", "") })
	_, err := g.Volumes.Restore(t.Context(), e, "")
	g.wantError("brought back", err, volume.ErrPrecondition, `"a"`)
	if found := g.find("data"); len(found) != 1 || !strings.HasPrefix(found[0], ".mooring/trash/v1.") || g.state("v1") >= Making {
		t.Errorf("the data is at %q", found)
	}
}

// TestRetentionStays raises or lowers the retention of the trash after a deletion: that does not change when
// an entry is due.
func TestRetentionStays(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "a")
	withSnapshot(g)
	_, err := g.Snapshots.Delete(t.Context(), "s1", nil)
	g.must(err)
	if d := e.Due.Sub(e.Deleted); d != nas1.TrashRetention {
		t.Errorf("due after %v, want %v", d, nas1.TrashRetention)
	}
	before, err := g.Trash.List(t.Context())
	g.must(err)
	for _, retention := range []time.Duration{0, time.Second, 9999 * time.Hour} {
		def := nas1
		def.TrashRetention = retention
		s, err := Open(g.dir, def, Options{Maker: otherMaker})
		g.must(err)
		now, err := s.Trash.List(t.Context())
		s.Close()
		if err != nil || len(now) != 2 || !slices.Equal(now, before) {
			t.Errorf("with a retention of %v the trash is %+v, %v; it was %+v", retention, now, err, before)
		}
	}
	// A volume's own retention has priority, with its value at the deletion.
	own := 5 * time.Minute
	g.create("v2", "b")
	_, err = g.Volumes.Update(t.Context(), "v2", func(r *volume.Record) error { r.Retention = &own; return nil })
	g.must(err)
	if e := g.delete("v2"); e.Due.Sub(e.Deleted) != own {
		t.Errorf("due after %v, want %v", e.Due.Sub(e.Deleted), own)
	}
}
