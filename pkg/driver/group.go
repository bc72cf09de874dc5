// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Groups is what the group controller service needs of the domain: see provision.Groups.
type Groups interface {
	Create(ctx context.Context, name string, sources []volume.Handle) (*volume.Group, error)
	Delete(ctx context.Context, h volume.Handle, snapshots []volume.Handle) error
	Get(ctx context.Context, h volume.Handle, snapshots []volume.Handle) (*volume.Group, error)
}

// GroupController is the CSI group controller service: it creates snapshots of several volumes together.
type GroupController struct {
	csi.UnimplementedGroupControllerServer
	Groups Groups
}

// GroupControllerGetCapabilities returns the implemented parts of the service: all.
func (g *GroupController) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
		}},
	}}}, nil
}

// CreateVolumeGroupSnapshot creates snapshots of all source volumes, or none.
func (g *GroupController) CreateVolumeGroupSnapshot(ctx context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	if r.GetName() == "" {
		return nil, invalid("no group name is given")
	}
	if len(r.GetSourceVolumeIds()) == 0 {
		return nil, invalid("group %s: no volume is given", r.GetName())
	}
	sources, err := parseHandles("source volume", r.GetSourceVolumeIds())
	if err != nil {
		return nil, err
	}
	if err := volume.CheckSnapshotParams(r.GetParameters()); err != nil {
		return nil, err
	}
	group, err := g.Groups.Create(ctx, r.GetName(), sources)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: encodeGroup(group)}, nil
}

// DeleteVolumeGroupSnapshot deletes a group and its snapshots.
func (g *GroupController) DeleteVolumeGroupSnapshot(ctx context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	h, err := parseHandle("group snapshot", r.GetGroupSnapshotId())
	if errors.Is(err, volume.ErrNotFound) {
		return &csi.DeleteVolumeGroupSnapshotResponse{}, nil // no group of this driver has such a handle
	}
	if err != nil {
		return nil, err
	}
	snapshots, err := parseMembers(r.GetSnapshotIds())
	if err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, g.Groups.Delete(ctx, h, snapshots)
}

// GetVolumeGroupSnapshot returns a group and its snapshots.
func (g *GroupController) GetVolumeGroupSnapshot(ctx context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	h, err := parseHandle("group snapshot", r.GetGroupSnapshotId())
	if err != nil {
		return nil, err
	}
	snapshots, err := parseMembers(r.GetSnapshotIds())
	if err != nil {
		return nil, err
	}
	group, err := g.Groups.Get(ctx, h, snapshots)
	if err != nil {
		return nil, err
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: encodeGroup(group)}, nil
}

func parseHandles(what string, ids []string) (all []volume.Handle, err error) {
	for _, id := range ids {
		h, err := parseHandle(what, id)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, nil
}

// parseMembers parses the ids of a group's snapshots. It returns ErrInvalid if one is not of this
// driver, which is a mismatch (CSI spec, DeleteVolumeGroupSnapshot Errors).
func parseMembers(ids []string) ([]volume.Handle, error) {
	all, err := parseHandles("snapshot", ids)
	if err != nil {
		return nil, invalid("the group's snapshots: %w", err)
	}
	return all, nil
}

func encodeGroup(g *volume.Group) *csi.VolumeGroupSnapshot {
	encoded := &csi.VolumeGroupSnapshot{GroupSnapshotId: g.Handle.String(), CreationTime: timestamppb.New(g.Created), ReadyToUse: true}
	for i := range g.Snapshots {
		encoded.Snapshots = append(encoded.Snapshots, encodeSnapshot(&g.Snapshots[i]))
	}
	return encoded
}
