// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"os"
	"testing"

	"github.com/mooring-csi/mooring/pkg/beneath"
	lab "github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestReplaced replaces directories on the server by files of the same names, while the client has
// the directories cached. NFSv4 removes either by one operation: the files must stay.
func TestReplaced(t *testing.T) {
	needsLab(t)
	t.Parallel()
	for _, version := range []string{"3", "4.0", "4.2"} {
		for name, replaced := range map[string]func(g *testShare, replace func(name string)) (file string){
			"a directory": func(g *testShare, replace func(string)) string {
				g.must(g.root.Mkdir("x", 0o700))
				_, err := g.root.Stat("x")
				g.must(err)
				replace("x")
				if err := beneath.RmdirCurrent(g.root, "x"); !is(err, unix.ENOTDIR) {
					g.Errorf("removing it returns %v", err)
				}
				return "x"
			},
			"an empty parent": func(g *testShare, replace func(string)) string {
				g.create("v1", "team/a")
				g.delete("v1")
				replace("team")
				g.must(g.Tidy(g.Context(), 0))
				return "team"
			},
			"the directory of a creation that is undone": func(g *testShare, replace func(string)) string {
				p := g.begin(record("v1", "a"))
				g.must(p.MakeDirectory(g.Context()))
				replace("a")
				_ = p.Abort()
				_, _ = g.withExpiredLease().Volumes.Delete(g.Context(), "v1")
				return "a"
			},
		} {
			t.Run("nfs"+version+"/"+name, func(t *testing.T) {
				server := lab.Exported(t)
				g := openTestShare(t, lab.ThisMachine().Mount(t, version, server), Options{Maker: maker})
				g.server = server
				file := replaced(g, func(name string) {
					g.must(os.Rename(g.at(name), g.at("moved")))
					g.must(os.WriteFile(g.at(name), []byte("somebody's"), 0o600))
				})
				if text, err := os.ReadFile(g.at(file)); string(text) != "somebody's" {
					t.Errorf("the file is %q, %v", text, err)
				}
			})
		}
	}
}
