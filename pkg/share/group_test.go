// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// group asks for one of two snapshots.
func group(key string, created time.Time) volume.GroupRecord {
	return volume.GroupRecord{Key: key, Name: key, Created: created, Members: []volume.Member{{Snapshot: "s1", Volume: "v1"}, {Snapshot: "s2", Volume: "v2"}}}
}

// TestGroup has a group's record be published once, made ready and removed.
func TestGroup(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	_, err := g.Group(ctx, "g1")
	g.refused("a group that is not there", err, volume.ErrNotFound, "g1")
	first, err := g.BeginGroup(ctx, group("g1", time.Unix(1, 0).UTC()))
	g.must(err)
	if first.Ready != 0 || len(first.Members) != 2 {
		t.Errorf("the first is %+v", first)
	}
	other := openAt(t, g.dir, stranger)
	again := group("g1", time.Unix(2, 0).UTC())
	again.Members = again.Members[:1]
	if found, err := other.BeginGroup(ctx, again); err != nil || len(found.Members) != 2 || !found.Created.Equal(first.Created) {
		t.Errorf("the second finds %+v, %v", found, err)
	}
	if left := g.names(".mooring/staging"); len(left) != 0 {
		t.Errorf("left are the asides %q", left)
	}
	for range 2 {
		g.must(other.CommitGroup(ctx, "g1"))
		if r, err := g.Group(ctx, "g1"); err != nil || r.Ready != 1 || len(r.Members) != 2 {
			t.Errorf("committed is %+v, %v", r, err)
		}
	}
	for range 2 {
		g.must(g.RemoveGroup(ctx, "g1"))
	}
	_, err = other.Group(ctx, "g1")
	g.refused("a group that was removed", err, volume.ErrNotFound)
}

// TestDamagedGroup has a record that cannot be believed.
func TestDamagedGroup(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	for _, text := range []string{"", "{}", "null", `{"version": 1}`} {
		g.put(".mooring/groups/g1.json", text)
		_, err := g.Group(ctx, "g1")
		g.refused(text, err, volume.ErrDamaged, "nas1", "g1")
		_, err = g.BeginGroup(ctx, group("g1", time.Now()))
		g.refused(text, err, volume.ErrDamaged)
		g.refused(text, g.CommitGroup(ctx, "g1"), volume.ErrDamaged)
		if got := g.text(".mooring/groups/g1.json"); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// TestAbandonedGroups has only those that nobody ends any more.
func TestAbandonedGroups(t *testing.T) {
	ctx := context.Background()
	g := newGround(t)
	long := time.Now().Add(-abandonedGroup - time.Minute)
	for key, created := range map[string]time.Time{"old": long, "whole": long, "young": time.Now().Add(time.Minute - abandonedGroup)} {
		_, err := g.BeginGroup(ctx, group(key, created))
		g.must(err)
	}
	g.must(g.CommitGroup(ctx, "whole"))
	g.put(".mooring/groups/damaged.json", "{")
	g.put(".mooring/groups/foreign", "")
	if got, err := g.AbandonedGroups(ctx); err != nil || len(got) != 1 || got[0].Key != "old" || len(got[0].Members) != 2 {
		t.Errorf("abandoned are %+v, %v", got, err)
	}
}
