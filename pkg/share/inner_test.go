// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// inside opens a share in a directory of another, as the server would export it.
func (g *ground) inside(directory string) *ground {
	g.Helper()
	g.must(os.MkdirAll(g.at(directory), 0o755))
	return openAt(g.T, g.at(directory), Options{Maker: stranger})
}

// TestShareInVolume deletes a volume in whose directory a share lies: not while that has volumes.
func TestShareInVolume(t *testing.T) {
	for _, onDelete := range []volume.OnDelete{volume.Delete, volume.Archive} {
		g := newGround(t)
		r := record("v1", "media")
		r.OnDelete = onDelete
		_, err := g.make(r)
		g.must(err)
		in := g.inside("media")
		in.create("b1", "b1")
		in.put("b1/file", "precious")
		before := g.tree()
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.refused("while it has volumes", err, volume.ErrConflict, "v1", "/export/media", "another share")
		if g.state("v1") != Ready || len(g.tree()) != len(before) {
			t.Error("the deletion was begun")
		}
		in.delete("b1")
		_, err = g.Volumes.Delete(t.Context(), "v1")
		g.must(err)
	}
}

// TestShareInRetained deletes a volume whose directory stays.
func TestShareInRetained(t *testing.T) {
	g := newGround(t)
	r := record("v1", "media")
	r.OnDelete = volume.Retain
	_, err := g.make(r)
	g.must(err)
	g.inside("media").create("b1", "b1")
	_, err = g.Volumes.Delete(t.Context(), "v1")
	g.must(err)
	if !g.has("media/b1") {
		t.Error("the other share's volume is gone")
	}
}

// TestPurgeOfShare purges a volume that was deleted before a share in it had volumes.
func TestPurgeOfShare(t *testing.T) {
	g := newGround(t)
	e := g.deleted("v1", "media")
	in := openAt(t, g.at(".mooring/trash/"+e.Name), Options{Maker: stranger})
	in.create("b1", "b1")
	in.put("b1/file", "precious")
	for range 2 {
		g.refused("with volumes", g.Trash.Purge(e, g.remove), volume.ErrConflict, "not purged", "another share")
	}
	if !in.has("b1/file") {
		t.Error("the other share's volume is purged")
	}
	in.delete("b1")
	g.must(g.Trash.Purge(e, g.remove))
}

// TestTenantsOwn has a tenant make what looks like a share: it blocks nothing.
func TestTenantsOwn(t *testing.T) {
	for what, make := range map[string]func(g *ground){
		"a directory": func(g *ground) { g.must(os.MkdirAll(g.at("v/.mooring/volumes/x"), 0o755)) },
		"a file":      func(g *ground) { g.put("v/.mooring", "") },
		"a link":      func(g *ground) { g.must(os.Symlink("..", g.at("v/.mooring"))) },
		"a link to a format": func(g *ground) {
			g.put("v/.mooring/volumes/x/y", "")
			g.must(os.Symlink("../../.mooring/format.json", g.at("v/.mooring/format.json")))
		},
		"an empty format":          func(g *ground) { g.put("v/.mooring/format.json", ""); g.put("v/.mooring/volumes/x/y", "") },
		"a share without a volume": func(g *ground) { g.inside("v") },
		"a share deeper inside":    func(g *ground) { g.inside("v/deep").create("b1", "b1") },
	} {
		g := newGround(t)
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

// TestAdoptShare has a volume adopt a directory that is a share, with volumes or without.
func TestAdoptShare(t *testing.T) {
	g := newGround(t)
	g.inside("media")
	r := record("v1", "media")
	r.Adopt, r.Adopted = true, true
	p := g.begin(r)
	g.refused("a share", p.MakeDirectory(t.Context()), volume.ErrConflict, `"media"`, "is a share itself")
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
