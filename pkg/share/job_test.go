// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const stranger = "ffffffff"

func ofVolume(key string) volume.Object   { return volume.Object{Kind: volume.OfVolume, Key: key} }
func ofSnapshot(key string) volume.Object { return volume.Object{Kind: volume.OfSnapshot, Key: key} }

// copyOf asks for a copy on nas1.
func copyOf(target, source volume.Object) volume.Copy {
	return volume.Copy{Target: target, Source: volume.Source{Object: source, Share: "nas1"}, Name: target.Key}
}

// beginCopy takes the right to make a copy.
func (g *ground) beginCopy(target, source volume.Object) *Copying {
	g.Helper()
	c, err := g.BeginCopy(context.Background(), copyOf(target, source))
	g.must(err)
	return c
}

// impatient is another instance, to which every lease has run out.
func (g *ground) impatient() *ground {
	g.Helper()
	s, err := Open(g.dir, nas1, Options{Maker: stranger, Lease: -time.Second})
	g.must(err)
	g.Cleanup(s.Close)
	return &ground{g.T, s, g.dir}
}

// TestJobOnce has one controller of two make a copy, until it ends or dies.
func TestJobOnce(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	other := openAt(t, g.dir, stranger)
	what := copyOf(ofSnapshot("s1"), ofVolume("v1"))
	first := g.beginCopy(what.Target, what.Source.Object)
	if jobs, err := other.Jobs(ctx); err != nil || len(jobs) != 1 || jobs[0].Copy != what || jobs[0].Maker != maker || jobs[0].Share != "nas1" || jobs[0].Dead || first.Resumed {
		t.Fatalf("the jobs are %+v, %v", jobs, err)
	}
	_, err := other.BeginCopy(ctx, what)
	g.refused("the second", err, volume.ErrBusy, "snapshot s1", maker)
	_, err = other.Seize(ctx, what.Target)
	g.refused("seizing it", err, volume.ErrBusy)
	_, err = g.BeginCopy(ctx, what)
	g.refused("the same, once more", err, volume.ErrBusy)
	g.must(first.Beat())
	first.End()
	if left := append(g.names(".mooring/jobs"), g.names(".mooring/staging")...); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
	if c, err := other.Seize(ctx, what.Target); err != nil || c != nil {
		t.Errorf("seized is %v, %v", c, err)
	}
	second := other.beginCopy(what.Target, what.Source.Object)
	if second.Resumed {
		t.Error("what is begun anew is called resumed")
	}
	second.End()
}

// TestSeizeAfterLease has a controller that was slow find out that it is not its copy any more,
// and destroy nothing of the other's.
func TestSeizeAfterLease(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.create("v1", "a")
	what := copyOf(ofSnapshot("s1"), ofVolume("v1"))
	slow := g.beginCopy(what.Target, what.Source.Object)
	g.must(slow.Open(ctx, g.Share))
	other := g.impatient()
	c, err := other.BeginCopy(ctx, what)
	g.must(err)
	if !c.Resumed {
		t.Error("what was taken over is not called resumed")
	}
	if jobs, err := g.Jobs(ctx); err != nil || len(jobs) != 1 || jobs[0].Maker != stranger || jobs[0].Copy != what || jobs[0].Dead {
		t.Errorf("the jobs are %+v, %v", jobs, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("of the one who was slow there is %q", left)
	}
	g.must(c.Open(ctx, other.Share))
	g.refused("a sign of life", slow.Beat(), volume.ErrBusy, "snapshot s1")
	slow.right.fresh = time.Time{}
	_, err = slow.PublishSnapshot(ctx, volume.SnapshotRecord{Key: "s1", Name: "s1", Volume: "v1"})
	g.refused("publishing", err, volume.ErrBusy, "taken it over")
	slow.End()
	g.must(c.Beat())
	if len(g.names(".mooring/jobs")) != 1 || len(g.names(".mooring/staging")) != 1 || g.has(".mooring/snapshots/s1") {
		t.Errorf("there are the jobs %q, the stagings %q", g.names(".mooring/jobs"), g.names(".mooring/staging"))
	}
	c.End()
}

// TestSeizeAfterRestart has the next run of an instance take its copies over at once, and
// another instance not.
func TestSeizeAfterRestart(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	left := g.beginCopy(ofVolume("v2"), ofSnapshot("s1"))
	left.Leave()
	other, next := openAt(t, g.dir, stranger), openAt(t, g.dir, maker)
	_, err := other.Seize(ctx, ofVolume("v2"))
	g.refused("another's", err, volume.ErrBusy)
	if c, err := next.Seize(ctx, ofVolume("v")); c != nil || err != nil { // whose name is the beginning of another's
		t.Errorf("seized is %v, %v", c, err)
	}
	c, err := next.Seize(ctx, ofVolume("v2"))
	g.must(err)
	if c == nil || !c.Resumed || c.right.job.Copy != left.right.job.Copy || c.right.job.Nonce == left.right.job.Nonce {
		t.Fatalf("seized is %+v", c)
	}
	c.End()
	if jobs := g.names(".mooring/jobs"); len(jobs) != 0 {
		t.Errorf("left are the jobs %q", jobs)
	}
}

// TestTornJob has a job of which only the name is there: its maker, or the server, stopped.
func TestTornJob(t *testing.T) {
	ctx := context.Background()
	for _, text := range []string{"", "{", "{}", "\x00\x00"} {
		g := newGround(t)
		g.put(".mooring/jobs/"+jobName(ofSnapshot("s1"), ofVolume("v1")), text)
		if jobs, err := g.Jobs(ctx); err != nil || len(jobs) != 1 || jobs[0].Dead || jobs[0].Target != ofSnapshot("s1") {
			t.Errorf("%q: the jobs are %+v, %v", text, jobs, err)
		}
		g.refused(text, g.held(ofVolume("v1")), volume.ErrBusy)
		other := g.impatient()
		g.must(other.held(ofVolume("v1")))
		c, err := other.BeginCopy(ctx, copyOf(ofSnapshot("s1"), ofVolume("v1")))
		g.must(err)
		c.End()
	}
}

// TestHeld has what is being copied, and nothing else, stay in its place.
func TestHeld(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	for _, key := range []string{"v1", "v10", "v2"} {
		g.create(key, key)
		g.put(key+"/file", "")
	}
	copies := []*Copying{g.beginCopy(ofSnapshot("v2"), ofVolume("v1")), g.beginCopy(ofVolume("c"), ofVolume("v1"))}
	trash := func(key string) error {
		r, err := g.Lookup(ctx, key)
		g.must(err)
		_, _, err = g.Share.Trash(ctx, r, time.Now())
		return err
	}
	for len(copies) > 0 {
		g.refused("the source", trash("v1"), volume.ErrBusy, "volume v1 is just being copied", "try again")
		copies[0].End()
		copies = copies[1:]
	}
	busy := g.beginCopy(ofSnapshot("v1"), ofVolume("v10"))
	defer g.beginCopy(ofSnapshot("s"), ofVolume("a.volume.v1")).End()
	g.must(trash("v1"))
	g.must(trash("v2"))
	if !g.has("v10/file") || g.has("v1") {
		t.Error("too much or too little has gone")
	}
	busy.Leave()
	g.refused("left, by another's clock", trash("v10"), volume.ErrBusy)
	next := openAt(t, g.dir, maker)
	r, err := next.Lookup(ctx, "v10")
	g.must(err)
	_, _, err = next.Share.Trash(ctx, r, time.Now())
	g.must(err)
}

// TestHeldFromElsewhere has a volume be copied to another share: both have a job.
func TestHeldFromElsewhere(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	g.opt.Run = "11112222" // one process
	g.create("v1", "a")
	def := nas1
	def.Name = "nas2"
	s, err := Open(t.TempDir(), def, Options{Maker: maker, Run: g.opt.Run})
	g.must(err)
	defer s.Close()
	c, err := s.BeginCopy(ctx, copyOf(ofVolume("v2"), ofVolume("v1")))
	g.must(err)
	g.must(s.held(ofVolume("v1"))) // one of that name on this share is another
	g.must(g.held(ofVolume("v1")))
	g.must(c.Open(ctx, g.Share))
	holds := g.names(".mooring/jobs")
	if len(holds) != 1 || !strings.HasPrefix(holds[0], heldBy) {
		t.Errorf("on the source's share there are the jobs %q", holds)
	}
	g.refused("the source", g.held(ofVolume("v1")), volume.ErrBusy)
	if jobs, err := g.Jobs(ctx); err != nil || len(jobs) != 0 {
		t.Errorf("a hold is taken for the jobs %+v, %v", jobs, err)
	}
	g.must(c.Beat())
	c.End()
	if left := g.names(".mooring/jobs"); len(left) != 0 {
		t.Errorf("left are the holds %q", left)
	}

	g.put(".mooring/jobs/"+holds[0], `{"nonce": "`+maker+`-00000000-1"}`) // of an earlier run
	g.must(g.held(ofVolume("v1")))
	if slices.Contains(g.names(".mooring/jobs"), holds[0]) {
		t.Error("the hold of one who is dead stays")
	}
}
