// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Health is what the controller service needs of the domain for the health of volumes: see
// provision.Health.
type Health interface {
	Volume(ctx context.Context, h volume.Handle) ([]volume.Condition, error)
	List(ctx context.Context, p volume.Page) ([]volume.Health, string, error)
}

// ControllerGetVolumeHealth returns what is wrong with one volume's share, record and directory, by
// Health.Volume. No entry means that the volume is healthy.
func (c *Controller) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	h, err := parseVolumeHandle(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	conditions, err := c.Health.Volume(ctx, h)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: encodeHealth(r.GetVolumeId(), conditions)}, nil
}

// ControllerListVolumeHealth lists the unhealthy volumes.
func (c *Controller) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	unhealthy, next, err := c.Health.List(ctx, volume.Page{Token: r.GetStartingToken(), Max: int(r.GetMaxEntries())})
	if err != nil {
		return nil, err
	}
	response := &csi.ControllerListVolumeHealthResponse{NextToken: next}
	for _, v := range unhealthy {
		response.Entries = append(response.Entries, encodeHealth(v.Handle.String(), v.Conditions))
	}
	return response, nil
}

// NodeGetVolumeHealth returns what is wrong with a volume on this node.
func (n *Node) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := checkVolumeID(r.GetVolumeId()); err != nil {
		return nil, err
	}
	conditions, err := n.Health.Volume(ctx, r.GetVolumeId(), r.GetVolumePublishPath())
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: encodeHealth(r.GetVolumeId(), conditions)}, nil
}

// NodeGetStorageHealth returns which shares this node cannot reach.
func (n *Node) NodeGetStorageHealth(ctx context.Context, _ *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	response := &csi.NodeGetStorageHealthResponse{}
	for _, c := range n.Health.Shares(ctx) {
		status := csi.StorageHealthErrorType_STORAGE_UNREACHABLE
		if c.Severity == volume.Degraded {
			status = csi.StorageHealthErrorType_STORAGE_DEGRADED
		}
		response.BackendHealth = append(response.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{
			Status: status, Reason: string(c.Reason), Message: c.Message,
		})
	}
	return response, nil
}

func encodeHealth(id string, conditions []volume.Condition) *csi.VolumeHealth {
	health := &csi.VolumeHealth{VolumeId: id}
	for _, c := range conditions {
		status := csi.VolumeHealthErrorType_INACCESSIBLE
		switch c.Severity {
		case volume.Degraded:
			status = csi.VolumeHealthErrorType_DEGRADED
		case volume.DataLost:
			status = csi.VolumeHealthErrorType_DATA_LOSS
		}
		health.HealthStatuses = append(health.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{
			Status: status, Reason: string(c.Reason), Message: c.Message,
		})
	}
	return health
}
