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

// TestRecheckReachesServer rechecks names that the client caches for minutes, as existing or
// missing, after the server has changed them. With a delegation of the directory the client does
// not ask the server for a missing name, unless lookupcache requires it.
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
		t.Fatalf("a name that does not exist yet: %v", err)
	}
	must(t, os.Remove(filepath.Join(server, "removed")))
	must(t, os.WriteFile(filepath.Join(server, "new"), nil, 0o644))
	if is, err := s.recheck(d, "removed"); is != nil || err != nil {
		t.Errorf("a removed name exists: %v, %v", is, err)
	}
	if is, err := s.recheck(d, "new"); is == nil || err != nil {
		t.Errorf("a new name does not exist: %v, %v", is, err)
	}
}

// TestListIsCurrent lists directories in which another client creates files. After a recall a server
// does not delegate the directory for a while, but still its parent. Because of the delegation of the
// parent, Linux 7.2 then does not ask whether the directory itself has changed when it is opened
// (nfs_lookup_revalidate_delegated).
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
				// The client trusts a lookup for as long as it has the delegation of the parent.
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

// listAsCopy returns the entries of dir that a copy of root finds.
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

// listAsShare returns the entries of dir that package share finds.
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
