// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// TestParentOfAnother lets another controller on the same machine make a parent after this one has listed the
// share: its name is listed.
func TestParentOfAnother(t *testing.T) {
	needsLab(t)
	for _, version := range []string{"3", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			server := lab.Exported(t)
			g := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
			other := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: otherMaker})
			for range 2 { // the server delegates what is asked for twice
				g.must(beneath.Names(g.root, func(string) error { return nil }))
				if _, err := os.Stat(g.dir + "/none"); !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
			other.create("v1", "team/db")
			g.create("v2", "team/web")
		})
	}
}

// TestParentThatWasArchived lets another controller on the same machine archive the volume that had a
// directory. This controller then makes another volume there: its client has cached the directory, which has
// another name now. That is not another spelling.
func TestParentThatWasArchived(t *testing.T) {
	needsLab(t)
	for _, version := range []string{"3", "4.0", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			server := lab.Exported(t)
			g := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
			other := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: otherMaker})
			r := record("v1", "p")
			r.OnDelete = volume.Archive
			other.must(second(other.make(r)))
			for range 2 {
				_, err := g.make(record("v2", "p/a"))
				g.wantError("in a volume", err, volume.ErrPrecondition, "v1")
				if _, err := os.Stat(g.dir + "/p"); err != nil {
					t.Fatal(err)
				}
			}
			other.delete("v1")
			err := error(nil)
			for range retries {
				if _, err = g.make(record("v2", "p/a")); volume.Kind(err) != volume.ErrBusy {
					break
				}
			}
			g.must(err)
		})
	}
}
