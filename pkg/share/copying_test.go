// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// fill puts a file into the tree that is being made.
func (g *ground) fill(c *Copying, text string) {
	g.Helper()
	_, target := c.Trees()
	g.must(os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/file", target), []byte(text), 0o644))
}

// snapshot makes one of a volume.
func (g *ground) snapshot(key, of string) {
	g.Helper()
	ctx, c := context.Background(), g.beginCopy(ofSnapshot(key), ofVolume(of))
	defer c.End()
	g.must(c.Open(ctx, g.Share))
	g.fill(c, "of "+key)
	_, err := c.PublishSnapshot(ctx, volume.SnapshotRecord{Key: key, Name: key, Volume: of})
	g.must(err)
}

// text returns what a file holds.
func (g *ground) text(path string) string {
	g.Helper()
	data, err := os.ReadFile(g.at(path))
	g.must(err)
	return string(data)
}

// TestPublishSnapshot has a snapshot appear whole, once, and only when it is published.
func TestPublishSnapshot(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.must(os.Chmod(g.at("a"), 0o750))
	c := g.beginCopy(ofSnapshot("s1"), ofVolume("v1"))
	g.must(c.Open(ctx, g.Share))
	if c.Volume() == nil || c.Volume().Key != "v1" || c.Snapshot() != nil {
		t.Errorf("what is copied is %+v, %+v", c.Volume(), c.Snapshot())
	}
	g.fill(c, "first")
	_, err := g.Snapshot(ctx, "s1")
	g.refused("before it is published", err, volume.ErrNotFound)
	r := volume.SnapshotRecord{Key: "s1", Name: "s1", Volume: "v1", Capacity: 7, Created: time.Unix(1, 0).UTC()}
	_, err = c.PublishSnapshot(ctx, r)
	g.must(err)
	c.End()
	if r, err := g.Snapshot(ctx, "s1"); err != nil || r.Capacity != 7 || r.Maker != maker {
		t.Errorf("published is %+v, %v", r, err)
	}
	if info, err := os.Stat(g.at(volume.SnapshotDirectory("s1"))); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the snapshot's tree is %v, %v", info.Mode(), err)
	}

	again := g.beginCopy(ofSnapshot("s1"), ofVolume("v1"))
	g.must(again.Open(ctx, g.Share))
	g.fill(again, "second")
	if found, err := again.PublishSnapshot(ctx, volume.SnapshotRecord{Key: "s1", Name: "s1", Volume: "v1", Capacity: 8}); err != nil || found.Capacity != 7 {
		t.Errorf("the second is told as %+v, %v", found, err)
	}
	again.End()
	if got := g.text(".mooring/snapshots/s1/data/file"); got != "first" {
		t.Errorf("the snapshot became %q", got)
	}
	if left := append(g.names(".mooring/jobs"), g.names(".mooring/staging")...); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
	entries, err := g.Trashed(ctx)
	g.must(err)
	if len(entries) != 1 || !entries[0].passing() || !entries[0].Recorded() {
		t.Errorf("in the trash are %+v", entries)
	}
	if due, err := g.Due(entries[0]); err != nil || !due.Equal(entries[0].Deleted) {
		t.Errorf("what never was in its place is due %v, %v", due, err)
	}
	if keys, err := g.SnapshotKeys(ctx); err != nil || !slices.Equal(keys, []string{"s1"}) {
		t.Errorf("the snapshots are %q, %v", keys, err)
	}
}

// TestPublishVolume has a copy take the place of a volume's empty directory, and find it taken
// by an earlier attempt.
func TestPublishVolume(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	g.snapshot("s1", "v1")
	for _, dir := range []string{"b", "team/c"} {
		r := record("v-"+dir[len(dir)-1:], dir)
		mode := uint32(0o2770)
		r.Mode = &mode
		m, _, err := g.Begin(ctx, r)
		g.must(err)
		g.must(m.Claim(ctx))
		g.must(m.MakeDirectory(ctx))
		if placed, err := g.Placed(ctx, &r); err != nil || placed {
			t.Errorf("before the copy it is in its place: %v, %v", placed, err)
		}
		c := g.beginCopy(ofVolume(r.Key), ofSnapshot("s1"))
		g.must(c.Open(ctx, g.Share))
		if c.Snapshot() == nil || c.Volume() != nil {
			t.Errorf("what is copied is %+v, %+v", c.Volume(), c.Snapshot())
		}
		g.fill(c, "copied")
		want := "copied"
		if dir == "team/c" {
			g.put(dir+"/file", "earlier")
			want = "earlier"
		}
		m.until = time.Time{} // whose right is that of the copy by now
		ready, err := c.PublishVolume(ctx, m)
		g.must(err)
		c.End()
		if got := g.text(dir + "/file"); ready.Ready != 1 || got != want {
			t.Errorf("%s is %+v, with %q, want %q", dir, ready, got, want)
		}
		if info, err := os.Stat(g.at(dir)); want == "copied" && (err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o770) {
			t.Errorf("%s is %v, %v", dir, info.Mode(), err)
		}
		if placed, err := g.Placed(ctx, &r); err != nil || !placed {
			t.Errorf("after the copy it is in its place: %v, %v", placed, err)
		}
	}
	if placed, err := g.Placed(ctx, &volume.Record{Key: "x", Directory: "none"}); err != nil || placed {
		t.Errorf("nothing is in its place: %v, %v", placed, err)
	}
}

// TestOpenSource has sources that cannot be copied.
func TestOpenSource(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.begin("half", "half")
	g.create("lost", "lost")
	g.must(os.Remove(g.at("lost")))
	g.put(".mooring/snapshots/bare/data/file", "")
	for source, c := range map[volume.Object]struct {
		kind error
		text string
	}{
		ofVolume("none"):   {volume.ErrNotFound, "none"},
		ofSnapshot("none"): {volume.ErrNotFound, "none"},
		ofVolume("half"):   {volume.ErrNotFound, "still being created"},
		ofVolume("lost"):   {volume.ErrConflict, "somebody removed it"},
		ofSnapshot("bare"): {volume.ErrDamaged, "record.json"},
	} {
		copying := g.beginCopy(ofSnapshot("s1"), source)
		g.refused(source.String(), copying.Open(ctx, g.Share), c.kind, c.text)
		copying.End()
	}
	if left := g.names(".mooring/jobs"); len(left) != 0 {
		t.Errorf("left are the jobs %q", left)
	}
}

// TestLeave has the copy's job and staging stay for the next run, which sweeps that alone which
// is nobody's.
func TestLeave(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	left := g.beginCopy(ofSnapshot("s1"), ofVolume("v1"))
	g.must(left.Open(ctx, g.Share))
	stage := left.stage
	left.Leave()
	g.must(os.Mkdir(g.at(".mooring/staging/snapshot.s2."+maker+"-1-1"), 0o700))
	m := g.begin("v2", "b") // has an aside
	for range 2 {
		g.must(g.SweepStaging(ctx))
		if got := g.names(".mooring/staging"); len(got) != 2 || !slices.Contains(got, stage) {
			t.Errorf("left are %q, want %q and an aside", got, stage)
		}
	}
	g.must(m.Undo())
	next := openAt(t, g.dir, maker)
	g.must(next.SweepStaging(ctx))
	if got := g.names(".mooring/staging"); !slices.Equal(got, []string{stage}) {
		t.Errorf("left are %q: the one who takes over sweeps that", got)
	}
	c, err := next.Seize(ctx, ofSnapshot("s1"))
	g.must(err)
	c.End()
	if got := append(g.names(".mooring/staging"), g.names(".mooring/jobs")...); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
	if entries, err := g.Trashed(ctx); err != nil || len(entries) != 2 || !entries[0].passing() || !entries[1].passing() {
		t.Errorf("in the trash are %+v, %v", entries, err)
	}
}
