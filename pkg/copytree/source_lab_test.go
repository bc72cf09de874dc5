// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestRecheckReachesServer asks for names that the client remembers to be there, or not to be
// there, for minutes, when the server has changed that. With a delegation of the directory the
// client asks nobody about a name that is not there, unless lookupcache says that it must.
func TestRecheckReachesServer(t *testing.T) {
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run(version, func(t *testing.T) { testRecheck(t, version, "positive") })
		t.Run(version+" without delegations", func(t *testing.T) {
			const file = "/sys/module/nfsv4/parameters/directory_delegations"
			if err := os.WriteFile(file, []byte("N"), 0); err == nil { // older kernels have none
				t.Cleanup(func() { _ = os.WriteFile(file, []byte("Y"), 0) })
			}
			testRecheck(t, version, "all")
		})
	}
}

func testRecheck(t *testing.T, version, lookupCache string) {
	_, server := mountExport(t, "exports", version)
	must(t, os.WriteFile(filepath.Join(server, "removed"), nil, 0o644))
	client := t.TempDir()
	options := "nosharecache,softerr,timeo=50,retrans=2,actimeo=600,lookupcache=" + lookupCache + ",nfsvers=" + version
	out, err := exec.Command("mount", "-t", "nfs", "-o", options, lab.Server+":/exports/"+filepath.Base(server), client).CombinedOutput()
	if err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(client, unix.MNT_DETACH) })
	f, err := os.Open(client)
	must(t, err)
	defer f.Close()
	d := &directory{source: f}
	var s source
	var st unix.Stat_t
	must(t, s.lstat(d, "removed", &st))
	if err := s.lstat(d, "new", &st); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("what is not there yet: %v", err)
	}
	must(t, os.Remove(filepath.Join(server, "removed")))
	must(t, os.WriteFile(filepath.Join(server, "new"), nil, 0o644))
	if is, err := s.recheck(d, "removed"); is != nil || err != nil {
		t.Errorf("what was removed is there: %v, %v", is, err)
	}
	if is, err := s.recheck(d, "new"); is == nil || err != nil {
		t.Errorf("what is new is not there: %v, %v", is, err)
	}
}

// TestListIsCurrent lists directories in which another client makes a file now and then. A server
// delegates a directory no more for a while once it has recalled that, and its parent still. Linux
// 7.2 then takes the parent's delegation for a reason not to ask whether the directory itself has
// changed when it is opened (nfs_lookup_revalidate_delegated).
func TestListIsCurrent(t *testing.T) {
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run(version, func(t *testing.T) {
			here, server := mountExport(t, "exports", version)
			there := ground.NewMachine(t).Mount(t, version, "/exports/"+filepath.Base(server))
			rng := rand.New(rand.NewPCG(0, 0))
			for parent := range 20 {
				all := []string{fmt.Sprintf("parent%d", parent)}
				for i := range 3 {
					dir := fmt.Sprintf("%s/dir%d", all[0], i)
					all = append(all, dir, dir+"/dir")
					must(t, os.MkdirAll(filepath.Join(there, dir, "dir"), 0o755))
				}
				// What is looked up while its parent is delegated is believed for as long as that is.
				for range 3 {
					_, err := os.ReadDir(filepath.Join(here, all[0]))
					must(t, err)
				}
				for i := range 30 {
					dir := all[rng.IntN(len(all))]
					if rng.IntN(3) == 0 {
						must(t, os.WriteFile(filepath.Join(there, dir, fmt.Sprint(i)), nil, 0o644))
						continue
					}
					list := [...]func(*testing.T, string, string) []string{listAsCopy, listAsShare}[rng.IntN(2)]
					if got, want := list(t, here, dir), listAsCopy(t, server, dir); !slices.Equal(got, want) {
						t.Fatalf("step %d: %s is listed as %q, not as %q", i, dir, got, want)
					}
				}
			}
		})
	}
}

// listed is what a copy of root finds in dir.
func listAsCopy(t *testing.T, root, dir string) (names []string) {
	t.Helper()
	f, err := os.Open(root)
	must(t, err)
	defer f.Close()
	d := &directory{source: f}
	for name := range strings.SplitSeq(dir, "/") {
		f, err := source{}.openDir(d, name)
		must(t, err)
		defer f.Close()
		d = &directory{parent: d, source: f}
	}
	must(t, source{}.list(d, func(name string, _ uint8) bool { names = append(names, name); return true }))
	slices.Sort(names)
	return names
}

// entered is what package share finds in dir.
func listAsShare(t *testing.T, root, dir string) (names []string) {
	t.Helper()
	r, err := beneath.OpenRoot(root)
	must(t, err)
	defer r.Close()
	d, err := r.Resolve(dir)
	must(t, err)
	defer d.Close()
	must(t, beneath.Entries(d, func(name string, _ bool) error { names = append(names, name); return nil }))
	slices.Sort(names)
	return names
}
