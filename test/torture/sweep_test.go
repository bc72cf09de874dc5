// SPDX-License-Identifier: Apache-2.0

//go:build lab

package torture

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// anyLate reports whether a request of an owner for a volume was canceled.
func (h *history) anyLate(owner string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name := range h.late {
		if strings.HasPrefix(name, "pvc-"+owner) {
			return true
		}
	}
	return false
}

// aftermath follows when the owners have deleted everything.
type aftermath struct{ *history }

// sweep deletes what canceled requests made later; anything else that still exists is a fault. It also
// removes what users would remove.
func (h aftermath) sweep() {
	h.eventually("nothing comes late any more", h.sweepOnce)
}

// sweepOnce deletes what exists, and returns what that was. The kernel of a machine can carry out a request of
// a process that it has killed, minutes later, when its connection is back: after a sweep too.
func (h aftermath) sweepOnce() (was string) {
	o := newOwner(h.history, owners)
	o.calm = true
	groups, _ := os.ReadDir(h.at(".mooring/groups"))
	for _, e := range groups {
		was += " " + e.Name()
		if !h.mayBeLate(e.Name()) {
			h.wrong("group %s is still there", e.Name())
		}
		h.sweepGroup(o, e.Name())
	}
	for kind, remove := range map[string]func(context.Context, csi.ControllerClient, string) error{
		"volumes": func(ctx context.Context, c csi.ControllerClient, id string) error {
			_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		},
		"snapshots": func(ctx context.Context, c csi.ControllerClient, id string) error {
			_, err := c.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
			return err
		},
	} {
		entries, _ := os.ReadDir(h.at(".mooring", kind))
		for _, e := range entries {
			name := e.Name()
			was += " " + name
			if !h.mayBeLate(name) && !strings.HasPrefix(name, "group-") {
				h.wrong("%s is still there", name)
			}
			stays := h.retained(name)
			err := o.ask("sweep", name, func(ctx context.Context, d *lab.Driver) error { return remove(ctx, d.Controller, "nas1/"+name) })
			h.note("sweep %s: %v", name, err)
			if err == nil && stays != "" {
				o.discard(stays)
			}
		}
	}
	for _, pattern := range []string{"archived-*", "*/archived-*", "*/*/archived-*"} {
		found, _ := filepath.Glob(h.at(pattern))
		for _, at := range found {
			o.discard(strings.TrimPrefix(at, h.path+"/"))
		}
	}
	if h.trash {
		if out, err := h.mooringctl("trash", "purge", "--all", "--yes"); err != nil {
			was += " " + out
		}
	}
	return was
}

// checkEmpty checks that mooringctl check finds nothing when everything is deleted.
func (h aftermath) checkEmpty() {
	h.eventually("mooringctl check is content with nothing left", func() string {
		if was := h.sweepOnce(); was != "" {
			return was
		}
		return h.findings("error", "warning")
	})
}

// retained returns the directory of a volume whose onDelete is retain.
func (h aftermath) retained(name string) string {
	var record struct{ Directory, OnDelete string }
	data, err := os.ReadFile(h.at(".mooring/volumes", name, "record.json"))
	if err != nil || json.Unmarshal(data, &record) != nil || record.OnDelete != "retain" {
		return ""
	}
	return record.Directory
}

// sweepGroup deletes a group of a canceled request, and its snapshots.
func (h aftermath) sweepGroup(o *owner, name string) {
	r := &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "nas1/" + name}
	members, _ := filepath.Glob(h.at(".mooring/snapshots", name+".*"))
	for _, m := range members {
		r.SnapshotIds = append(r.SnapshotIds, "nas1/"+filepath.Base(m))
	}
	err := o.ask("sweep", name, func(ctx context.Context, d *lab.Driver) error {
		_, err := csi.NewGroupControllerClient(d.Conn()).DeleteVolumeGroupSnapshot(ctx, r)
		return err
	})
	h.note("sweep %s: %v", name, err)
}

// recreateAll makes a volume in each directory again.
func (h aftermath) recreateAll() {
	o := newOwner(h.history, owners+1)
	o.calm = true
	for _, dir := range directories[1:] {
		name := o.next("pvc")
		err := o.ask("create again", name, func(ctx context.Context, d *lab.Driver) error {
			_, err := d.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
				Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30}, VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
				Parameters: map[string]string{"share": "nas1", "subDir": dir},
			})
			return err
		})
		if err != nil {
			h.wrong("%s cannot be made again: %v", dir, err)
			continue
		}
		o.forget(name)
	}
}

// empty checks that nothing is left on the share except Mooring's own files, and idle parents with their
// entries in the index.
func (h aftermath) empty() {
	h.eventually("the share is empty", func() string {
		if was := h.sweepOnce(); was != "" {
			return was
		}
		var left []string
		_ = filepath.WalkDir(h.path, func(path string, e os.DirEntry, err error) error {
			name, _ := filepath.Rel(h.path, path)
			in := strings.Split(name, "/")
			switch {
			case err != nil, in[0] != ".mooring" && e.IsDir(), len(in) == 1, in[1] == "claims" && e.IsDir(), in[1] == "parents":
			case len(in) == 2 && (e.IsDir() || in[1] == "format.json" || in[1] == "heartbeat"):
			default:
				left = append(left, name)
			}
			return nil
		})
		return strings.Join(left, "\n")
	})
}

// restart restarts the controllers, which remove what earlier ones prepared.
func (h aftermath) restart() {
	for _, p := range h.controllers {
		p.kill(0)
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		if _, err := p.d.Controller.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: map[string]string{"share": "nas1"}}); err != nil {
			h.wrong("the share cannot be opened: %v", err)
		}
		cancel()
	}
}

// stopAll stops all programs.
func (h aftermath) stopAll() {
	for _, p := range append(h.controllers[:], h.nodes[:]...) {
		if err := p.d.Stop(); err != nil {
			h.wrong("%s did not end well: %v", p.name, err)
		}
		p.d = nil
	}
}
