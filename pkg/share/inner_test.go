// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// inside opens a share in a directory of another, as if the server exported that.
func inside(g *testShare, directory string) *testShare {
	g.Helper()
	g.must(os.MkdirAll(g.at(directory), 0o755))
	return openTestShare(g.T, g.at(directory), Options{Maker: otherMaker})
}

// TestShareInVolume deletes a volume in whose directory a share lies: not while that has volumes.
func TestShareInVolume(t *testing.T) {
	for _, onDelete := range []volume.OnDelete{volume.Delete, volume.Archive} {
		g := newTestShare(t)
		r := record("v1", "media")
		r.OnDelete = onDelete
		_, err := g.make(r)
		g.must(err)
		in := inside(g, "media")
		in.create("b1", "b1")
		in.put("b1/file", "precious")
		before := g.tree()
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.wantError("while it has volumes", err, volume.ErrPrecondition, "v1", "/export/media", "another share")
		if g.state("v1") != Ready || len(g.tree()) != len(before) {
			t.Error("the deletion was begun")
		}
		in.delete("b1")
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.wantError("while it keeps a deleted one", err, volume.ErrPrecondition, "trash of its own")
		g.must(in.purge())
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.must(err)
	}
}

// TestShareInUse has a share in a volume's directory that has no volume, and is in use nevertheless.
func TestShareInUse(t *testing.T) {
	for what, use := range map[string]func(in *testShare){
		"a volume": func(in *testShare) { in.create("b1", "b1") },
		"a snapshot": func(in *testShare) {
			in.create("b1", "b1")
			in.put("b1/data", "precious")
			in.snapshot("s1", "b1")
			in.delete("b1")
			in.must(in.purge())
		},
		"a deleted volume": func(in *testShare) { in.createDeleted("b1", "b1") },
		"a pod's directory": func(in *testShare) {
			v, err := OpenInline(in.dir, nas1, true)
			in.must(err)
			defer v.Close()
			dir, err := v.Make("csi-1")
			in.must(err)
			dir.Close()
		},
	} {
		g := newTestShare(t)
		g.create("v1", "team/media")
		use(inside(g, "team/media"))
		_, err := g.Volumes.Delete(t.Context(), "v1")
		g.wantError(what, err, volume.ErrPrecondition, "another share")
	}
}

// TestHasNoSubdirs has directories that are known to have no subdirectories, and others.
func TestHasNoSubdirs(t *testing.T) {
	links := func(n int) (st unix.Stat_t) {
		for range n {
			st.Nlink++ // its type differs between machines
		}
		return st
	}
	for _, c := range []struct {
		counts bool
		links  int
		want   bool
	}{{true, 2, true}, {true, 3, false}, {true, 1, false}, {false, 2, false}} {
		if got := (&disk{countsSubdirs: c.counts}).hasNoSubdirs(links(c.links)); got != c.want {
			t.Errorf("%+v: it is %v", c, got)
		}
	}
	if g := newTestShare(t); !g.countsSubdirs { // the tests' own disk
		t.Error("the share does not count subdirectories")
	}
}

// TestUncounted deletes a volume on a server that does not count subdirectories.
func TestUncounted(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "media")
	inside(g, "media").create("b1", "b1")
	g.countsSubdirs = false
	_, err := g.Volumes.Delete(t.Context(), "v1")
	g.wantError("where they are not counted", err, volume.ErrPrecondition, "another share")
}

// TestShareInRetained deletes a volume whose directory stays.
func TestShareInRetained(t *testing.T) {
	g := newTestShare(t)
	r := record("v1", "media")
	r.OnDelete = volume.Retain
	_, err := g.make(r)
	g.must(err)
	inside(g, "media").create("b1", "b1")
	_, err = g.Volumes.Delete(t.Context(), "v1")
	g.must(err)
	if !g.has("media/b1") {
		t.Error("the other share's volume is gone")
	}
}

// TestPurgeOfShare purges a volume that was deleted before a share in it had volumes.
func TestPurgeOfShare(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "media")
	in := openTestShare(t, g.at(".mooring/trash/"+e.Name), Options{Maker: otherMaker})
	in.create("b1", "b1")
	in.put("b1/file", "precious")
	for range 2 {
		g.wantError("with volumes", g.Trash.Purge(e, g.remove), volume.ErrPrecondition, "not purged", "another share")
	}
	if !in.has("b1/file") {
		t.Error("the other share's volume is purged")
	}
	in.delete("b1")
	g.wantError("with a deleted volume", g.Trash.Purge(e, g.remove), volume.ErrPrecondition, "not purged")
	if !in.has(".mooring/volumes") {
		t.Error("a share that is in use is closed")
	}
	g.must(in.purge())
	g.must(g.Trash.Purge(e, g.remove))
}

// TestUsedWhilePurged lets a share in a deleted volume get a volume while that is about to be purged: one of
// the two wins.
func TestUsedWhilePurged(t *testing.T) {
	g := newTestShare(t)
	e := g.createDeleted("v1", "media")
	in := openTestShare(t, g.at(".mooring/trash/"+e.Name), Options{Maker: otherMaker})
	g.beforeStep("close a share that lies in it", func() { in.create("b1", "b1") })
	g.wantError("with a new volume", g.Trash.Purge(e, g.remove), volume.ErrPrecondition, "not purged")
	if !in.has("b1") || in.state("b1") != Ready {
		t.Error("the other share's volume is purged")
	}

	g = newTestShare(t)
	e = g.createDeleted("v1", "media")
	in = openTestShare(t, g.at(".mooring/trash/"+e.Name), Options{Maker: otherMaker})
	g.beforeStep("take the tree for its purge", func() {
		if _, err := in.make(record("b1", "b1")); err == nil {
			t.Error("a volume is made in a share that is being purged")
		}
	})
	g.must(g.Trash.Purge(e, g.remove))
}

// TestPurgeOfShareInPlace purges a volume in its place, with a share in it.
func TestPurgeOfShareInPlace(t *testing.T) {
	g := newProjects(t, quotaOfShare)
	e := makeKept(g, "v1", "media")
	in := inside(g, "media")
	in.create("b1", "b1")
	in.put("b1/file", "precious")
	g.wantError("with volumes", g.Trash.Purge(*e, g.remove), volume.ErrPrecondition, "not purged", `"media"`)
	if !in.has("b1/file") || len(g.names(".mooring/trash")) != 1 {
		t.Error("the purge was begun")
	}
	in.delete("b1")
	g.must(in.purge())
	g.must(g.Trash.Purge(*e, g.remove))
	if g.has("media") {
		t.Error("the volume is not purged")
	}
}

// TestPurgeOfShareTaken purges a volume with a share in it, which an interrupted deletion has moved away after
// all.
func TestPurgeOfShareTaken(t *testing.T) {
	g := newProjects(t, quotaOfShare)
	e := makeKept(g, "v1", "media")
	in := inside(g, "media")
	in.create("b1", "b1")
	g.must(os.Rename(g.at("media"), g.at(".mooring/volumes/v1/tree")))
	g.wantError("with volumes", g.Trash.Purge(*e, g.remove), volume.ErrPrecondition, "not purged")
	if !g.has(".mooring/volumes/v1/tree/b1") {
		t.Error("the other share's volume is purged")
	}
}

// TestTenantsOwn lets a tenant make what looks like a share: it blocks nothing.
func TestTenantsOwn(t *testing.T) {
	for what, make := range map[string]func(g *testShare){
		"a directory": func(g *testShare) { g.must(os.MkdirAll(g.at("v/.mooring/volumes/x"), 0o755)) },
		"a file":      func(g *testShare) { g.put("v/.mooring", "") },
		"a link":      func(g *testShare) { g.must(os.Symlink("..", g.at("v/.mooring"))) },
		"a link to a format": func(g *testShare) {
			g.put("v/.mooring/volumes/x/y", "")
			g.must(os.Symlink("../../.mooring/format.json", g.at("v/.mooring/format.json")))
		},
		"an empty format":          func(g *testShare) { g.put("v/.mooring/format.json", ""); g.put("v/.mooring/volumes/x/y", "") },
		"a share without a volume": func(g *testShare) { inside(g, "v") },
		"a share deeper inside":    func(g *testShare) { inside(g, "v/deep").create("b1", "b1") },
	} {
		g := newTestShare(t)
		g.create("v1", "v")
		make(g)
		_, err := g.Volumes.Delete(t.Context(), "v1")
		if err == nil {
			err = g.purge()
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestAdoptShare lets a volume adopt a directory that is a share, with or without volumes.
func TestAdoptShare(t *testing.T) {
	g := newTestShare(t)
	inside(g, "media")
	r := record("v1", "media")
	r.Adopt, r.Adopted = true, true
	p := g.begin(r)
	g.wantError("a share", p.MakeDirectory(t.Context()), volume.ErrPrecondition, `"media"`, "is a share itself")
	g.must(p.Abort())
	if !g.has("media/.mooring/format.json") {
		t.Error("the share was touched")
	}
	g.must(os.RemoveAll(g.at("media/.mooring")))
	g.must(os.Mkdir(g.at("media/.mooring"), 0o755))
	p = g.begin(r)
	g.must(p.MakeDirectory(t.Context()))
	g.must(p.Abort())
}
