// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestAliases opens directories by other names than their own. What a server makes of such names is tested in
// the lab.
func TestAliases(t *testing.T) {
	g := newTestShare(t)
	g.put("team/file", "")
	root, err := g.root.Resolve("")
	g.must(err)
	defer root.Close()
	team, err := root.Resolve("team")
	g.must(err)
	defer team.Close()
	g.wantError("Mooring's own", g.WrapError("open it", checkNotStateDir(g.disk, g.disk.state, "MOORIN~1")), volume.ErrInvalid, "MOORIN~1", volume.StateDir)
	g.must(checkNotStateDir(g.disk, team, "team"))
	g.wantError("a name that is not listed", g.WrapError("open it", checkListed(g.disk, root, team, "TEAM", "a/TEAM")), volume.ErrBusy, "a/TEAM", "try again") // another spelling would open it
	g.must(checkListed(g.disk, root, team, "team", "team"))
	g.must(os.Rename(g.at("team"), g.at(".mooring/away")))
	g.wantError("a directory that was moved away meanwhile", g.WrapError("open it", checkListed(g.disk, root, team, "team", "a/team")), volume.ErrBusy, "a/team", "try again")
	g.must(os.Rename(g.at(".mooring/away"), g.at("team")))
	d, err := openListed(g.disk, "team")
	g.must(err)
	d.Close()
	if _, err := openListed(g.disk, "team/none"); !os.IsNotExist(err) {
		t.Errorf("a missing directory: %v", err)
	}
	g.must(os.Remove(g.at(".mooring/" + formatFile)))
	g.must(checkNotStateDir(g.disk, g.disk.state, "team")) // another directory with the same inode number
}

// TestAliasOfParent opens parents of volumes by other names than their own.
func TestAliasOfParent(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "team/db")
	p := g.claims.parents
	root, err := g.root.Resolve("")
	g.must(err)
	defer root.Close()
	open := func(name, newName string) error {
		found, err := root.Resolve(name)
		g.must(err)
		found, err = p.checkOpened(root, found, newName, false)
		closeAll(found)
		return g.WrapError("open it", err)
	}
	g.wantError("Mooring's own", open(volume.StateDir, "MOORIN~1"), volume.ErrInvalid, "MOORIN~1", volume.StateDir)
	for range 2 {
		// The lab has a server where other spellings open it: TestShortNames.
		g.wantError("another spelling, that opens nothing", open("team", "TEAM~1"), volume.ErrBusy, "TEAM~1", "try again")
	}
	g.must(os.Rename(g.at("team"), g.at("away")))
	g.must(open("away", "team")) // it was made under this name, and is not listed again
	g.must(os.Mkdir(g.at("other"), 0o755))
	g.wantError("another directory", open("other", "team"), volume.ErrBusy, `"team"`, "try again")
	g.must(open("other", "other"))
	g.must(os.Rename(g.at("other"), g.at("gone")))
	g.must(open("gone", "other")) // listed before
	p.forget("other")
	g.wantError("a parent that was tidied", open("gone", "other"), volume.ErrBusy, `"other"`)
}
