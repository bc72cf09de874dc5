// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

// TestTurns lets two controllers alternate, as with a change of the leader: one deletes a volume and makes
// another one in the same directory, for which the other controller has a delegation. A server does not
// recall the delegation of a directory that is moved, and Linux looks up no name in a delegated directory.
func TestTurns(t *testing.T) {
	for _, version := range []string{"3", "4.0", "4.2"} {
		for _, c := range []struct {
			what, directory string
			names           [3]string
		}{
			{"at the top", "data", [3]string{"pvc-0", "pvc-1", "pvc-2"}},
			{"in a parent", "team/data", [3]string{"pvc-0", "pvc-1", "pvc-2"}},
			{"of the same name", "data", [3]string{"pvc", "pvc", "pvc"}},
		} {
			for _, apart := range []bool{false, true} {
				t.Run(version+" "+c.what+map[bool]string{true: ", two machines"}[apart], func(t *testing.T) {
					withDelegations(t)
					s := newSite(t, "mountOptions: [nfsvers="+version+"]", "trashRetention: 1h")
					a := s.start("controller", "a")
					var b *lab.Driver
					if apart {
						b = controllerElsewhere(t, s)
					} else {
						b = s.start("controller", "b")
					}
					for i, name := range c.names {
						takeTurns(t, s, [...]*lab.Driver{a, a, b}[i], a, b, name, c.directory, fmt.Sprint("file-", i))
					}
				})
			}
		}
	}
}

// takeTurns makes with b a snapshot of a volume of a, and another volume from it.
func takeTurns(t *testing.T, s *site, last, a, b *lab.Driver, name, directory, file string) {
	r, err := a.Controller.CreateVolume(soon(t), request(name, params{"subDir": directory}))
	if err != nil {
		t.Fatal(err)
	}
	made := []*csi.Volume{r.Volume}
	for _, d := range []*lab.Driver{b, a} {
		again, err := d.Controller.CreateVolume(soon(t), request(name, params{"subDir": directory}))
		if err != nil || again.Volume.VolumeId != r.Volume.VolumeId {
			t.Errorf("make %s again: %v, %v", name, again, err)
		}
		grown := int64(2+len(name)+len(file)) << 30 // the first grows, the second does not
		if _, err := d.Controller.ControllerExpandVolume(soon(t), &csi.ControllerExpandVolumeRequest{VolumeId: r.Volume.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: grown}}); err != nil {
			t.Errorf("expand %s: %v", r.Volume.VolumeId, err)
		}
	}
	if err := os.WriteFile(s.at(directory, file), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, turn := range []string{"first-of-", "second-of-"} {
		taken := mustSnapshot(t, b, made[0], turn+name)
		contains(t, s.at(".mooring/snapshots", turn+name, "data"), file)
		restore := request("from-"+turn+name, params{"subDir": "restored/" + turn})
		restore.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: taken.SnapshotId}}}
		r, err := b.Controller.CreateVolume(soon(t), restore)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, r.Volume)
		contains(t, s.at("restored", turn), file)
		shown := request("shown-"+turn+name, params{"restore": "shallow"})
		shown.VolumeContentSource = restore.VolumeContentSource
		shown.VolumeCapabilities = []*csi.VolumeCapability{lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)}
		if r, err = a.Controller.CreateVolume(soon(t), shown); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Controller.DeleteVolume(soon(t), &csi.DeleteVolumeRequest{VolumeId: r.Volume.VolumeId}); err != nil {
			t.Errorf("delete %s: %v", r.Volume.VolumeId, err)
		}
		if _, err := [...]*lab.Driver{a, b}[i].Controller.DeleteSnapshot(soon(t), &csi.DeleteSnapshotRequest{SnapshotId: taken.SnapshotId}); err != nil {
			t.Errorf("delete %s: %v", taken.SnapshotId, err)
		}
	}
	for _, v := range made {
		if _, err := last.Controller.DeleteVolume(soon(t), &csi.DeleteVolumeRequest{VolumeId: v.VolumeId}); err != nil {
			t.Errorf("delete %s: %v", v.VolumeId, err)
		}
	}
}

// contains compares the content of a directory on the server.
func contains(t *testing.T, dir, file string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != file {
		t.Errorf("in %s there is %v, not %s alone: %v", dir, entries, file, err)
	}
}

// controllerElsewhere starts a controller on another machine.
func controllerElsewhere(t *testing.T, s *site) *lab.Driver {
	t.Helper()
	m := ground.NewMachine(t)
	d, err := lab.StartOn(m.In(), "controller", s.dir+"/b", strings.ReplaceAll(s.config, lab.Server, m.Server()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Errorf("the log of b:\n%s", d.Log())
		}
	})
	return d
}
