// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestStageByExport stages a volume whose attributes name the export of a share that is registered:
// it is mounted as the share's, whatever the configuration says of others.
func TestStageByExport(t *testing.T) {
	for _, export := range []string{"10.0.0.1:/export", "[::ffff:10.0.0.1]:/export"} {
		n := newNode(t)
		n.registry.Shares[0].Servers = []string{"10.0.0.9", "10.0.0.1"}
		id := export + "/v1"
		r := volume.Stage{ID: id, Location: volume.Location{Share: export, Directory: "v1"}, Path: n.at("stage/v1")}
		n.must(n.Stages.Stage(context.Background(), r))
		e, mounted := n.mounted("stage/v1")
		if !mounted || e.Source != "10.0.0.9:/export/v1" { // the share's first server

			t.Errorf("mounted is %+v", e)
		}
		n.must(n.Stages.Stage(context.Background(), r))
		if found, err := n.Health.Volume(context.Background(), id, n.at("stage/v1"), ""); err != nil || len(found) > 0 {
			t.Errorf("it is unwell: %+v, %v", found, err)
		}
		// The same server, written otherwise, has not moved.
		n.registry.Shares[0].Servers = []string{"::ffff:10.0.0.9", "10.0.0.1"}
		if found, err := n.Health.Volume(context.Background(), id, n.at("stage/v1"), ""); err != nil || len(found) > 0 {
			t.Errorf("it is unwell: %+v, %v", found, err)
		}
	}
}

// TestStageWholeShare stages all of a registered share, by its export: as before it was registered, if
// exports that are not registered are allowed at all.
func TestStageWholeShare(t *testing.T) {
	n := newNode(t)
	n.registry.Shares[0].Servers = []string{"10.0.0.1"}
	r := volume.Stage{ID: "all", Location: volume.Location{Share: "10.0.0.1:/export"}, Path: n.at("stage/all")}
	if err := n.Stages.Stage(context.Background(), r); volume.Kind(err) != volume.ErrInvalid {
		t.Errorf("all of a share is staged: %v", err)
	}
	n.registry.Unregistered = true
	n.must(n.Stages.Stage(context.Background(), r))
}

// TestNested has a volume of an export that lies inside a share which was registered later: it goes
// on, and says what is wrong.
func TestNested(t *testing.T) {
	n := newNode(t)
	n.registry.Shares, n.registry.Unregistered = nil, true
	n.must(n.Stages.Stage(context.Background(), volume.Stage{
		ID: "10.0.0.1:/export/v1", Location: volume.Location{Share: "10.0.0.1:/export", Directory: "v1"}, Path: n.at("stage/v1"),
	}))
	n.registry.Shares = []volume.Share{{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/"}}
	found, err := n.Health.Volume(context.Background(), "10.0.0.1:/export/v1", n.at("stage/v1"), "")
	if err != nil || len(found) != 1 || found[0].Reason != volume.SharesOverlap {
		t.Errorf("its health is %+v, %v", found, err)
	}
}
