// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Snapshots is what the controller service needs of the domain for snapshots.
type Snapshots interface {
	Create(ctx context.Context, name string, source volume.Handle) (*volume.Snapshot, error)
	Delete(ctx context.Context, h volume.Handle) error
	Get(ctx context.Context, h volume.Handle) (*volume.Snapshot, error)
	List(ctx context.Context, p volume.Page, of *volume.Handle) ([]volume.Snapshot, string, error)
}

// SnapshotController is the part of the CSI controller service that snapshots have.
type SnapshotController struct {
	csi.UnimplementedControllerServer
	Snapshots Snapshots
}

// CreateSnapshot makes a copy of a volume that stays as it is.
func (c *SnapshotController) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.GetName() == "" {
		return nil, invalid("no snapshot name is given")
	}
	h, err := handleOf("source volume", r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	if err := volume.CheckSnapshotParams(r.GetParameters()); err != nil {
		return nil, err
	}
	s, err := c.Snapshots.Create(ctx, r.GetName(), h)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: encodeSnapshot(s)}, nil
}

// DeleteSnapshot deletes a snapshot.
func (c *SnapshotController) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	h, err := handleOf("snapshot", r.GetSnapshotId())
	if errors.Is(err, volume.ErrNotFound) {
		return &csi.DeleteSnapshotResponse{}, nil // nobody's snapshot has such a handle here
	}
	if err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, c.Snapshots.Delete(ctx, h)
}

// GetSnapshot returns one snapshot.
func (c *SnapshotController) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	h, err := handleOf("snapshot", r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	s, err := c.Snapshots.Get(ctx, h)
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: encodeSnapshot(s)}, nil
}

// ListSnapshots lists snapshots: all, those of a volume, or one.
func (c *SnapshotController) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	response := &csi.ListSnapshotsResponse{}
	add := func(s *volume.Snapshot) {
		response.Entries = append(response.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: encodeSnapshot(s)})
	}
	var of *volume.Handle
	if id := r.GetSourceVolumeId(); id != "" {
		h, err := handle(id)
		if errors.Is(err, volume.ErrNotFound) {
			return response, nil
		}
		of = &h
	}
	if id := r.GetSnapshotId(); id != "" {
		h, err := handleOf("snapshot", id)
		var s *volume.Snapshot
		if err == nil {
			s, err = c.Snapshots.Get(ctx, h)
		}
		if errors.Is(err, volume.ErrNotFound) {
			return response, nil
		}
		if err == nil && (of == nil || *of == s.Volume) {
			add(s)
		}
		return response, err
	}
	all, next, err := c.Snapshots.List(ctx, volume.Page{Token: r.GetStartingToken(), Max: int(r.GetMaxEntries())}, of)
	if err != nil {
		return nil, err
	}
	for i := range all {
		add(&all[i])
	}
	response.NextToken = next
	return response, nil
}

// encodeSnapshot: what there is of a snapshot is whole.
func encodeSnapshot(s *volume.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: s.Handle.String(), SourceVolumeId: s.Volume.String(), GroupSnapshotId: s.Group,
		SizeBytes: s.Size, CreationTime: timestamppb.New(s.Created), ReadyToUse: true,
	}
}
