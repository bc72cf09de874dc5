// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
)

// TestCopyIsCurrent copies a tree again and again, in which another client renames and replaces files and
// directories between the copies: no copy has a file as it was before, or that of another name.
func TestCopyIsCurrent(t *testing.T) {
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run(version, func(t *testing.T) {
			here, server := mountExport(t, "exports", version)
			there := ground.NewMachine(t).Mount(t, version, "/exports/"+filepath.Base(server))
			rng := rand.New(rand.NewPCG(1, 2))
			n := 0
			write := func(path string) {
				n++
				must(t, os.WriteFile(path, fmt.Appendf(nil, "content %d of %s\n", n, path), 0o644))
			}
			var dirs []string
			for i, files := range []int{5, 40} {
				for _, below := range []string{"", "/sub"} {
					dir := fmt.Sprintf("%s/source/dir%d%s", there, i, below)
					must(t, os.MkdirAll(dir, 0o755))
					dirs = append(dirs, dir)
					for f := range files {
						write(fmt.Sprintf("%s/file%d", dir, f))
					}
				}
			}
			for round := range 8 {
				for range rng.IntN(12) {
					dir := dirs[rng.IntN(len(dirs))]
					entries, err := os.ReadDir(dir)
					must(t, err)
					name := filepath.Join(dir, entries[rng.IntN(len(entries))].Name())
					n++
					aside := filepath.Join(dir, fmt.Sprint("aside", n))
					switch info, err := os.Stat(name); {
					case err != nil:
						t.Fatal(err)
					case info.IsDir():
						must(t, os.Rename(name, aside))
						must(t, os.Mkdir(name, 0o755))
						write(name + "/new")
						if rng.IntN(2) == 0 {
							must(t, os.RemoveAll(aside))
						}
					case rng.IntN(3) == 0:
						write(aside)
						must(t, os.Rename(aside, name))
					default:
						must(t, os.Rename(name, aside))
						write(name)
					}
				}
				copied := fmt.Sprint("copy", round)
				must(t, os.Mkdir(filepath.Join(here, copied), 0o755))
				must(t, copyInto(t, context.Background(), filepath.Join(here, "source"), filepath.Join(here, copied), &Copy{}))
				compare(t, contents(t, filepath.Join(server, "source")), contents(t, filepath.Join(server, copied)))
				if t.Failed() {
					t.Fatalf("copy %d is wrong", round)
				}
				must(t, os.RemoveAll(filepath.Join(server, copied)))
			}
		})
	}
}

// contents returns the content of each file of a tree, by its path.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		all[path[len(root):]] = string(data)
		return err
	}))
	return all
}
