// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// TestAskReachesTheServer asks for names that the client remembers to be there, or not to be
// there, for minutes, when the server has changed that. With a delegation of the directory the
// client asks nobody about a name that is not there, unless lookupcache says that it must.
func TestAskReachesTheServer(t *testing.T) {
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		t.Run(version, func(t *testing.T) { asksTheServer(t, version, "positive") })
		t.Run(version+" without delegations", func(t *testing.T) {
			const file = "/sys/module/nfsv4/parameters/directory_delegations"
			if err := os.WriteFile(file, []byte("N"), 0); err == nil { // older kernels have none
				t.Cleanup(func() { _ = os.WriteFile(file, []byte("Y"), 0) })
			}
			asksTheServer(t, version, "all")
		})
	}
}

func asksTheServer(t *testing.T, version, lookupCache string) {
	_, server := mounted(t, "exports", version)
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
	must(t, s.look(d, "removed", &st))
	if err := s.look(d, "new", &st); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("what is not there yet: %v", err)
	}
	must(t, os.Remove(filepath.Join(server, "removed")))
	must(t, os.WriteFile(filepath.Join(server, "new"), nil, 0o644))
	if is, err := s.ask(d, "removed"); is != nil || err != nil {
		t.Errorf("what was removed is there: %v, %v", is, err)
	}
	if is, err := s.ask(d, "new"); is == nil || err != nil {
		t.Errorf("what is new is not there: %v, %v", is, err)
	}
}
