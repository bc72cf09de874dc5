// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Pods is what the node service needs of the domain to mount volumes for pods: see publish.Pods.
type Pods interface {
	Publish(ctx context.Context, r volume.PublishRequest) error
	Unpublish(ctx context.Context, id, target string) error
}

// NodeHealth is what the node service needs of the domain for the health of volumes and shares: see
// publish.Health.
type NodeHealth interface {
	Usage(ctx context.Context, id, path string) (volume.Space, error)
	Volume(ctx context.Context, id, path string) ([]volume.Condition, error)
	Shares(ctx context.Context) []volume.Condition
}

// Node is the CSI node service.
type Node struct {
	csi.UnimplementedNodeServer
	Pods       Pods
	Health     NodeHealth
	ID         string
	MaxVolumes int64 // per node; 0: no limit
	// Topology becomes labels of the node. No volume is bound to a topology: every node reaches all.
	Topology map[string]string
}

// NodeGetCapabilities returns the implemented parts of the service. STAGE_UNSTAGE_VOLUME is not: kubelet
// needs a separate device number for each staged volume, and mounts of one export that do not share a
// superblock do not see each other's locks and changes (kubernetes/kubernetes#105323).
func (n *Node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	r := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		r.Capabilities = append(r.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return r, nil
}

// NodeGetInfo returns the node's name, its maximum number of volumes, and its topology.
func (n *Node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	r := &csi.NodeGetInfoResponse{NodeId: n.ID, MaxVolumesPerNode: n.MaxVolumes}
	if len(n.Topology) > 0 {
		r.AccessibleTopology = &csi.Topology{Segments: n.Topology}
	}
	return r, nil
}

// NodePublishVolume mounts a volume for a pod, by Pods.Publish. The volume's location is in the
// PV's volumeAttributes. An ephemeral inline volume has the pod's attributes instead: kubelet marks
// them as such only if the CSIDriver has podInfoOnMount; without it the error is ErrRefused.
func (n *Node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := checkVolumeID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetTargetPath() == "" {
		return nil, invalid("volume %s: no target path is given", r.GetVolumeId())
	}
	capability, err := checkCapability(r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	inline, err := decodeInline(r.GetVolumeContext(), capability.GetMountFlags())
	if err != nil {
		return nil, fmt.Errorf("inline volume %s: %w", r.GetVolumeId(), err)
	}
	mode := r.GetVolumeCapability().GetAccessMode().GetMode()
	publish := volume.PublishRequest{
		ID: r.GetVolumeId(), Target: r.GetTargetPath(), Inline: inline,
		ReadOnly:     r.GetReadonly() || readOnly(r.GetVolumeCapability()),
		SingleWriter: mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	}
	if inline == nil && inlineID.MatchString(r.GetVolumeId()) {
		return nil, volume.Errorf(volume.ErrRefused, "volume %s is an inline volume, but kubelet sends no pod information: set podInfoOnMount in the CSIDriver", r.GetVolumeId())
	}
	if inline == nil {
		l, err := decodeLocation(r.GetVolumeContext())
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", r.GetVolumeId(), err)
		}
		publish.Location, publish.Options = l.Location, append(l.options, capability.GetMountFlags()...)
	}
	return &csi.NodePublishVolumeResponse{}, n.Pods.Publish(ctx, publish)
}

// NodeUnpublishVolume unmounts a volume of a pod, by Pods.Unpublish.
func (n *Node) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := checkVolumeID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetTargetPath() == "" {
		return nil, invalid("volume %s: no target path is given", r.GetVolumeId())
	}
	return &csi.NodeUnpublishVolumeResponse{}, n.Pods.Unpublish(ctx, r.GetVolumeId(), r.GetTargetPath())
}

// NodeGetVolumeStats returns the usage of a volume in bytes and inodes: of its quota if the server has
// one on the directory, else of the whole share. Inodes that the server does not report are absent, as
// CSI allows. Bytes that it does not report are an entry without numbers, because an empty answer is an
// error for kubelet (and for csi-sanity).
func (n *Node) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := checkVolumeID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	if r.GetVolumePath() == "" {
		return nil, invalid("volume %s: no volume path is given", r.GetVolumeId())
	}
	space, err := n.Health.Usage(ctx, r.GetVolumeId(), r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	usage := []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: space.Total, Available: space.Free, Used: space.Used}}
	if space.InodesKnown() {
		usage = append(usage, &csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: space.Inodes, Available: space.InodesFree, Used: space.InodesUsed})
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage}, nil
}
