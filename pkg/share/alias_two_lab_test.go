// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/beneath"
	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// TestParentOfAnother has another controller of the same machine make a parent, after this one has
// listed the share: its name is listed.
func TestParentOfAnother(t *testing.T) {
	needsLab(t)
	for _, version := range []string{"3", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			server := lab.Exported(t)
			g := openAt(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
			other := openAt(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: stranger})
			for range 2 { // the server delegates what is asked for again
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
