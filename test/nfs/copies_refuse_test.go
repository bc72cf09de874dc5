// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
)

// TestCopyRefusals checks that each wrong request is refused with its code and changes nothing.
func TestCopyRefusals(t *testing.T) {
	s := newSite(t)
	s.add("second", lab.Exports, lab.Exports)
	v := s.mustCreate("pvc-1", "one")
	elsewhere, err := s.create("pvc-9", params{"share": "second"})
	if err != nil {
		t.Fatal(err)
	}
	other := s.mustCreate("pvc-other", "other")
	manyFiles(t, s.at("one"), 40)
	snap := mustSnapshot(t, s.ctl, v, "snap-1")
	damaged := mustSnapshot(t, s.ctl, v, "snap-damaged")
	write(t, s.at(".mooring/snapshots/snap-damaged/record.json"), "{")
	vanished := s.mustCreate("pvc-vanished", "vanished")
	if err := os.Remove(s.at("vanished")); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.ctl.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	groups := csi.NewGroupControllerClient(conn)

	create := func(r *csi.CreateVolumeRequest) error {
		_, err := s.controller().CreateVolume(soon(t), r)
		return err
	}
	snapshotOf := func(name, id string, p params) error {
		_, err := s.controller().CreateSnapshot(soon(t), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id, Parameters: p})
		return err
	}
	small := withSource(request("pvc-2", nil), "volume", v.VolumeId)
	small.CapacityRange = &csi.CapacityRange{RequiredBytes: 1 << 29}
	tiny := withSource(request("pvc-2", nil), "snapshot", snap.SnapshotId)
	tiny.CapacityRange = &csi.CapacityRange{RequiredBytes: 1}
	limited := withSource(request("pvc-2", nil), "volume", v.VolumeId)
	limited.CapacityRange = &csi.CapacityRange{LimitBytes: 1 << 20}
	for name, c := range map[string]struct {
		do    func() error
		code  codes.Code
		words []string
	}{
		"snapshot of nothing":          {func() error { return snapshotOf("s", "nas1/no-such", nil) }, codes.NotFound, []string{"no-such"}},
		"snapshot of another driver's": {func() error { return snapshotOf("s", "10.0.0.1#share#sub##", nil) }, codes.NotFound, []string{"not Mooring's"}},
		"snapshot of what is gone":     {func() error { return snapshotOf("s", vanished.VolumeId, nil) }, codes.FailedPrecondition, []string{"vanished", "does not exist"}},
		"the name of another's":        {func() error { return snapshotOf("snap-1", other.VolumeId, nil) }, codes.AlreadyExists, []string{"snap-1", "pvc-1"}},
		"a parameter":                  {func() error { return snapshotOf("s", v.VolumeId, params{"speed": "high"}) }, codes.InvalidArgument, []string{"speed"}},
		"restore of nothing":           {func() error { return create(withSource(request("pvc-2", nil), "snapshot", "nas1/no-such")) }, codes.NotFound, []string{"no-such"}},
		"restore of another driver's":  {func() error { return create(withSource(request("pvc-2", nil), "snapshot", "snap")) }, codes.NotFound, []string{"not Mooring's"}},
		"restore of what is damaged":   {func() error { return create(withSource(request("pvc-2", nil), "snapshot", damaged.SnapshotId)) }, codes.DataLoss, []string{"snap-damaged"}},
		"restore, too small":           {func() error { return create(tiny) }, codes.OutOfRange, []string{"pvc-2", "snap-1"}},
		"clone of nothing":             {func() error { return create(withSource(request("pvc-2", nil), "volume", "nas1/no-such")) }, codes.NotFound, []string{"no-such"}},
		"clone, too small":             {func() error { return create(small) }, codes.OutOfRange, []string{"pvc-2", "pvc-1", "536870912"}},
		"clone, limited":               {func() error { return create(limited) }, codes.OutOfRange, []string{"pvc-1"}},
		"clone into what is there": {func() error {
			return create(withSource(request("pvc-2", params{"subDir": "other"}), "volume", v.VolumeId))
		}, codes.FailedPrecondition, []string{"other"}},
		"clone that adopts": {func() error {
			return create(withSource(request("pvc-2", params{"existingDirectory": "adopt"}), "volume", v.VolumeId))
		}, codes.InvalidArgument, []string{"adopt"}},
		"clone of a share not known":  {func() error { return create(withSource(request("pvc-2", nil), "volume", "gone/pvc-1")) }, codes.FailedPrecondition, []string{"gone"}},
		"deletion of what is damaged": {func() error { return deleteSnapshot(t, s.ctl, damaged.SnapshotId) }, codes.DataLoss, []string{"snap-damaged"}},
		"a group over two shares": {func() error {
			_, err := groups.CreateVolumeGroupSnapshot(soon(t), &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{v.VolumeId, elsewhere.VolumeId}})
			return err
		}, codes.FailedPrecondition, []string{"nas1", "second"}},
		"a group with a volume that is not there": {func() error {
			_, err := groups.CreateVolumeGroupSnapshot(soon(t), &csi.CreateVolumeGroupSnapshotRequest{Name: "g", SourceVolumeIds: []string{v.VolumeId, "nas1/no-such"}})
			return err
		}, codes.NotFound, []string{"no-such"}},
	} {
		t.Run(name, func(t *testing.T) {
			unchanged(t, s.export, func() { wantCode(t, c.do(), c.code, c.words...) })
		})
	}
}

// TestGroups makes snapshots of several volumes, all or none, and deletes them together.
func TestGroups(t *testing.T) {
	s := newSite(t)
	a, b := s.mustCreate("pvc-a", "a"), s.mustCreate("pvc-b", "b")
	manyFiles(t, s.at("a"), 30)
	manyFiles(t, s.at("b"), 40)
	conn, err := grpc.NewClient(s.ctl.Endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	groups := csi.NewGroupControllerClient(conn)
	ask := &csi.CreateVolumeGroupSnapshotRequest{Name: "group-1", SourceVolumeIds: []string{b.VolumeId, a.VolumeId}}

	// One of two cannot be made: none remains.
	if err := os.Rename(s.at("b"), s.at("away")); err != nil {
		t.Fatal(err)
	}
	_, err = groups.CreateVolumeGroupSnapshot(soon(t), ask)
	wantCode(t, err, codes.FailedPrecondition, "pvc-b")
	if ids := snapshots(t, s.ctl); ids != nil {
		t.Errorf("of a group that failed there are %v", ids)
	}
	if left := append(inState(s, "groups"), inState(s, "snapshots")...); left != nil {
		t.Errorf("of a group that failed there are left %v", left)
	}
	if err := os.Rename(s.at("away"), s.at("b")); err != nil {
		t.Fatal(err)
	}

	r, err := groups.CreateVolumeGroupSnapshot(soon(t), ask)
	if err != nil {
		t.Fatal(err)
	}
	g := r.GroupSnapshot
	again, err := groups.CreateVolumeGroupSnapshot(soon(t), ask)
	if err != nil || again.GroupSnapshot.String() != g.String() || !g.ReadyToUse || len(g.Snapshots) != 2 {
		t.Fatalf("the group is %v, and then %v, %v", g, again, err)
	}
	for i, dir := range []string{"a", "b"} {
		member := g.Snapshots[i]
		if member.GroupSnapshotId != g.GroupSnapshotId {
			t.Errorf("%v is not of the group", member)
		}
		if _, err := s.controller().CreateVolume(soon(t), withSource(request("pvc-"+dir+"2", params{"subDir": dir + "2"}), "snapshot", member.SnapshotId)); err != nil {
			t.Fatal(err)
		}
		sameTree(t, s.at(dir), s.at(dir+"2"))
		wantCode(t, deleteSnapshot(t, s.ctl, member.SnapshotId), codes.InvalidArgument, "group-1")
	}
	_, err = groups.DeleteVolumeGroupSnapshot(soon(t), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: []string{g.Snapshots[0].SnapshotId}})
	wantCode(t, err, codes.InvalidArgument, "group-1")
	for range 2 {
		if _, err = groups.DeleteVolumeGroupSnapshot(soon(t), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId}); err != nil {
			t.Error(err)
		}
	}
	_, err = groups.GetVolumeGroupSnapshot(soon(t), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId})
	wantCode(t, err, codes.NotFound, "group-1")
	s.mustDelete("nas1/pvc-a", "nas1/pvc-b", "nas1/pvc-a2", "nas1/pvc-b2")
	s.empty()
}
