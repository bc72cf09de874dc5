// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestAliases has directories that were opened by other names than their own. What a server makes of
// such names is for the lab.
func TestAliases(t *testing.T) {
	g := newGround(t)
	g.put("team/file", "")
	root, err := g.root.Resolve("")
	g.must(err)
	defer root.Close()
	team, err := root.Resolve("team")
	g.must(err)
	defer team.Close()
	g.refused("Mooring's own", g.Explain("open it", notOwn(g.disk, g.disk.state, "MOORIN~1")), volume.ErrInvalid, "MOORIN~1", volume.StateDir)
	g.must(notOwn(g.disk, team, "team"))
	g.refused("a name that is not listed", g.Explain("open it", asListed(root, "TEAM", "a/TEAM")), volume.ErrInvalid, "a/TEAM", "as the server lists it")
	g.must(asListed(root, "team", "team"))
	d, err := openListed(g.disk, "team")
	g.must(err)
	d.Close()
	if _, err := openListed(g.disk, "team/none"); !os.IsNotExist(err) {
		t.Errorf("what is not there: %v", err)
	}
}
