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
)

// double records the calls of a stand-in for the domain, and has the values that it returns.
type double struct {
	calls []any // name and arguments
	space volume.Space
	err   error
}

// volumes is a Volumes that records its calls and returns the values of its double.
type volumes struct{ *double }

var v1 = volume.Volume{
	Handle: volume.Handle{Share: "nas1", Key: "v1"}, Capacity: 7, Location: volume.Location{Share: "nas1", Directory: "a"},
}

func (v volumes) Create(_ context.Context, w volume.CreateRequest) (*volume.Volume, error) {
	v.calls = append(v.calls, "Create", w)
	return &v1, v.err
}

func (v volumes) Delete(_ context.Context, h volume.Handle, options []string) error {
	v.calls = append(v.calls, "Delete", h, options)
	return v.err
}

func (v volumes) Get(_ context.Context, h volume.Handle) (*volume.Volume, error) {
	v.calls = append(v.calls, "Get", h)
	return &v1, v.err
}

func (v volumes) List(_ context.Context, p volume.Page) ([]volume.Volume, string, error) {
	v.calls = append(v.calls, "List", p)
	return []volume.Volume{v1, v1}, "next", v.err
}

func (v volumes) Expand(_ context.Context, h volume.Handle, c volume.Capacity) (int64, error) {
	v.calls = append(v.calls, "Expand", h, c)
	return 9, v.err
}

func (v volumes) Modify(_ context.Context, h volume.Handle, m volume.Mutable) error {
	v.calls = append(v.calls, "Modify", h, m)
	return v.err
}

func (v volumes) Capacity(_ context.Context, shares []string) (volume.Space, error) {
	v.calls = append(v.calls, "Capacity", shares)
	return v.space, v.err
}

// newDouble returns a Controller whose domain is a double.
func newDouble(d *double) *Controller {
	return &Controller{Volumes: volumes{d}, SnapshotController: SnapshotController{Snapshots: snapshots{d}}}
}

// call calls a method of a new Controller.
func call[Q, R proto.Message](t *testing.T, err error, method func(*Controller, context.Context, Q) (R, error), request Q) (R, []any, error) {
	t.Helper()
	d := &double{err: err}
	r, err := method(newDouble(d), context.Background(), request)
	return r, d.calls, err
}

// want fails the test unless there were these calls and this answer.
func want(t *testing.T, got proto.Message, calls []any, err error, answer proto.Message, wanted ...any) {
	t.Helper()
	if err != nil || !proto.Equal(got, answer) || !reflect.DeepEqual(calls, wanted) {
		t.Errorf("answer = %v, %v, after calls %v,\nwant %v after %v", got, err, calls, answer, wanted)
	}
}

var v1Encoded = &csi.Volume{VolumeId: "nas1/v1", CapacityBytes: 7, VolumeContext: map[string]string{"share": "nas1", "subDir": "a"}}

func TestCreateVolume(t *testing.T) {
	request := func(change func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
		r := &csi.CreateVolumeRequest{
			Name: "v1", Parameters: map[string]string{"share": "nas1"}, MutableParameters: map[string]string{"onDelete": "retain"},
			VolumeCapabilities: []*csi.VolumeCapability{capable(modeRWX, "hard")}, CapacityRange: &csi.CapacityRange{RequiredBytes: 5, LimitBytes: 8},
			Secrets: map[string]string{"mountOptions": "vers=3"},
		}
		if change != nil {
			change(r)
		}
		return r
	}
	got, calls, err := call(t, nil, (*Controller).CreateVolume, request(nil))
	want(t, got, calls, err, &csi.CreateVolumeResponse{Volume: v1Encoded}, "Create", volume.CreateRequest{
		Name: "v1", Params: volume.Params{Shares: []string{"nas1"}}, Mutable: volume.Mutable{OnDelete: volume.Retain},
		Capacity: volume.Capacity{Required: 5, Limit: 8}, MountOptions: []string{"hard", "vers=3"},
	})
	for part, change := range map[string]func(*csi.CreateVolumeRequest){
		"no volume name":           func(r *csi.CreateVolumeRequest) { r.Name = "" },
		"no volume capability":     func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil },
		"neither a snapshot nor a": func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} },
		`"shares"`:                 func(r *csi.CreateVolumeRequest) { r.Parameters["shares"] = "x" },
		"uid cannot be changed":    func(r *csi.CreateVolumeRequest) { r.MutableParameters["uid"] = "1" },
		"the secret's":             func(r *csi.CreateVolumeRequest) { r.Secrets["mountOptions"] = "bind" },
		"volumeMode: Filesystem":   func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0] = block },
		"share is missing: name ":  func(r *csi.CreateVolumeRequest) { r.Parameters = nil },
	} {
		_, calls, err := call(t, nil, (*Controller).CreateVolume, request(change))
		refused(t, part, err, volume.ErrInvalid, part)
		if calls != nil {
			t.Errorf("%s: calls = %v", part, calls)
		}
	}
}

func TestDeleteVolume(t *testing.T) {
	request := &csi.DeleteVolumeRequest{VolumeId: "nas1/v1", Secrets: map[string]string{"mountOptions": "vers=3"}}
	got, calls, err := call(t, nil, (*Controller).DeleteVolume, request)
	want(t, got, calls, err, &csi.DeleteVolumeResponse{}, "Delete", v1.Handle, []string{"vers=3"})

	// An id that this driver cannot have created is deleted already.
	got, calls, err = call(t, nil, (*Controller).DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: "no-such-thing"})
	want(t, got, calls, err, &csi.DeleteVolumeResponse{})

	// An id of another driver is not: its data would be lost silently.
	for _, id := range []string{"10.0.0.1#share#pvc-1##", "NAS/pvc-1", "nas1/", strings.Repeat("x", volume.MaxHandle+1), ""} {
		_, calls, err := call(t, nil, (*Controller).DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id})
		refused(t, id, err, volume.ErrInvalid, "")
		if calls != nil {
			t.Errorf("%s: calls = %v", id, calls)
		}
	}
}

func TestValidate(t *testing.T) {
	method := (*Controller).ValidateVolumeCapabilities
	request := &csi.ValidateVolumeCapabilitiesRequest{
		VolumeId: "nas1/v1", VolumeCapabilities: []*csi.VolumeCapability{capable(modeRO)}, VolumeContext: map[string]string{"share": "nas1"},
	}
	got, calls, err := call(t, nil, method, request)
	want(t, got, calls, err, &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: request.VolumeContext, VolumeCapabilities: request.VolumeCapabilities,
	}}, "Get", v1.Handle)
	request.VolumeCapabilities = []*csi.VolumeCapability{block}
	if got, _, err := call(t, nil, method, request); err != nil || got.Confirmed != nil || !strings.Contains(got.Message, "block") {
		t.Errorf("a block volume: %v, %v", got, err)
	}
	request.VolumeCapabilities = nil
	_, _, err = call(t, nil, method, request)
	refused(t, "no capability", err, volume.ErrInvalid, "no volume capability")
}

func TestOtherCalls(t *testing.T) {
	ctl := &csi.ControllerGetVolumeRequest{VolumeId: "nas1/v1"}
	one, calls, err := call(t, nil, (*Controller).ControllerGetVolume, ctl)
	want(t, one, calls, err, &csi.ControllerGetVolumeResponse{Volume: v1Encoded, Status: &csi.ControllerGetVolumeResponse_VolumeStatus{}}, "Get", v1.Handle)

	list, calls, err := call(t, nil, (*Controller).ListVolumes, &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: "t"})
	entry := &csi.ListVolumesResponse_Entry{Volume: v1Encoded}
	want(t, list, calls, err, &csi.ListVolumesResponse{Entries: []*csi.ListVolumesResponse_Entry{entry, entry}, NextToken: "next"}, "List", volume.Page{Token: "t", Max: 2})

	expand := &csi.ControllerExpandVolumeRequest{VolumeId: "nas1/v1", CapacityRange: &csi.CapacityRange{RequiredBytes: 8}, VolumeCapability: capable(modeRWX)}
	grown, calls, err := call(t, nil, (*Controller).ControllerExpandVolume, expand)
	want(t, grown, calls, err, &csi.ControllerExpandVolumeResponse{CapacityBytes: 9}, "Expand", v1.Handle, volume.Capacity{Required: 8})
	expand.VolumeCapability = block
	_, _, err = call(t, nil, (*Controller).ControllerExpandVolume, expand)
	refused(t, "block", err, volume.ErrInvalid, "block")
	expand.CapacityRange = nil
	_, _, err = call(t, nil, (*Controller).ControllerExpandVolume, expand)
	refused(t, "no range", err, volume.ErrInvalid, "no capacity range")

	day := 24 * time.Hour
	modify := &csi.ControllerModifyVolumeRequest{VolumeId: "nas1/v1", MutableParameters: map[string]string{"trashRetention": "24h"}}
	changed, calls, err := call(t, nil, (*Controller).ControllerModifyVolume, modify)
	want(t, changed, calls, err, &csi.ControllerModifyVolumeResponse{}, "Get", v1.Handle, "Modify", v1.Handle, volume.Mutable{Retention: &day})
	modify.MutableParameters["share"] = "nas2"
	_, _, err = call(t, nil, (*Controller).ControllerModifyVolume, modify)
	refused(t, "the share", err, volume.ErrInvalid, "share cannot be changed")

	for class, shares := range map[string][]string{"": nil, "a,b": {"a", "b"}, "*": {"*"}} {
		r := &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{capable(modeRWX)}}
		if class != "" {
			r.Parameters = map[string]string{"share": class}
		}
		for _, known := range []volume.Space{{Total: 100, Free: 40}, {Total: 100}, {}} {
			d := &double{space: known}
			space, err := newDouble(d).GetCapacity(t.Context(), r)
			if err != nil || space.AvailableCapacity != known.Free || space.MaximumVolumeSize.GetValue() != known.Total || (space.MaximumVolumeSize != nil) != known.Known() || !reflect.DeepEqual(d.calls, []any{"Capacity", shares}) {
				t.Errorf("capacity of %q = %v, %v after %v", class, space, err, d.calls)
			}
		}
	}
	_, _, err = call(t, nil, (*Controller).GetCapacity, &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{block}})
	refused(t, "block", err, volume.ErrInvalid, "block")
}

// TestErrorsPass checks that each call returns the domain's error unchanged.
func TestErrorsPass(t *testing.T) {
	wrong := errors.New("no")
	id, all := "nas1/v1", []*csi.VolumeCapability{capable(modeRWX)}
	share := map[string]string{"share": "nas1"}
	c, ctx := newDouble(&double{err: wrong}), context.Background()
	for what, call := range map[string]func() (proto.Message, error){
		"Create": func() (proto.Message, error) {
			return c.CreateVolume(ctx, &csi.CreateVolumeRequest{Name: "v", Parameters: share, VolumeCapabilities: all})
		},
		"Delete": func() (proto.Message, error) {
			return c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		},
		"Validate": func() (proto.Message, error) {
			return c.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: id, VolumeCapabilities: all})
		},
		"List": func() (proto.Message, error) { return c.ListVolumes(ctx, &csi.ListVolumesRequest{}) },
		"Get": func() (proto.Message, error) {
			return c.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: id})
		},
		"Expand": func() (proto.Message, error) {
			return c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{}})
		},
		"Modify": func() (proto.Message, error) {
			return c.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: id})
		},
		"Capacity": func() (proto.Message, error) { return c.GetCapacity(ctx, &csi.GetCapacityRequest{}) },
	} {
		if _, err := call(); !errors.Is(err, wrong) {
			t.Errorf("%s: error = %v", what, err)
		}
	}
}
