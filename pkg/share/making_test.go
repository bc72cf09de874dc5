// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestBeginOnce has a second volume of the name find the first, and change nothing.
func TestBeginOnce(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	first := g.begin("v1", "a")
	other := openAt(t, g.dir, "ffffffff")
	m, found, err := other.Begin(ctx, record("v1", "b"))
	if err != nil || m != nil || found.Directory != "a" || found.Maker != maker || found.Ready != 0 || found.Age < 0 || found.Age > time.Minute {
		t.Fatalf("the second of a name gets %v, %+v, %v", m, found, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 1 {
		t.Errorf("beside the first's there are the asides %q", left)
	}
	g.must(first.Claim(ctx))
	g.must(first.MakeDirectory(ctx))
	if r, err := first.Commit(ctx); err != nil || r.Ready != 1 {
		t.Errorf("committed is %+v, %v", r, err)
	}
	if _, found, err = other.Begin(ctx, record("v1", "b")); err != nil || found.Ready != 1 {
		t.Errorf("a ready volume is found as %+v, %v", found, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("left are the asides %q", left)
	}
}

// TestResume goes on where an earlier process stopped.
func TestResume(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	m := g.begin("v1", "a/b")
	g.must(m.Claim(ctx))
	g.must(m.MakeDirectory(ctx))
	m.Leave()

	next := openAt(t, g.dir, maker)
	r, err := next.Lookup(ctx, "v1")
	g.must(err)
	if r.Ready != 0 {
		t.Error("what is not committed is ready")
	}
	m, err = next.Resume(ctx, r.Record)
	g.must(err)
	g.must(m.Claim(ctx))
	g.must(m.MakeDirectory(ctx))
	_, err = m.Commit(ctx)
	g.must(err)
	if r, err = next.Lookup(ctx, "v1"); err != nil || r.Ready != 1 {
		t.Errorf("after all there is %+v, %v", r, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("left are the asides %q", left)
	}

	_, err = next.Resume(ctx, record("none", "x"))
	g.refused("a volume that is not there", err, volume.ErrBusy)
	stranger := r.Record
	stranger.Nonce = "ffffffff-1-1"
	_, err = next.Resume(ctx, stranger)
	g.refused("a volume that another makes now", err, volume.ErrBusy)
}

// TestLease has a maker come too late: another may have taken over, and no step is allowed.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		g := newGround(t)
		if g.Lease() != DefaultLease || g.Maker() != maker {
			t.Errorf("the lease is %v, the maker %s", g.Lease(), g.Maker())
		}
		late := func(m *Making) {
			t.Helper()
			_, err := m.Commit(ctx)
			for what, err := range map[string]error{"Claim": m.Claim(ctx), "MakeDirectory": m.MakeDirectory(ctx), "Commit": err, "Undo": m.Undo()} {
				g.refused(what, err, volume.ErrBusy, "v1")
			}
		}
		m := g.begin("v1", "a")
		g.must(m.Claim(ctx))
		time.Sleep(DefaultLease / 2)
		g.must(m.MakeDirectory(ctx))
		time.Sleep(time.Nanosecond)
		late(m)
		if r, err := g.Lookup(ctx, "v1"); err != nil || r.Ready != 0 || !g.has("a") {
			t.Errorf("who is late has changed it: %+v, %v", r, err)
		}
		r, err := g.Lookup(ctx, "v1")
		g.must(err)
		m, err = g.Resume(ctx, r.Record)
		g.must(err)
		time.Sleep(DefaultLease/2 + 1)
		late(m)
		m, err = g.Resume(ctx, r.Record)
		g.must(err)
		_, err = m.Commit(ctx)
		g.must(err)
	})
}

// TestUndo takes away what was made, and only that.
func TestUndo(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	m := g.begin("v1", "a/b")
	g.must(m.Claim(ctx))
	g.must(m.MakeDirectory(ctx))
	g.must(m.Undo())
	if g.has("a/b") || g.has(".mooring/claims/a/b") || g.has(".mooring/volumes/v1.json") || len(g.names(".mooring/staging")) > 0 {
		t.Error("something is left")
	}

	g.put("there/file", "")
	m = g.begin("v2", "there")
	g.must(m.Claim(ctx))
	g.refused("a directory that was there", m.MakeDirectory(ctx), volume.ErrConflict, "existingDirectory: adopt")
	g.must(m.Undo())
	if !g.has("there/file") || g.has(".mooring/claims/there") || g.has(".mooring/volumes/v2.json") {
		t.Error("too much or too little was undone")
	}

	g.must(os.Mkdir(g.at("empty"), 0o755)) // and old: not made by an earlier attempt
	g.age("empty", time.Hour)
	m = g.begin("v3", "empty")
	g.must(m.Claim(ctx))
	m.Leave()
	r, err := g.Lookup(ctx, "v3")
	g.must(err)
	m, err = g.Resume(ctx, r.Record)
	g.must(err)
	g.refused("an old empty directory, resumed", m.MakeDirectory(ctx), volume.ErrConflict)
	g.must(m.Undo())
	if !g.has("empty") || g.has(".mooring/volumes/v3.json") {
		t.Error("an old empty directory was removed, or the record stays")
	}
}

// TestAdopt leaves an existing directory exactly as it is.
func TestAdopt(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.put("old/file", "")
	g.must(os.Chmod(g.at("old"), 0o751))
	r := record("v1", "old")
	mode := uint32(0o777)
	r.Adopt, r.Adopted, r.Mode = true, true, &mode
	m, _, err := g.Begin(ctx, r)
	g.must(err)
	g.must(m.Claim(ctx))
	g.must(m.MakeDirectory(ctx))
	info, err := os.Stat(g.at("old"))
	g.must(err)
	if info.Mode().Perm() != 0o751 || !g.has("old/file") {
		t.Errorf("the adopted directory is %v", info.Mode())
	}
	g.must(os.RemoveAll(g.at("old")))
	g.refused("it went", m.MakeDirectory(ctx), volume.ErrConflict, "not there any more")
	g.must(os.Symlink("/tmp", g.at("old")))
	g.refused("a link", m.MakeDirectory(ctx), volume.ErrConflict)
	g.must(m.Undo())
}

// TestMode gives a directory the mode that was asked for, whatever the umask.
func TestMode(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	for name, want := range map[string]os.FileMode{"a": 0o777, "b": 0o700, "c": 0o770 | os.ModeSticky, "d": 0o2 | os.ModeSetgid} {
		r := record("v-"+name, name)
		mode := uint32(want.Perm())
		if want&os.ModeSticky != 0 {
			mode |= 0o1000
		}
		if want&os.ModeSetgid != 0 {
			mode |= 0o2000
		}
		r.Mode = &mode
		m, _, err := g.Begin(ctx, r)
		g.must(err)
		g.must(m.Claim(ctx))
		g.must(m.MakeDirectory(ctx))
		m.Leave()
		if info, err := os.Stat(g.at(name)); err != nil || info.Mode() != want|os.ModeDir {
			t.Errorf("%s has the mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
}

// TestUpdate replaces a record, and keeps that it is ready.
func TestUpdate(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	r, err := g.Lookup(ctx, "v1")
	g.must(err)
	r.Capacity, r.OnDelete = 5<<30, volume.Retain
	g.must(g.Update(ctx, r.Record))
	if got, err := g.Lookup(ctx, "v1"); err != nil || got.Ready != 1 || got.Capacity != 5<<30 || got.OnDelete != volume.Retain {
		t.Errorf("the changed record is %+v, %v", got, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("left are the asides %q", left)
	}
	// The claim, a link to the old record, still names the volume.
	g.refused("another in its place", g.begin("v2", "a").Claim(ctx), volume.ErrConflict, "v1")
	if keys, err := g.Keys(ctx); err != nil || len(keys) != 2 || keys[0] != "v1" {
		t.Errorf("the volumes are %q, %v", keys, err)
	}
}
