// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Volumes is what the controller service needs of the domain for volumes: see provision.Volumes.
type Volumes interface {
	Create(ctx context.Context, w volume.CreateRequest) (*volume.Volume, error)
	Delete(ctx context.Context, h volume.Handle, options []string) error
	Get(ctx context.Context, h volume.Handle) (*volume.Volume, error)
	List(ctx context.Context, p volume.Page) ([]volume.Volume, string, error)
	Expand(ctx context.Context, h volume.Handle, c volume.Capacity) (int64, error)
	Modify(ctx context.Context, h volume.Handle, m volume.Mutable) error
	Capacity(ctx context.Context, shares []string) (volume.Space, error)
}

// Controller is the CSI controller service: it checks requests, calls the domain, and encodes the
// results.
type Controller struct {
	SnapshotController
	Volumes Volumes
	Groups  Groups
	Health  Health
}

// ControllerGetCapabilities returns the implemented parts of the service.
func (c *Controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	r := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_GET_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
		csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		r.Capabilities = append(r.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return r, nil
}

// CreateVolume creates a volume, a directory on a share, by Volumes.Create. It parses the class's
// parameters (volume.ParseParams) and those of a VolumeAttributesClass (volume.ParseMutable). The
// mount options are those of the capabilities and, if the request has a secret, its mountOptions.
// ErrNotFound: the id of the source is not one of this driver.
func (c *Controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.GetName() == "" {
		return nil, invalid("no volume name is given")
	}
	source, err := decodeSource(r.GetVolumeContentSource())
	if err != nil {
		return nil, err
	}
	options, err := checkCapabilities(r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	params, err := volume.ParseParams(r.GetParameters())
	if err != nil {
		return nil, err
	}
	mutable, err := volume.ParseMutable(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	options, err = addSecretOptions(options, r.GetSecrets())
	if err != nil {
		return nil, err
	}
	v, err := c.Volumes.Create(ctx, volume.CreateRequest{
		Name: r.GetName(), Params: params, Mutable: mutable,
		Capacity: decodeCapacity(r.GetCapacityRange()), MountOptions: options,
		Source: source, ReadOnly: !slices.ContainsFunc(r.GetVolumeCapabilities(), func(c *csi.VolumeCapability) bool { return !readOnly(c) }),
	})
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: encodeVolume(v)}, nil
}

// DeleteVolume deletes a volume by Volumes.Delete, according to the onDelete of its record. It
// succeeds for an id without '/' and '#': no volume of this driver has one. Any other id that is not
// one of this driver (volume.ParseHandle) is ErrInvalid, for example one of csi-driver-nfs. The mount
// options are the mountOptions of the secret, if the request has one.
func (c *Controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	id := r.GetVolumeId()
	if err := checkVolumeID(id); err != nil {
		return nil, err
	}
	if !strings.ContainsAny(id, "/#") {
		// No volume of this driver has such a handle.
		return &csi.DeleteVolumeResponse{}, nil
	}
	h, err := volume.ParseHandle(id)
	if err != nil {
		return nil, err
	}
	options, err := addSecretOptions(nil, r.GetSecrets())
	if err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, c.Volumes.Delete(ctx, h, options)
}

// ValidateVolumeCapabilities confirms the capabilities that every volume of this driver has.
func (c *Controller) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	h, err := parseVolumeHandle(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, invalid("no volume capability is given")
	}
	v, err := c.Volumes.Get(ctx, h)
	if err != nil {
		return nil, err
	}
	if _, err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	if v.Shallow && slices.ContainsFunc(r.GetVolumeCapabilities(), func(c *csi.VolumeCapability) bool { return !readOnly(c) }) {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "the volume is " + v.Source.String() + " itself (restore: shallow), and can only be read"}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(),
		Parameters: r.GetParameters(), MutableParameters: r.GetMutableParameters(),
	}}, nil
}

// ListVolumes lists the volumes of all shares.
func (c *Controller) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	volumes, next, err := c.Volumes.List(ctx, volume.Page{Token: r.GetStartingToken(), Max: int(r.GetMaxEntries())})
	if err != nil {
		return nil, err
	}
	response := &csi.ListVolumesResponse{NextToken: next}
	for i := range volumes {
		response.Entries = append(response.Entries, &csi.ListVolumesResponse_Entry{Volume: encodeVolume(&volumes[i])})
	}
	return response, nil
}

// ControllerGetVolume returns one volume.
func (c *Controller) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	h, err := parseVolumeHandle(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v, err := c.Volumes.Get(ctx, h)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{Volume: encodeVolume(v), Status: &csi.ControllerGetVolumeResponse_VolumeStatus{}}, nil
}

// GetCapacity returns the free space of the emptiest share that a class can use. CSI cannot express
// unknown space: then both numbers are absent, which a scheduler takes for no space
// (csiDriver.storageCapacity).
func (c *Controller) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	for _, capability := range r.GetVolumeCapabilities() {
		if _, err := checkCapability(capability); err != nil {
			return nil, err
		}
	}
	var shares []string
	if len(r.GetParameters()) > 0 {
		params, err := volume.ParseParams(r.GetParameters())
		if err != nil {
			return nil, err
		}
		shares = params.Shares
	}
	space, err := c.Volumes.Capacity(ctx, shares)
	if err != nil {
		return nil, err
	}
	if !space.Known() {
		return &csi.GetCapacityResponse{}, nil
	}
	return &csi.GetCapacityResponse{AvailableCapacity: space.Free, MaximumVolumeSize: wrapperspb.Int64(space.Total)}, nil
}

// ControllerExpandVolume expands a volume, by Volumes.Expand. No node expansion is required.
// ErrInvalid: the request has no capacity range. ErrNotFound: the id is not one of this driver.
func (c *Controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	h, err := parseVolumeHandle(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, invalid("volume %s: no capacity range is given", h)
	}
	if capability := r.GetVolumeCapability(); capability != nil {
		if _, err := checkCapability(capability); err != nil {
			return nil, err
		}
	}
	size, err := c.Volumes.Expand(ctx, h, decodeCapacity(r.GetCapacityRange()))
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: size}, nil
}

// ControllerModifyVolume changes the mutable parameters of a volume (VolumeAttributesClass), by
// Volumes.Modify.
func (c *Controller) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	h, err := parseVolumeHandle(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, err := c.Volumes.Get(ctx, h); err != nil {
		return nil, err
	}
	m, err := volume.ParseMutable(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	return &csi.ControllerModifyVolumeResponse{}, c.Volumes.Modify(ctx, h, m)
}

func encodeVolume(v *volume.Volume) *csi.Volume {
	return &csi.Volume{
		VolumeId: v.Handle.String(), CapacityBytes: v.Capacity, VolumeContext: encodeLocation(v.Location),
		ContentSource: encodeSource(v.Source),
	}
}

// addSecretOptions adds the mount options of a secret for csi-driver-nfs, if there is one.
func addSecretOptions(options []string, secrets map[string]string) ([]string, error) {
	secret := secrets[secretMountOptions]
	if secret == "" {
		return options, nil
	}
	more := volume.SplitMountOptions([]string{secret})
	if volume.CheckMountOptions(more) != nil { // its error would reveal the secret
		return nil, invalid("the secret's %s cannot be used: it has an option that the driver does not allow in a class's mountOptions either", secretMountOptions)
	}
	return append(options, more...), nil
}
