// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// unhealthy has one condition of each severity.
var unhealthy = []volume.Condition{
	{Severity: volume.Degraded, Reason: volume.SlowResponses, Message: "slow"},
	{Severity: volume.Inaccessible, Reason: volume.StaleFileHandle, Message: "stale"},
	{Severity: volume.DataLost, Reason: volume.DirectoryMissing, Message: "gone"},
}

// wantUnhealthy fails the test unless h is of unhealthy.
func wantUnhealthy(t *testing.T, h *csi.VolumeHealth, id string) {
	t.Helper()
	want := []csi.VolumeHealthErrorType{csi.VolumeHealthErrorType_DEGRADED, csi.VolumeHealthErrorType_INACCESSIBLE, csi.VolumeHealthErrorType_DATA_LOSS}
	if h.GetVolumeId() != id || len(h.GetHealthStatuses()) != len(want) {
		t.Fatalf("health = %v", h)
	}
	for i, s := range h.GetHealthStatuses() {
		if s.GetStatus() != want[i] || s.GetReason() != string(unhealthy[i].Reason) || s.GetMessage() != unhealthy[i].Message {
			t.Errorf("condition %d is %v", i, s)
		}
	}
}

func TestNodeHealth(t *testing.T) {
	p, ctx := &publisher{conditions: unhealthy}, context.Background()
	n := newNode(p)
	r, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: "/pod"})
	if err != nil || !reflect.DeepEqual(p.calls, []any{"Health", id, "/pod"}) {
		t.Fatalf("%v; calls = %v", err, p.calls)
	}
	wantUnhealthy(t, r.GetVolumeHealth(), id)
	if _, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{}); volume.Kind(err) != volume.ErrInvalid {
		t.Errorf("without an id: %v", err)
	}
	p.conditions = unhealthy[:2]
	storage, err := n.NodeGetStorageHealth(ctx, &csi.NodeGetStorageHealthRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var got []csi.StorageHealthErrorType
	for _, h := range storage.GetBackendHealth() {
		got = append(got, h.GetStatus())
	}
	if !slices.Equal(got, []csi.StorageHealthErrorType{csi.StorageHealthErrorType_STORAGE_DEGRADED, csi.StorageHealthErrorType_STORAGE_UNREACHABLE}) {
		t.Errorf("storage = %v", storage)
	}
	p.conditions = nil
	if r, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id}); err != nil || r.GetVolumeHealth().GetVolumeId() != id || len(r.GetVolumeHealth().GetHealthStatuses()) > 0 {
		t.Errorf("a healthy volume: %v, %v", r, err)
	}
}

// controllerHealth has one unhealthy volume.
type controllerHealth struct{ page volume.Page }

func (c *controllerHealth) Volume(context.Context, volume.Handle) ([]volume.Condition, error) {
	return unhealthy, nil
}

func (c *controllerHealth) List(_ context.Context, p volume.Page) ([]volume.Health, string, error) {
	c.page = p
	return []volume.Health{{Handle: volume.Handle{Share: "nas1", Key: "pvc-1"}, Conditions: unhealthy}}, "next", nil
}

func TestControllerHealth(t *testing.T) {
	h, ctx := &controllerHealth{}, context.Background()
	c := &Controller{Health: h}
	r, err := c.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: "nas1/pvc-1"})
	if err != nil {
		t.Fatal(err)
	}
	wantUnhealthy(t, r.GetVolumeHealth(), "nas1/pvc-1")
	for _, id := range []string{"", "other"} {
		if _, err := c.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: id}); err == nil {
			t.Errorf("volume = %q", id)
		}
	}
	list, err := c.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{MaxEntries: 3, StartingToken: "from"})
	if err != nil || h.page != (volume.Page{Token: "from", Max: 3}) || list.GetNextToken() != "next" || len(list.GetEntries()) != 1 {
		t.Fatalf("%v, %v after a request for %+v", list, err, h.page)
	}
	wantUnhealthy(t, list.GetEntries()[0], "nas1/pvc-1")
}

// TestInline decodes kubelet's request for an inline volume.
func TestInline(t *testing.T) {
	label := `context="system_u:object_r:container_file_t:s0:c1,c2"`
	pod := map[string]string{
		contextEphemeral: "true", contextPodName: "web", contextPodNamespace: "shop",
		"csi.storage.k8s.io/pod.uid": "1", "csi.storage.k8s.io/serviceAccount.name": "default",
	}
	publish := func(flags []string, attributes map[string]string) (*volume.Inline, error) {
		p, r := &publisher{}, publishRequest()
		r.VolumeCapability, r.VolumeContext = capable(modeRWX, flags...), maps.Clone(pod)
		maps.Copy(r.VolumeContext, attributes)
		_, err := newNode(p).NodePublishVolume(context.Background(), r)
		if err != nil {
			return nil, err
		}
		return p.calls[0].(volume.PublishRequest).Inline, nil
	}
	got, err := publish([]string{label}, map[string]string{"share": "nas1", "subDir": "models/one"})
	want := &volume.Inline{Share: "nas1", Directory: "models/one", Pod: "shop/web", Context: []string{label}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("request = %+v, %v, want %+v", got, err, want)
	}
	for part, c := range map[string]struct {
		flags      []string
		attributes map[string]string
		kind       error
	}{
		"cannot choose the server":       {nil, map[string]string{"share": "/x", "server": "nas"}, volume.ErrRefused},
		"cannot choose the mountOptions": {nil, map[string]string{"share": "nas1", "mountOptions": "suid"}, volume.ErrRefused},
		"mount options (suid)":           {[]string{label + ",suid"}, map[string]string{"share": "nas1"}, volume.ErrRefused},
		`"subdir" is not known`:          {nil, map[string]string{"share": "nas1", "subdir": "x"}, volume.ErrInvalid},
		"name no share":                  {nil, nil, volume.ErrInvalid},
	} {
		_, err := publish(c.flags, c.attributes)
		if volume.Kind(err) != c.kind || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), id) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
}

// TestStaticOptions joins the options of a PV's attributes with its own.
func TestStaticOptions(t *testing.T) {
	p, r := &publisher{}, publishRequest()
	r.VolumeContext["mountOptions"] = "noatime,vers=4.1"
	r.VolumeContext["share"], r.VolumeContext["subDir"] = "x/", "/a/"
	if _, err := newNode(p).NodePublishVolume(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	want := volume.PublishRequest{ID: id, Location: volume.Location{Share: "nas:/x", Directory: "a"}, Target: "/pod", Options: []string{"noatime,vers=4.1", "hard", "vers=3"}}
	if !reflect.DeepEqual(p.calls, []any{want}) {
		t.Errorf("calls = %+v, want %+v", p.calls, want)
	}
}
