// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestPublishByExport publishes a volume whose attributes name the export of a share that is registered:
// it is mounted as the share's, whatever the configuration says of others.
func TestPublishByExport(t *testing.T) {
	for _, export := range []string{"10.0.0.1:/export", "[::ffff:10.0.0.1]:/export"} {
		n := newNode(t)
		n.registry.Shares[0].Servers = []string{"10.0.0.9", "10.0.0.1"}
		byExport := func(r *volume.PublishRequest) { r.ID, r.Location.Share = export+"/v1", export }
		well := func() {
			t.Helper()
			if found, err := n.Health.Volume(context.Background(), export+"/v1", n.at("pods/a")); err != nil || len(found) > 0 {
				t.Errorf("it is unwell: %+v, %v", found, err)
			}
		}
		n.must(n.publish("a", byExport))
		if e, _ := n.mounted("pods/a"); e.Source != "10.0.0.9:/export/v1" { // the share's first server
			t.Errorf("mounted is %+v", e)
		}
		n.must(n.publish("a", byExport))
		well()
		// The same server, written otherwise, has not moved.
		n.registry.Shares[0].Servers = []string{"::ffff:10.0.0.9", "10.0.0.1"}
		well()
		n.must(n.publish("b", byExport))
		n.did(1, 1)
	}
}

// TestRegisteredSince has an export be registered while a pod has a volume of it: to the next pod it is
// the same volume.
func TestRegisteredSince(t *testing.T) {
	n := newNode(t)
	shares := n.registry.Shares
	byExport := func(r *volume.PublishRequest) { r.ID, r.Location.Share = "10.0.0.1:/export/v1", "10.0.0.1:/export" }
	n.registry.Shares, n.registry.Unregistered, n.registry.MountOptions = nil, true, shares[0].MountOptions
	n.must(n.publish("a", byExport))
	n.registry.Shares = shares
	n.must(n.publish("b", byExport))
	n.did(1, 1)
}

// TestWholeShare publishes all of a registered share, by its export: as before it was registered, if
// exports that are not registered are allowed at all. It may be mounted for others, too.
func TestWholeShare(t *testing.T) {
	n := newNode(t)
	whole := func(r *volume.PublishRequest) {
		r.ID, r.Location, r.SingleWriter = "all", volume.Location{Share: "10.0.0.1:/export"}, true
	}
	n.refused("all of a share", n.publish("a", whole), volume.ErrInvalid)
	n.registry.Unregistered = true
	n.must(os.Mkdir(n.at("given"), 0o755))
	n.must(n.mounter.Mount(context.Background(), mount.Spec{Source: "10.0.0.1:/export", Target: n.at("given")}))
	n.must(n.publish("a", whole))
	n.refused("a second pod", n.publish("b", whole), volume.ErrPrecondition)
}

// TestNested has a volume of an export that lies inside a share which was registered later: it goes
// on, and says what is wrong.
func TestNested(t *testing.T) {
	n := newNode(t)
	n.registry.Shares, n.registry.Unregistered = nil, true
	n.must(n.publish("a", func(r *volume.PublishRequest) { r.ID, r.Location.Share = "10.0.0.1:/export/v1", "10.0.0.1:/export" }))
	n.registry.Shares = []volume.Share{{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/"}}
	found, err := n.Health.Volume(context.Background(), "10.0.0.1:/export/v1", n.at("pods/a"))
	if err != nil || len(found) != 1 || found[0].Reason != volume.SharesOverlap {
		t.Errorf("its health is %+v, %v", found, err)
	}
}
