// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/protobuf/proto"
)

// publisher is the domain of a node. It records its calls and returns one error.
type publisher struct {
	calls      []any
	conditions []volume.Condition
	space      volume.Space
	err        error
}

func (p *publisher) Publish(_ context.Context, r volume.PublishRequest) error {
	p.calls = append(p.calls, r)
	return p.err
}

func (p *publisher) Unpublish(_ context.Context, id, target string) error {
	p.calls = append(p.calls, "Unpublish", id, target)
	return p.err
}

func (p *publisher) Usage(_ context.Context, id, path string) (volume.Space, error) {
	p.calls = append(p.calls, "Usage", id, path)
	return p.space, p.err
}

func (p *publisher) Volume(_ context.Context, id, path string) ([]volume.Condition, error) {
	p.calls = append(p.calls, "Health", id, path)
	return p.conditions, p.err
}

func (p *publisher) Shares(context.Context) []volume.Condition { return p.conditions }

// newNode returns a Node whose domain is p.
func newNode(p *publisher) *Node {
	return &Node{Pods: p, Health: p, ID: "node-1", MaxVolumes: 7}
}

const id = "any id of a static PV"

func publishRequest() *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: id, TargetPath: "/pod", VolumeCapability: capable(modeRWX, "hard", "vers=3"),
		VolumeContext: map[string]string{"server": "nas", "share": "/x", "subDir": "a"},
	}
}

// TestPublishModes publishes with every access mode, with and without the pod's readOnly.
func TestPublishModes(t *testing.T) {
	for name, mode := range csi.VolumeCapability_AccessMode_Mode_value {
		mode := csi.VolumeCapability_AccessMode_Mode(mode)
		if mode == modeUnknown {
			continue
		}
		for _, readonly := range []bool{false, true} {
			p := &publisher{}
			r := publishRequest()
			r.VolumeCapability, r.Readonly = capable(mode, "hard", "vers=3"), readonly
			if _, err := newNode(p).NodePublishVolume(context.Background(), r); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			want := volume.PublishRequest{
				ID: id, Location: volume.Location{Share: "nas:/x", Directory: "a"}, Target: "/pod", Options: []string{"hard", "vers=3"},
				ReadOnly: readonly || strings.HasSuffix(name, "_READER_ONLY"), SingleWriter: name == "SINGLE_NODE_SINGLE_WRITER",
			}
			if !reflect.DeepEqual(p.calls, []any{want}) {
				t.Errorf("%s, readonly %v: calls = %+v, want %+v", name, readonly, p.calls, want)
			}
		}
	}
}

func TestPublishRefuses(t *testing.T) {
	p := &publisher{}
	for part, change := range map[string]func(*csi.NodePublishVolumeRequest){
		"no volume id":         func(r *csi.NodePublishVolumeRequest) { r.VolumeId = "" },
		"129 bytes":            func(r *csi.NodePublishVolumeRequest) { r.VolumeId = strings.Repeat("x", volume.MaxHandle+1) },
		"no target path":       func(r *csi.NodePublishVolumeRequest) { r.TargetPath = "" },
		"no volume capability": func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil },
		"block":                func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = block },
		"name no share":        func(r *csi.NodePublishVolumeRequest) { r.VolumeContext = nil },
	} {
		r := publishRequest()
		change(r)
		_, err := newNode(p).NodePublishVolume(context.Background(), r)
		refused(t, part, err, volume.ErrInvalid, part)
	}
	r := publishRequest()
	r.VolumeId = "csi-" + strings.Repeat("0af9", 16)
	_, err := newNode(p).NodePublishVolume(context.Background(), r)
	refused(t, "a pod's own", err, volume.ErrRefused, "podInfoOnMount")
	if p.calls != nil {
		t.Errorf("calls = %v", p.calls)
	}
}

func TestUndo(t *testing.T) {
	p, ctx := &publisher{}, context.Background()
	n := newNode(p)
	_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: "/pod"})
	if want := []any{"Unpublish", id, "/pod"}; err != nil || !reflect.DeepEqual(p.calls, want) {
		t.Errorf("calls = %v, %v", p.calls, err)
	}
	for _, id := range []string{"", id} {
		_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id})
		refused(t, "unpublish", err, volume.ErrInvalid, "given")
		_, err = n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id})
		refused(t, "stats", err, volume.ErrInvalid, "given")
	}
}

// TestStats uses servers that report their usage, and others that do not.
func TestStats(t *testing.T) {
	bytes := func(total, free, used int64) *csi.VolumeUsage {
		return &csi.VolumeUsage{Unit: csi.VolumeUsage_BYTES, Total: total, Available: free, Used: used}
	}
	inodes := func(total, free, used int64) *csi.VolumeUsage {
		return &csi.VolumeUsage{Unit: csi.VolumeUsage_INODES, Total: total, Available: free, Used: used}
	}
	for name, c := range map[string]struct {
		space volume.Space
		want  []*csi.VolumeUsage
	}{
		"all":     {volume.Space{Total: 10, Free: 3, Used: 6, Inodes: 20, InodesFree: 5, InodesUsed: 15}, []*csi.VolumeUsage{bytes(10, 3, 6), inodes(20, 5, 15)}},
		"full":    {volume.Space{Total: 10, Used: 10, Inodes: 20, InodesUsed: 20}, []*csi.VolumeUsage{bytes(10, 0, 10), inodes(20, 0, 20)}},
		"bytes":   {volume.Space{Total: 10, Free: 3, Used: 6}, []*csi.VolumeUsage{bytes(10, 3, 6)}},
		"inodes":  {volume.Space{Inodes: 20, InodesFree: 5, InodesUsed: 15}, []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES}, inodes(20, 5, 15)}},
		"nothing": {volume.Space{}, []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES}}},
	} {
		r, err := newNode(&publisher{space: c.space}).NodeGetVolumeStats(context.Background(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: "/pod"})
		if err != nil || !proto.Equal(r, &csi.NodeGetVolumeStatsResponse{Usage: c.want}) {
			t.Errorf("%s: usage = %v, %v", name, r, err)
		}
	}
}

func TestNodeErrorsPass(t *testing.T) {
	wrong := errors.New("no")
	n, ctx := newNode(&publisher{err: wrong}), context.Background()
	_, publish := n.NodePublishVolume(ctx, publishRequest())
	_, unpublish := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: "/pod"})
	_, stats := n.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: "/pod"})
	for what, err := range map[string]error{"publish": publish, "unpublish": unpublish, "stats": stats} {
		if !errors.Is(err, wrong) {
			t.Errorf("%s: error = %v", what, err)
		}
	}
	if info, err := n.NodeGetInfo(ctx, nil); err != nil || info.NodeId != "node-1" || info.MaxVolumesPerNode != 7 || info.AccessibleTopology != nil {
		t.Errorf("node = %v, %v", info, err)
	}
	n.Topology = map[string]string{"zone": "a"}
	if info, err := n.NodeGetInfo(ctx, nil); err != nil || !maps.Equal(info.AccessibleTopology.GetSegments(), n.Topology) {
		t.Errorf("node with a topology = %v, %v", info, err)
	}
}
