// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"os"
	"testing"

	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// TestTidyStale removes a parent on the server while the client still has it cached. It is tidied
// later, and does not delay the others.
func TestTidyStale(t *testing.T) {
	needsLab(t)
	t.Parallel()
	for _, version := range []string{"3", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			server := lab.Exported(t)
			g := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
			g.server = server
			other := openTestShare(t, lab.NewMachine(t).Mount(t, version, server), Options{Maker: otherMaker})
			for key, directory := range map[string]string{"v2": "team/x/a", "v4": "team/y/z/a"} {
				other.create(key, directory)
				other.delete(key)
			}
			for key, directory := range map[string]string{"v1": "team/a", "v3": "b/a"} {
				g.create(key, directory)
				g.delete(key)
			}
			g.must(os.RemoveAll(g.at("team")))
			g.must(g.Tidy(t.Context(), 0))
			if g.has("b") {
				t.Error("another parent is still there")
			}
		})
	}
}
