// SPDX-License-Identifier: Apache-2.0

//go:build lab

package beneath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestMovedDirectory looks up directories that another client has moved, while a rename in the same mount
// does not return. They exist all the time: no error may say that they do not.
func TestMovedDirectory(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	other := ground.NewMachine(t)
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run(version, func(t *testing.T) {
			base, err := os.MkdirTemp(lab.Exports, "moved")
			must(err)
			here := ground.ThisMachine().Mount(t, version, base)
			there := other.Mount(t, "4.2", base)
			open := func(dir string) Dir {
				must(os.MkdirAll(filepath.Join(base, dir), 0o755))
				d, err := OpenRoot(filepath.Join(here, dir))
				must(err)
				t.Cleanup(d.Close)
				return d
			}
			root, old, now, from, to := open(""), open("old"), open("new"), open("from"), open("to")
			n := 0
			moved := func() string { // returns the name of a directory that this client knows at its old place
				n++
				name := fmt.Sprint("directory", n)
				must(os.Mkdir(filepath.Join(base, "old", name), 0o755))
				_, err := old.Stat(name)
				must(err)
				must(os.Rename(filepath.Join(base, "old", name), filepath.Join(base, "new", name)))
				return name
			}

			// The server gives the other client a delegation, and cannot recall it.
			must(os.WriteFile(filepath.Join(base, "from/file"), nil, 0o644))
			held, err := os.Open(filepath.Join(there, "from/file"))
			must(err)
			defer held.Close()
			other.Cut(t)
			renamed := make(chan error, 1)
			go func() { renamed <- from.Rename("file", to, "file") }()
			for { // until the rename is under way
				fd, err := openat(int(now), moved(), unix.O_PATH|unix.O_DIRECTORY)
				if err == unix.ESTALE {
					break
				}
				must(err)
				_ = unix.Close(fd)
				select {
				case err := <-renamed:
					t.Fatalf("the rename has not waited: %v", err)
				case <-time.After(10 * time.Millisecond):
				}
			}
			resolve := func(open func(Dir, string) (Dir, error), d Dir, parent string) func(string) error {
				return func(name string) error {
					found, err := open(d, parent+name)
					if err == nil {
						found.Close()
					}
					return err
				}
			}
			lookups := map[string]func(name string) error{
				"resolve":        resolve(Dir.Resolve, now, ""),
				"resolve a path": resolve(Dir.Resolve, root, "new/"),
				"current":        resolve(ResolveCurrent, now, ""),
				"current path":   resolve(ResolveCurrent, root, "new/"),
				"stat":           func(name string) error { _, err := now.Stat(name); return err },
				"rename":         func(name string) error { return now.Rename(name, now, "renamed "+name) },
				"rmdir":          now.Rmdir,
			}
			var all sync.WaitGroup
			for what, lookup := range lookups {
				name := moved()
				all.Go(func() {
					if err := lookup(name); !errors.Is(err, unix.EAGAIN) {
						t.Errorf("%s during a rename: %v", what, err)
					}
				})
			}
			all.Wait()
			names := map[string]string{}
			for what := range lookups {
				names[what] = moved()
			}
			other.Heal(t)
			must(<-renamed)
			for what, lookup := range lookups {
				if err := lookup(names[what]); err != nil {
					t.Errorf("%s after the rename: %v", what, err)
				}
			}
		})
	}
}
