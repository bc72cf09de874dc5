// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestCtlMany lists ten thousand volumes and logs the duration. The memory that this needs, measured
// with a low GOMEMLIMIT, is not more than for two thousand.
func TestCtlMany(t *testing.T) {
	s := newSite(t)
	s.open()
	short := func() ran {
		t.Helper()
		cmd := s.ctlCommand("volumes")
		cmd.Env = append(os.Environ(), "GOMEMLIMIT=8MiB")
		return runCommand(s, cmd)
	}
	makeRecords(s, 0, 2000)
	few := short()
	makeRecords(s, 2000, 10_000)
	if r := short(); few.kilobytes == 0 || r.kilobytes > few.kilobytes+2500 || strings.Count(r.out, "nas1/pvc-") != 10_000 {
		t.Errorf("it takes %d KiB, and %d KiB for two thousand", r.kilobytes, few.kilobytes)
	} else {
		t.Logf("it needs %d KiB, and %d KiB for two thousand", r.kilobytes, few.kilobytes)
	}
	for _, args := range [][]string{{"volumes"}, {"volumes", "-o", "json"}, {"orphans"}, {"usage"}} {
		r := s.mustCtl(args...)
		if n := strings.Count(r.out, "nas1/pvc-"); n != 10_000 && args[0] != "orphans" {
			t.Errorf("%s lists %d", args, n)
		}
		t.Logf("%s: %v, %d MiB", args, r.took.Round(time.Millisecond), r.kilobytes>>10)
	}
	if out, err := exec.Command("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0.25ms").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() { _ = exec.Command("tc", "qdisc", "del", "dev", "lo", "root").Run() }()
	r := s.mustCtl("volumes")
	t.Logf("with 0.5 ms of round trip: %v", r.took.Round(time.Millisecond))
}

// makeRecords makes volumes on the server's disk as a controller does.
func makeRecords(s *site, from, to int) {
	s.t.Helper()
	for i := from; i < to; i++ {
		key := fmt.Sprintf("pvc-%08d-451a-4740-8fe7-e9604343876b", i)
		r := volume.Record{
			Key: key, Name: key, Directory: "team-claim-" + key, Capacity: 1 << 30, OnDelete: volume.Delete,
			PVC: &volume.PVC{Namespace: "team", Name: fmt.Sprint("claim-", i)}, Maker: "0a1b2c3d", Run: "4e5f6071", Nonce: fmt.Sprintf("%016x", i), Created: time.Now().UTC(),
		}
		data, err := r.Encode()
		entry, claim := s.at(".mooring/volumes", key), s.at(".mooring/claims", r.Directory)
		for _, dir := range []string{entry, claim, s.at(r.Directory)} {
			if err == nil {
				err = os.Mkdir(dir, 0o755)
			}
		}
		if err == nil {
			err = os.WriteFile(entry+"/record.json", data, 0o600)
		}
		if err == nil {
			err = os.Link(entry+"/record.json", claim+"/taken")
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}
