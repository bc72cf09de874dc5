// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

var s1 = volume.Snapshot{
	Handle: volume.Handle{Share: "nas1", Key: "s1"}, Volume: v1.Handle, Group: "nas1/g1", Size: 9, Created: time.Unix(1000, 5),
}

var toldSnapshot = &csi.Snapshot{
	SnapshotId: "nas1/s1", SourceVolumeId: "nas1/v1", GroupSnapshotId: "nas1/g1", SizeBytes: 9,
	CreationTime: &timestamppb.Timestamp{Seconds: 1000, Nanos: 5}, ReadyToUse: true,
}

var g1 = volume.Group{Handle: volume.Handle{Share: "nas1", Key: "g1"}, Snapshots: []volume.Snapshot{s1}, Created: time.Unix(1000, 5)}

var toldGroup = &csi.VolumeGroupSnapshot{
	GroupSnapshotId: "nas1/g1", Snapshots: []*csi.Snapshot{toldSnapshot},
	CreationTime: &timestamppb.Timestamp{Seconds: 1000, Nanos: 5}, ReadyToUse: true,
}

// snapshots is a Snapshots that records its calls, like volumes.
type snapshots struct{ *double }

func (s snapshots) Create(_ context.Context, name string, source volume.Handle) (*volume.Snapshot, error) {
	s.calls = append(s.calls, "CreateSnapshot", name, source)
	return &s1, s.err
}

func (s snapshots) Delete(_ context.Context, h volume.Handle) error {
	s.calls = append(s.calls, "DeleteSnapshot", h)
	return s.err
}

func (s snapshots) Get(_ context.Context, h volume.Handle) (*volume.Snapshot, error) {
	s.calls = append(s.calls, "GetSnapshot", h)
	return &s1, s.err
}

func (s snapshots) List(_ context.Context, p volume.Page, of *volume.Handle) ([]volume.Snapshot, string, error) {
	s.calls = append(s.calls, "ListSnapshots", p)
	if of != nil {
		s.calls = append(s.calls, *of)
	}
	return []volume.Snapshot{s1, s1}, "next", s.err
}

// groups is a Groups that records its calls, like volumes.
type groups struct{ *double }

func (g groups) Create(_ context.Context, name string, sources []volume.Handle) (*volume.Group, error) {
	g.calls = append(g.calls, "CreateGroup", name, sources)
	return &g1, g.err
}

func (g groups) Delete(_ context.Context, h volume.Handle, snapshots []volume.Handle) error {
	g.calls = append(g.calls, "DeleteGroup", h, snapshots)
	return g.err
}

func (g groups) Get(_ context.Context, h volume.Handle, snapshots []volume.Handle) (*volume.Group, error) {
	g.calls = append(g.calls, "GetGroup", h, snapshots)
	return &g1, g.err
}

// grouped calls a method of a new GroupController.
func grouped[Q, R proto.Message](t *testing.T, err error, method func(*GroupController, context.Context, Q) (R, error), request Q) (R, []any, error) {
	t.Helper()
	d := &double{err: err}
	r, err := method(&GroupController{Groups: groups{d}}, context.Background(), request)
	return r, d.calls, err
}

func TestSnapshots(t *testing.T) {
	got, calls, err := call(t, nil, (*Controller).CreateSnapshot, &csi.CreateSnapshotRequest{
		Name: "s1", SourceVolumeId: "nas1/v1", Parameters: map[string]string{"csi.storage.k8s.io/volumesnapshot/name": "monday"},
	})
	want(t, got, calls, err, &csi.CreateSnapshotResponse{Snapshot: toldSnapshot}, "CreateSnapshot", "s1", v1.Handle)

	deleted, calls, err := call(t, nil, (*Controller).DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: "nas1/s1"})
	want(t, deleted, calls, err, &csi.DeleteSnapshotResponse{}, "DeleteSnapshot", s1.Handle)
	// An id that this driver cannot have created is deleted already.
	deleted, calls, err = call(t, nil, (*Controller).DeleteSnapshot, &csi.DeleteSnapshotRequest{SnapshotId: "no such"})
	want(t, deleted, calls, err, &csi.DeleteSnapshotResponse{})

	one, calls, err := call(t, nil, (*Controller).GetSnapshot, &csi.GetSnapshotRequest{SnapshotId: "nas1/s1"})
	want(t, one, calls, err, &csi.GetSnapshotResponse{Snapshot: toldSnapshot}, "GetSnapshot", s1.Handle)
}

func TestListSnapshots(t *testing.T) {
	entry := &csi.ListSnapshotsResponse_Entry{Snapshot: toldSnapshot}
	two := &csi.ListSnapshotsResponse{Entries: []*csi.ListSnapshotsResponse_Entry{entry, entry}, NextToken: "next"}
	single := &csi.ListSnapshotsResponse{Entries: []*csi.ListSnapshotsResponse_Entry{entry}}
	page := volume.Page{Token: "x", Max: 2}
	for _, c := range []struct {
		request *csi.ListSnapshotsRequest
		answer  *csi.ListSnapshotsResponse
		calls   []any
	}{
		{&csi.ListSnapshotsRequest{StartingToken: "x", MaxEntries: 2}, two, []any{"ListSnapshots", page}},
		{&csi.ListSnapshotsRequest{StartingToken: "x", MaxEntries: 2, SourceVolumeId: "nas1/v1"}, two, []any{"ListSnapshots", page, v1.Handle}},
		{&csi.ListSnapshotsRequest{SourceVolumeId: "other"}, &csi.ListSnapshotsResponse{}, nil},
		{&csi.ListSnapshotsRequest{SnapshotId: "nas1/s1"}, single, []any{"GetSnapshot", s1.Handle}},
		{&csi.ListSnapshotsRequest{SnapshotId: "nas1/s1", SourceVolumeId: "nas1/v1"}, single, []any{"GetSnapshot", s1.Handle}},
		{&csi.ListSnapshotsRequest{SnapshotId: "nas1/s1", SourceVolumeId: "nas1/other"}, &csi.ListSnapshotsResponse{}, []any{"GetSnapshot", s1.Handle}},
		{&csi.ListSnapshotsRequest{SnapshotId: "other"}, &csi.ListSnapshotsResponse{}, nil},
	} {
		got, calls, err := call(t, nil, (*Controller).ListSnapshots, c.request)
		if err != nil || !proto.Equal(got, c.answer) || !reflect.DeepEqual(calls, c.calls) {
			t.Errorf("%v: %v, %v, after %v", c.request, got, err, calls)
		}
	}
	// A snapshot that does not exist is an empty list; an unreachable share is an error.
	got, _, err := call(t, volume.Errorf(volume.ErrNotFound, "gone"), (*Controller).ListSnapshots, &csi.ListSnapshotsRequest{SnapshotId: "nas1/s1"})
	if err != nil || len(got.Entries) != 0 {
		t.Errorf("a snapshot that is gone: %v, %v", got, err)
	}
	if _, _, err := call(t, volume.Errorf(volume.ErrUnavailable, "dead"), (*Controller).ListSnapshots, &csi.ListSnapshotsRequest{SnapshotId: "nas1/s1"}); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("a dead share: %v", err)
	}
}

func TestGroups(t *testing.T) {
	got, calls, err := grouped(t, nil, (*GroupController).CreateVolumeGroupSnapshot, &csi.CreateVolumeGroupSnapshotRequest{Name: "g1", SourceVolumeIds: []string{"nas1/v1", "nas1/v2"}})
	want(t, got, calls, err, &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: toldGroup}, "CreateGroup", "g1", []volume.Handle{v1.Handle, {Share: "nas1", Key: "v2"}})

	deleted, calls, err := grouped(t, nil, (*GroupController).DeleteVolumeGroupSnapshot, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "nas1/g1", SnapshotIds: []string{"nas1/s1"}})
	want(t, deleted, calls, err, &csi.DeleteVolumeGroupSnapshotResponse{}, "DeleteGroup", g1.Handle, []volume.Handle{s1.Handle})
	deleted, calls, err = grouped(t, nil, (*GroupController).DeleteVolumeGroupSnapshot, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "other"})
	want(t, deleted, calls, err, &csi.DeleteVolumeGroupSnapshotResponse{})

	one, calls, err := grouped(t, nil, (*GroupController).GetVolumeGroupSnapshot, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: "nas1/g1"})
	want(t, one, calls, err, &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: toldGroup}, "GetGroup", g1.Handle, []volume.Handle(nil))
}

// TestSnapshotRefusals checks that invalid requests are refused before any call.
func TestSnapshotRefusals(t *testing.T) {
	extra := map[string]string{"speed": "high"}
	for part, request := range map[string]proto.Message{
		"no snapshot name":         &csi.CreateSnapshotRequest{SourceVolumeId: "nas1/v1"},
		"no source volume id":      &csi.CreateSnapshotRequest{Name: "s1"},
		`"speed" is not a`:         &csi.CreateSnapshotRequest{Name: "s1", SourceVolumeId: "nas1/v1", Parameters: extra},
		"no snapshot id":           &csi.DeleteSnapshotRequest{},
		"no snapshot id is given":  &csi.GetSnapshotRequest{},
		"no group name is given":   &csi.CreateVolumeGroupSnapshotRequest{SourceVolumeIds: []string{"nas1/v1"}},
		"no volume is given":       &csi.CreateVolumeGroupSnapshotRequest{Name: "g1"},
		"takes no parameters":      &csi.CreateVolumeGroupSnapshotRequest{Name: "g1", SourceVolumeIds: []string{"nas1/v1"}, Parameters: extra},
		"no group snapshot id":     &csi.DeleteVolumeGroupSnapshotRequest{},
		"the group's snapshots":    &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "nas1/g1", SnapshotIds: []string{"other"}},
		"no group snapshot id is":  &csi.GetVolumeGroupSnapshotRequest{},
		"the group's snapshots: ":  &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: "nas1/g1", SnapshotIds: []string{"x"}},
		"no source volume id is g": &csi.CreateVolumeGroupSnapshotRequest{Name: "g1", SourceVolumeIds: []string{""}},
	} {
		d := &double{}
		c, g, ctx := newDouble(d), &GroupController{Groups: groups{d}}, context.Background()
		var err error
		switch r := request.(type) {
		case *csi.CreateSnapshotRequest:
			_, err = c.CreateSnapshot(ctx, r)
		case *csi.DeleteSnapshotRequest:
			_, err = c.DeleteSnapshot(ctx, r)
		case *csi.GetSnapshotRequest:
			_, err = c.GetSnapshot(ctx, r)
		case *csi.CreateVolumeGroupSnapshotRequest:
			_, err = g.CreateVolumeGroupSnapshot(ctx, r)
		case *csi.DeleteVolumeGroupSnapshotRequest:
			_, err = g.DeleteVolumeGroupSnapshot(ctx, r)
		case *csi.GetVolumeGroupSnapshotRequest:
			_, err = g.GetVolumeGroupSnapshot(ctx, r)
		}
		refused(t, part, err, volume.ErrInvalid, strings.TrimSpace(part))
		if d.calls != nil {
			t.Errorf("%s: calls = %v", part, d.calls)
		}
	}
	// A source that this driver cannot have created is not found.
	_, err := newDouble(&double{}).CreateSnapshot(context.Background(), &csi.CreateSnapshotRequest{Name: "s1", SourceVolumeId: "other"})
	refused(t, "a foreign source", err, volume.ErrNotFound, "not Mooring's")
}

// TestSources decodes and encodes a volume's source.
func TestSources(t *testing.T) {
	for kind, source := range map[volume.ObjectKind]*csi.VolumeContentSource{
		volume.ObjectSnapshot: {Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: "nas1/x"}}},
		volume.ObjectVolume:   {Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: "nas1/x"}}},
	} {
		got, err := decodeSource(source)
		if want := (&volume.Source{Object: volume.Object{Kind: kind, Key: "x"}, Share: "nas1"}); err != nil || *got != *want {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
		if !proto.Equal(encodeSource(got), source) {
			t.Errorf("%s: encoded as %v", kind, encodeSource(got))
		}
	}
	if got, err := decodeSource(nil); got != nil || err != nil || encodeSource(nil) != nil {
		t.Errorf("without a source: %v, %v", got, err)
	}
}

// TestReadersOnly checks which access modes make a volume read-only.
func TestReadersOnly(t *testing.T) {
	for _, c := range []struct {
		modes []csi.VolumeCapability_AccessMode_Mode
		want  bool
	}{
		{[]csi.VolumeCapability_AccessMode_Mode{csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}, true},
		{[]csi.VolumeCapability_AccessMode_Mode{csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY}, true},
		{[]csi.VolumeCapability_AccessMode_Mode{csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY, modeRWX}, false},
		{[]csi.VolumeCapability_AccessMode_Mode{modeRWX}, false},
	} {
		r := &csi.CreateVolumeRequest{Name: "v1", Parameters: map[string]string{"share": "nas1"}}
		for _, mode := range c.modes {
			r.VolumeCapabilities = append(r.VolumeCapabilities, capable(mode))
		}
		_, calls, err := call(t, nil, (*Controller).CreateVolume, r)
		if err != nil || calls[1].(volume.CreateRequest).ReadOnly != c.want {
			t.Errorf("%v: %+v, %v", c.modes, calls, err)
		}
	}
}
