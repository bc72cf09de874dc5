// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// copied does the copy of a creation that has just begun it.
func (g *testShare) copied(c *CopyJob, err error) *CopyJob {
	g.Helper()
	g.must(err)
	g.must(g.copy(c))
	return c
}

// beginSnapshot begins a snapshot, up to the copy.
func beginSnapshot(g *testShare, key, of string) (*PendingSnapshot, *CopyJob) {
	g.Helper()
	p, found, err := g.Snapshots.Begin(g.Context(), volume.SnapshotRecord{Key: key, Name: key, Volume: of})
	if err != nil || found != nil {
		g.Fatalf("%sbegin %s: %+v, %v", g.label, key, found, err)
	}
	return p, g.copied(p.BeginCopy(g.Context(), g.Share))
}

// TestSnapshot checks that a snapshot appears complete, once, and only after its commit.
func TestSnapshot(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	g.create("v1", "a")
	_, err := g.setCapacity("v1", 7)
	g.must(err)
	g.put("a/data", "first")
	g.must(os.Chmod(g.at("a"), 0o750))
	p, c := beginSnapshot(g, "s1", "v1")
	if c.Volume() == nil || c.Volume().Key != "v1" || c.Snapshot() != nil {
		t.Errorf("what is copied is %+v, %+v", c.Volume(), c.Snapshot())
	}
	g.must(c.Renew())
	_, err = g.Snapshots.Lookup(ctx, "s1")
	g.wantError("before it is committed", err, volume.ErrNotFound, "s1")
	other := openTestShare(t, g.dir, Options{Maker: otherMaker})
	_, err = other.trySnapshot("s1", "v1", nil)
	g.wantError("another of the name", err, volume.ErrBusy, "still being made")
	_, err = other.Snapshots.Delete(ctx, "s1", nil)
	g.wantError("its deletion", err, volume.ErrBusy, "still being made")
	created := time.Unix(1, 0).UTC()
	r, err := p.Commit(ctx, created, 9, true)
	g.must(err)
	for _, s := range []*testShare{g, other} {
		got, err := s.Snapshots.Lookup(ctx, "s1")
		if err != nil || got.Capacity != 7 || got.Size != 9 || !got.Plain || got.Maker != maker || got.Nonce != r.Nonce || !got.Created.Equal(created) {
			t.Errorf("committed is %+v, %v", got, err)
		}
		if again, err := s.trySnapshot("s1", "v1", nil); err != nil || again.Nonce != r.Nonce {
			t.Errorf("the second Begin finds %+v, %v", again, err)
		}
	}
	if info, err := os.Stat(g.at(volume.SnapshotDirectory("s1"))); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("the snapshot's tree is %v, %v", info.Mode(), err)
	}
	if got := g.text(".mooring/snapshots/s1/data/copy"); got != "first" {
		t.Errorf("the snapshot is %q", got)
	}
	if left := slices.Concat(g.names(".mooring/jobs"), g.names(".mooring/staging"), g.names(".mooring/trash")); len(left) != 0 || len(g.names(".mooring/volumes/v1/deletion")) != 0 {
		t.Errorf("left are %q", left)
	}
	if keys, err := g.Snapshots.Keys(ctx); err != nil || !slices.Equal(keys, []string{"s1"}) {
		t.Errorf("the snapshots are %q, %v", keys, err)
	}
	p, _ = beginSnapshot(g, "s2", "v1")
	g.must(p.Abort())
	if keys, err := g.Snapshots.Keys(ctx); err != nil || len(keys) != 1 || len(g.names(".mooring/jobs")) != 0 || len(g.names(".mooring/volumes/v1/deletion")) != 0 {
		t.Errorf("an abort has left %q, %q, %v", keys, g.names(".mooring/jobs"), err)
	}
}

// TestTrashSnapshot moves a snapshot to the trash, once, and checks that it is kept there for the
// share's retention.
func TestTrashSnapshot(t *testing.T) {
	g := newTestShare(t)
	withSnapshot(g)
	wrong := volume.Errorf(volume.ErrPrecondition, "no")
	_, err := g.Snapshots.Delete(t.Context(), "s1", func(*volume.SnapshotRecord) error { return wrong })
	g.wantError("what its caller refuses", err, volume.ErrPrecondition)
	e, err := g.Snapshots.Delete(t.Context(), "s1", nil)
	if err != nil || e.Due.Sub(e.Deleted) != nas1.TrashRetention || e.Key != "s1" || e.Kind() != "snapshot" || !e.Complete() {
		t.Fatalf("in the trash is %+v, %v", e, err)
	}
	_, err = g.Snapshots.Lookup(t.Context(), "s1")
	g.wantError("a snapshot in the trash", err, volume.ErrNotFound, "s1")
	if e, err := g.Snapshots.Delete(t.Context(), "s1", nil); err != nil || e != nil {
		t.Errorf("again: %+v, %v", e, err)
	}
	all, err := g.Trash.List(t.Context())
	if err != nil || len(all) != 1 || all[0] != *e {
		t.Errorf("the trash holds %+v, %v", all, err)
	}
	if v, s, err := g.Trash.Record(*e); err != nil || v != nil || s.Volume != "v1" {
		t.Errorf("its record is %+v, %+v, %v", v, s, err)
	}
	if got := g.text(".mooring/trash/" + e.Name + "/copy"); got != "of v1" {
		t.Errorf("the trash holds %q", got)
	}
}

// TestUsedSnapshot has volumes that are the snapshot itself, which stays as long as they do.
func TestUsedSnapshot(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withSnapshot(g)
	g.must(g.Snapshots.CheckUnused(ctx, "s1"))
	g.must(g.Snapshots.CheckUnused(ctx, "none"))
	for _, key := range []string{"r1", "r2"} {
		_, err := g.make(shallowRecord(key, "s1"))
		g.must(err)
	}
	other := g.withExpiredLease() // the lease does not matter here
	_, err := other.Snapshots.Delete(ctx, "s1", nil)
	g.wantError("a snapshot that is used", err, volume.ErrPrecondition, "s1", "volume r1, volume r2", "shallow")
	g.wantError("the same", other.Snapshots.CheckUnused(ctx, "s1"), volume.ErrPrecondition)
	for _, key := range []string{"r1", "r2"} {
		for range 2 {
			g.delete(key)
		}
		if g.state(key) >= Making || g.text(".mooring/snapshots/s1/data/copy") != "of v1" || len(g.names(".mooring/trash")) > 0 {
			t.Errorf("%s: too much or too little was removed", key)
		}
		if key == "r1" {
			_, err = other.Snapshots.Delete(ctx, "s1", nil)
			g.wantError("a snapshot that r2 uses", err, volume.ErrPrecondition, "volume r2 is")
		}
	}
	_, err = other.Snapshots.Delete(ctx, "s1", nil)
	g.must(err)
	_, err = g.make(shallowRecord("r3", "s1"))
	g.wantError("a snapshot in the trash", err, volume.ErrNotFound, "s1")
	if g.state("r3") >= Making {
		t.Error("a refused volume exists")
	}
}

// TestHoldOfNobody has holds without effect: their volumes are gone, or were replaced. Holds whose
// volume has an unreadable record stay.
func TestHoldOfNobody(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withSnapshot(g)
	holds := ".mooring/snapshots/s1/deletion/"
	for _, key := range []string{"gone", "v1"} {
		g.put(holds+userHold+key+"."+volume.NewNonce(), "")
	}
	if err := g.Snapshots.CheckUnused(ctx, "s1"); err != nil {
		t.Error(err)
	}
	r, err := g.make(shallowRecord("odd", "s1"))
	g.must(err)
	g.must(os.Remove(g.at(".mooring/volumes/odd/record.json")))
	g.put(".mooring/volumes/odd/record.json", "{")
	_, err = g.Snapshots.Delete(ctx, "s1", nil)
	g.wantError("a volume of which nobody knows", err, volume.ErrPrecondition, "volume odd")
	if !g.has(holds + userHoldName(r)) {
		t.Error("its hold is gone")
	}
	g.must(os.RemoveAll(g.at(".mooring/volumes/odd")))
	g.put(holds+"what is that", "") // a later Mooring may have made it
	g.age(holds+"what is that", time.Hour)
	_, err = g.Snapshots.Delete(ctx, "s1", nil)
	g.wantError("a hold that nobody knows", err, volume.ErrPrecondition, "what is that", "upgrade Mooring")
	g.must(os.Remove(g.at(holds + "what is that")))
	_, err = g.Snapshots.Delete(ctx, "s1", nil)
	g.must(err)
}

// TestUseWhileDeleted deletes or replaces a snapshot while a volume becomes it: the volume gets an
// error.
func TestUseWhileDeleted(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		for _, step := range []string{"make the directory of holds", "hold the source"} {
			g := newTestShare(t)
			withSnapshot(g)
			g.beforeStep(step, func() {
				other := g.withExpiredLease()
				_, err := other.Snapshots.Delete(t.Context(), "s1", nil)
				g.must(err)
				if replaced {
					other.snapshot("s1", "v1")
				}
			})
			_, err := g.make(shallowRecord("r1", "s1"))
			if replaced && err == nil { // it has taken the new one
				g.wantError("its deletion", func() error { _, err := g.Snapshots.Delete(t.Context(), "s1", nil); return err }(), volume.ErrPrecondition, "r1")
				continue
			}
			if k := volume.Kind(err); k != volume.ErrNotFound && k != volume.ErrBusy || g.state("r1") == Ready {
				t.Errorf("replaced %v, before %q: %v", replaced, step, err)
			}
		}
	}
}

// TestOpenSource has sources that cannot be copied.
func TestOpenSource(t *testing.T) {
	g := newTestShare(t)
	g.begin(record("half", "half")).Close()
	g.create("lost", "lost")
	g.must(os.Remove(g.at("lost")))
	g.create("newer", "newer")
	g.put("newer/data", "x")
	g.snapshot("newer", "newer")
	g.must(os.MkdirAll(g.at(".mooring/snapshots/bare/data"), 0o700))
	for _, entry := range []string{"volumes/newer", "snapshots/newer"} {
		g.addRequirement(entry + "/record.json")
	}
	for source, c := range map[volume.Object]struct {
		kind error
		text string
	}{
		volumeObject("none"):    {volume.ErrNotFound, "none"},
		snapshotObject("none"):  {volume.ErrNotFound, "none"},
		volumeObject("half"):    {volume.ErrNotFound, "being created"},
		volumeObject("lost"):    {volume.ErrPrecondition, "somebody removed it"},
		snapshotObject("bare"):  {volume.ErrNotFound, "bare"},
		volumeObject("newer"):   {volume.ErrPrecondition, "teleport"},
		snapshotObject("newer"): {volume.ErrPrecondition, "teleport"},
	} {
		r := record("v2", "v2")
		r.Source = sourceOf(source)
		_, err := g.make(r)
		g.wantError(source.String(), err, c.kind, c.text)
		if g.state("v2") >= Making || g.has("v2") || len(g.names(".mooring/jobs")) > 0 {
			t.Errorf("%s: something is left", source)
		}
	}
	_, err := g.make(shallowRecord("sh", "newer"))
	g.wantError("shallow", err, volume.ErrPrecondition, "teleport")
}

// TestCopyElsewhere copies a volume to another share: the hold is on the source's share.
func TestCopyElsewhere(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withData(g)
	def := nas1
	def.Name = "nas2"
	s, err := Open(scratchDir(t), def, Options{Maker: maker, Initialize: true})
	g.must(err)
	defer s.Close()
	r := record("v2", "v2")
	r.Source = sourceOf(volumeObject("v1"))
	p, _, err := s.Volumes.Begin(ctx, r)
	g.must(err)
	g.must(p.MakeDirectory(ctx))
	c := g.copied(p.BeginCopy(ctx, g.Share))
	g.must(c.Renew())
	_, err = g.Volumes.Delete(ctx, "v1")
	g.wantError("the source", err, volume.ErrBusy, "being copied, for the copy volume v2")
	if jobs, err := s.Jobs.List(ctx); err != nil || len(jobs) != 1 || jobs[0].Target != volumeObject("v2") {
		t.Errorf("the copies there are %+v, %v", jobs, err)
	}
	if jobs, err := g.Jobs.List(ctx); err != nil || len(jobs) != 0 {
		t.Errorf("the copies here are %+v, %v", jobs, err)
	}
	_, _, err = p.CommitCopy(ctx)
	g.must(err)
	if len(g.names(".mooring/volumes/v1/deletion")) != 0 {
		t.Error("the hold stays")
	}
	g.delete("v1")
}

// TestJobs lists copies, and finds those whose makers have stopped.
func TestJobs(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withSnapshot(g)
	r := record("v2", "v2")
	r.Source = sourceOf(snapshotObject("s1"))
	p := g.begin(r)
	g.must(p.MakeDirectory(ctx))
	g.copied(p.BeginCopy(ctx, g.Share))
	ps, c := beginSnapshot(g, "s2", "v1")
	copies := func(of *testShare) (targets []string) {
		all, err := of.Jobs.Abandoned(ctx)
		g.must(err)
		for _, c := range all {
			targets = append(targets, c.Target.String()+" of "+c.Source.String()+" "+c.Name)
		}
		slices.Sort(targets)
		return targets
	}
	both := []string{"snapshot s2 of volume nas1/v1 s2", "volume v2 of snapshot nas1/s1 "}
	for who, want := range map[*testShare][]string{
		g: nil, openTestShare(t, g.dir, Options{Maker: otherMaker}): nil, g.nextRun(): both, g.withExpiredLease(): both,
	} {
		if got := copies(who); !slices.Equal(got, want) {
			t.Errorf("the abandoned are %q, want %q", got, want)
		}
	}
	jobs, err := g.Jobs.List(ctx)
	if err != nil || len(jobs) != 2 {
		t.Errorf("the copies are %+v, %v", jobs, err)
	}
	for _, j := range jobs {
		st, err := g.Jobs.Status(j)
		if err != nil || st == nil || st.Target != j.Target || st.Copy.Target != j.Target || st.Maker != maker || st.Abandoned || st.Idle > time.Minute {
			t.Errorf("%s is %+v, %v", j.Target, st, err)
		}
	}
	g.must(c.Renew())
	g.withExpiredLease().delete("v2")
	_, err = g.withExpiredLease().Snapshots.Delete(ctx, "s2", nil)
	g.must(err)
	g.wantError("a heartbeat", c.Renew(), volume.ErrBusy, "undone by another process")
	_, err = ps.Commit(ctx, time.Now(), 1, true)
	g.wantError("the snapshot", err, volume.ErrBusy)
	_, _, err = p.CommitCopy(ctx)
	g.wantError("the volume", err, volume.ErrBusy)
	for _, j := range jobs {
		if st, err := g.Jobs.Status(j); err != nil || st != nil {
			t.Errorf("%s is %+v, %v", j.Target, st, err)
		}
	}
	// The index entry of a copy that has ended is removed.
	g.put(".mooring/jobs/"+jobName(volumeObject("gone"), volume.NewNonce()), "")
	g.put(".mooring/jobs/"+jobName(volumeObject("v1"), volume.NewNonce()), "")
	if got := copies(g); len(got) > 0 || len(g.names(".mooring/jobs")) > 0 {
		t.Errorf("the abandoned are %q, the notes %q", got, g.names(".mooring/jobs"))
	}
}

// TestDamagedUnfinishedSnapshot undoes a snapshot whose maker stopped while it wrote the record, and not
// one whose maker may still be writing it.
func TestDamagedUnfinishedSnapshot(t *testing.T) {
	g := newTestShare(t)
	withData(g)
	beginSnapshot(g, "s2", "v1")
	g.put(".mooring/snapshots/s2/making.json", "{")
	for _, c := range []struct {
		by   *testShare
		left int
	}{{g, 1}, {g.withExpiredLease(), 0}} {
		copies, err := c.by.Jobs.Abandoned(t.Context())
		if left := g.names(".mooring/snapshots"); err != nil || copies != nil || len(left) != c.left {
			t.Errorf("%v, %v, left is %q, want %d", copies, err, left, c.left)
		}
	}
}

// TestGroup makes a group once, after all its snapshots, and deletes it with them.
func TestGroup(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withPair(g)
	_, err := g.Groups.Lookup(ctx, "g1")
	g.wantError("a group that does not exist", err, volume.ErrNotFound, "g1")
	first, err := g.Groups.Begin(ctx, groupRecord("g1"))
	g.must(err)
	if first.State != Making || len(first.Members) != 2 {
		t.Errorf("the first is %+v", first)
	}
	other := openTestShare(t, g.dir, Options{Maker: otherMaker})
	again := groupRecord("g1")
	again.Members = again.Members[:1]
	if found, err := other.Groups.Begin(ctx, again); err != nil || len(found.Members) != 2 || found.Nonce != first.Nonce {
		t.Errorf("the second finds %+v, %v", found, err)
	}
	g.wantError("without its snapshots", other.Groups.Commit(ctx, first), volume.ErrNotFound)
	g.snapshot("s1", "v1") // in no group
	g.wantError("with another's", other.Groups.Commit(ctx, first), volume.ErrPrecondition, "s1")
	_, err = g.Snapshots.Delete(ctx, "s1", nil)
	g.must(err)
	r, err := other.createGroup("g1")
	g.must(err)
	g.must(other.Groups.Commit(ctx, r)) // again
	if r, err := g.Groups.Lookup(ctx, "g1"); err != nil || r.State != Ready || r.Nonce != first.Nonce {
		t.Errorf("committed is %+v, %v", r, err)
	}
	_, err = g.make(shallowRecord("sh", "s2"))
	g.must(err)
	_, err = g.Groups.Delete(ctx, "g1", nil)
	g.wantError("a group whose snapshot is used", err, volume.ErrPrecondition, "sh")
	g.delete("sh")
	_, err = g.Groups.Delete(ctx, "g1", func(*Group) error { return volume.Errorf(volume.ErrInvalid, "no") })
	g.wantError("what its caller refuses", err, volume.ErrInvalid)
	for n := range 2 {
		trashed, err := g.Groups.Delete(ctx, "g1", nil)
		if err != nil || len(trashed) != 2*(1-n) {
			t.Errorf("in the trash are %+v, %v", trashed, err)
		}
	}
	g.wantError("what was deleted", g.Groups.Commit(ctx, first), volume.ErrNotFound)
	_, err = g.Groups.Begin(ctx, groupRecord("g1"))
	g.must(err)
	g.wantError("the one before", g.Groups.Commit(ctx, first), volume.ErrBusy, "begun again")
}

// TestAbandonedGroups checks that only old unfinished groups are abandoned.
func TestAbandonedGroups(t *testing.T) {
	ctx := t.Context()
	g := newTestShare(t)
	withPair(g)
	_, err := g.createGroup("whole")
	g.must(err)
	for _, key := range []string{"old", "young", "wanted"} {
		_, err := g.Groups.Begin(ctx, groupRecord(key))
		g.must(err)
	}
	for _, key := range []string{"old", "wanted"} {
		g.age(".mooring/groups/"+key+"/making.json", groupTimeout+time.Minute)
	}
	_, err = g.Groups.Begin(ctx, groupRecord("wanted"))
	g.must(err)
	g.age(".mooring/groups/whole/record.json", groupTimeout+time.Minute)
	g.put(".mooring/groups/damaged/record.json", "{")
	if got, err := g.Groups.Abandoned(ctx); err != nil || !slices.Equal(got, []string{"old"}) {
		t.Errorf("abandoned are %q, %v", got, err)
	}
	if keys, err := g.Groups.Keys(ctx); err != nil || len(keys) != 5 {
		t.Errorf("the groups are %q, %v", keys, err)
	}
}
