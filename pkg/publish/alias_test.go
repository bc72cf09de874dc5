// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestPublishByExport publishes a volume whose attributes name the export of a registered share: it is
// mounted with the options and servers of that share.
func TestPublishByExport(t *testing.T) {
	for _, export := range []string{"10.0.0.1:/export", "[::ffff:10.0.0.1]:/export"} {
		n := newNode(t)
		n.registry.Shares[0].Servers = []string{"10.0.0.9", "10.0.0.1"}
		byExport := func(r *volume.PublishRequest) { r.ID, r.Location.Share = export+"/v1", export }
		healthy := func() {
			t.Helper()
			if found, err := n.Health.Volume(context.Background(), export+"/v1", n.at("pods/a")); err != nil || len(found) > 0 {
				t.Errorf("health = %+v, %v, want no condition", found, err)
			}
		}
		n.must(n.publish("a", byExport))
		if e, _ := n.mounted("pods/a"); e.Source != "10.0.0.9:/export/v1" { // the share's first server
			t.Errorf("mount = %+v", e)
		}
		n.must(n.publish("a", byExport))
		healthy()
		// The same address in another notation is not a move.
		n.registry.Shares[0].Servers = []string{"::ffff:10.0.0.9", "10.0.0.1"}
		healthy()
		n.must(n.publish("b", byExport))
		n.wantMounts(1, 1)
	}
}

// TestRegisteredSince registers an export while a pod has a volume of it: the next pod gets the same
// volume.
func TestRegisteredSince(t *testing.T) {
	n := newNode(t)
	shares := n.registry.Shares
	byExport := func(r *volume.PublishRequest) { r.ID, r.Location.Share = "10.0.0.1:/export/v1", "10.0.0.1:/export" }
	n.registry.Shares, n.registry.Unregistered, n.registry.MountOptions = nil, true, shares[0].MountOptions
	n.must(n.publish("a", byExport))
	n.registry.Shares = shares
	n.must(n.publish("b", byExport))
	n.wantMounts(1, 1)
}

// TestWholeShare publishes a whole registered share by its export: that works as before it was
// registered, if unregistered exports are allowed. Others may have mounted it, too.
func TestWholeShare(t *testing.T) {
	n := newNode(t)
	whole := func(r *volume.PublishRequest) {
		r.ID, r.Location, r.SingleWriter = "all", volume.Location{Share: "10.0.0.1:/export"}, true
	}
	n.refused("a whole share", n.publish("a", whole), volume.ErrInvalid)
	n.registry.Unregistered = true
	n.must(os.Mkdir(n.at("given"), 0o755))
	n.must(n.mounter.Mount(context.Background(), mount.Spec{Source: "10.0.0.1:/export", Target: n.at("given")}))
	n.must(n.publish("a", whole))
	n.refused("a second pod", n.publish("b", whole), volume.ErrPrecondition)
}

// TestNested checks a volume of an export inside a share that was registered later: it still works, and
// its health says what is wrong.
func TestNested(t *testing.T) {
	n := newNode(t)
	n.registry.Shares, n.registry.Unregistered = nil, true
	n.must(n.publish("a", func(r *volume.PublishRequest) { r.ID, r.Location.Share = "10.0.0.1:/export/v1", "10.0.0.1:/export" }))
	n.registry.Shares = []volume.Share{{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/"}}
	found, err := n.Health.Volume(context.Background(), "10.0.0.1:/export/v1", n.at("pods/a"))
	if err != nil || len(found) != 1 || found[0].Reason != volume.SharesOverlap {
		t.Errorf("health = %+v, %v", found, err)
	}
}
