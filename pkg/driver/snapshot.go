// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Snapshots is what the controller service needs of the domain for snapshots: see
// provision.Snapshots.
type Snapshots interface {
	Create(ctx context.Context, name string, source volume.Handle) (*volume.Snapshot, error)
	Delete(ctx context.Context, h volume.Handle) error
	Get(ctx context.Context, h volume.Handle) (*volume.Snapshot, error)
	List(ctx context.Context, p volume.Page, source *volume.Handle) ([]volume.Snapshot, string, error)
}

// SnapshotController is the snapshot part of the CSI controller service.
type SnapshotController struct {
	csi.UnimplementedControllerServer
	Snapshots Snapshots
}

// CreateSnapshot creates a snapshot, a copy of a volume that does not change, by Snapshots.Create.
// It refuses parameters of a VolumeSnapshotClass: there are none.
func (c *SnapshotController) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if r.GetName() == "" {
		return nil, invalid("no snapshot name is given")
	}
	h, err := parseHandle("source volume", r.GetSourceVolumeId())
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

// DeleteSnapshot deletes a snapshot. It succeeds if no snapshot of this driver can have the id.
func (c *SnapshotController) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	h, err := parseHandle("snapshot", r.GetSnapshotId())
	if errors.Is(err, volume.ErrNotFound) {
		return &csi.DeleteSnapshotResponse{}, nil // no snapshot of this driver has such a handle
	}
	if err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, c.Snapshots.Delete(ctx, h)
}

// GetSnapshot returns one snapshot.
func (c *SnapshotController) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	s, err := c.getSnapshot(ctx, r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: encodeSnapshot(s)}, nil
}

func (c *SnapshotController) getSnapshot(ctx context.Context, id string) (*volume.Snapshot, error) {
	h, err := parseHandle("snapshot", id)
	if err != nil {
		return nil, err
	}
	return c.Snapshots.Get(ctx, h)
}

// ListSnapshots lists all snapshots, those of a volume, or one.
func (c *SnapshotController) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	response := &csi.ListSnapshotsResponse{}
	add := func(s *volume.Snapshot) {
		response.Entries = append(response.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: encodeSnapshot(s)})
	}
	var source *volume.Handle
	if id := r.GetSourceVolumeId(); id != "" {
		h, err := parseVolumeHandle(id)
		if errors.Is(err, volume.ErrNotFound) {
			return response, nil
		}
		source = &h
	}
	if r.GetSnapshotId() != "" {
		s, err := c.getSnapshot(ctx, r.GetSnapshotId())
		if errors.Is(err, volume.ErrNotFound) {
			return response, nil
		}
		if err != nil {
			return nil, err
		}
		if source == nil || *source == s.Volume {
			add(s)
		}
		return response, nil
	}
	all, next, err := c.Snapshots.List(ctx, volume.Page{Token: r.GetStartingToken(), Max: int(r.GetMaxEntries())}, source)
	if err != nil {
		return nil, err
	}
	for i := range all {
		add(&all[i])
	}
	response.NextToken = next
	return response, nil
}

// encodeSnapshot encodes a snapshot. It is always ready to use: an incomplete snapshot does not exist.
func encodeSnapshot(s *volume.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: s.Handle.String(), SourceVolumeId: s.Volume.String(), GroupSnapshotId: s.Group,
		SizeBytes: s.Size, CreationTime: timestamppb.New(s.Created), ReadyToUse: true,
	}
}
