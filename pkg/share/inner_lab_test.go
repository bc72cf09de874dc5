// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"os"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// TestShareInVolumeOnNFS lays out a share in a volume that is empty in this client's cache, from the same
// machine and from another. The deletion may believe the cache, the purge does not.
func TestShareInVolumeOnNFS(t *testing.T) {
	needsLab(t)
	t.Parallel()
	for _, version := range []string{"3", "4.2"} {
		for _, where := range []string{"this machine", "another"} {
			t.Run("nfs"+version+"/"+where, func(t *testing.T) {
				server := lab.Exported(t)
				g := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
				g.server = server
				g.create("v1", "media")
				if left, err := os.ReadDir(g.dir + "/media"); err != nil || len(left) > 0 { // as a copy does
					t.Fatalf("%v: %v", left, err)
				}
				machine := lab.ThisMachine()
				if where == "another" {
					machine = lab.NewMachine(t)
				}
				in := openTestShare(t, machine.Mount(t, version, server+"/media"), Options{Maker: otherMaker})
				in.create("b1", "b1")
				in.put("b1/file", "precious")

				deleted, err := g.Volumes.Delete(t.Context(), "v1")
				t.Logf("the deletion: %v", err)
				if err != nil {
					g.wantError("a deletion", err, volume.ErrPrecondition, "another share")
					in.delete("b1")
					g.must(in.purge())
					return
				}
				g.wantError("the purge", g.Trash.Purge(*deleted, g.remove), volume.ErrPrecondition, "not purged")
				if _, err := os.Stat(g.server + "/.mooring/trash/" + deleted.Name + "/b1/file"); err != nil {
					t.Errorf("the other share's volume: %v", err)
				}
			})
		}
	}
}

// TestShareInVolumeIsSeen deletes a volume with a share in it that this client knows.
func TestShareInVolumeIsSeen(t *testing.T) {
	needsLab(t)
	t.Parallel()
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			server := lab.Exported(t)
			mount := func() *testShare {
				return openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker, Lease: time.Hour})
			}
			g := mount()
			if !g.countsSubdirs {
				t.Error("a new share does not count subdirectories")
			}
			g.create("v1", "team/media")
			openTestShare(t, lab.ThisMachine().Mount(t, version, server+"/team/media"), Options{Maker: otherMaker}).create("b1", "b1")
			if g = mount(); !g.countsSubdirs {
				t.Error("the share does not count subdirectories")
			}
			_, err := g.Volumes.Delete(t.Context(), "v1")
			g.wantError("a deletion", err, volume.ErrPrecondition, "another share")
		})
	}
}
