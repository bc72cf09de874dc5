// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"sigs.k8s.io/yaml"
)

// ran is the result of a run of mooringctl.
type ran struct {
	out, said string // stdout and stderr
	status    int
	took      time.Duration
	kilobytes int64 // VmHWM
}

// ctlCommand is mooringctl on the site's share.
func (s *site) ctlCommand(args ...string) *exec.Cmd {
	s.t.Helper()
	binary := os.Getenv("MOORINGCTL_BINARY")
	if binary == "" {
		s.t.Fatal("MOORINGCTL_BINARY does not say where the program is: run this by make")
	}
	config := filepath.Join(s.dir, "ctl.yaml")
	if err := os.WriteFile(config, []byte(s.config), 0o644); err != nil {
		s.t.Fatal(err)
	}
	// Ten thousand volumes may take minutes on a busy machine.
	return exec.CommandContext(within(s.t, 10*time.Minute), binary, append([]string{"--config", config}, args...)...)
}

func (s *site) mooringctl(args ...string) ran { return runCommand(s, s.ctlCommand(args...)) }

func runCommand(s *site, cmd *exec.Cmd) ran {
	s.t.Helper()
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var r ran
	ended := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		// Not ru_maxrss: in a child it begins with the parent's value at the fork.
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
				r.kilobytes = max(r.kilobytes, highWater(cmd.Process.Pid))
			}
		}
	})
	err := cmd.Wait()
	close(ended)
	looking.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	r.out, r.said, r.took, r.status = out.String(), said.String(), time.Since(start), cmd.ProcessState.ExitCode()
	return r
}

// highWater returns the maximum of a process's resident memory, in KiB; 0 if it has ended.
func highWater(pid int) (kilobytes int64) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, _ = fmt.Sscan(rest, &kilobytes)
	return kilobytes
}

// mustCtl runs mooringctl and wants it to succeed.
func (s *site) mustCtl(args ...string) ran {
	s.t.Helper()
	r := s.mooringctl(args...)
	if r.status != 0 {
		s.t.Fatalf("mooringctl %s ends with %d: %s", strings.Join(args, " "), r.status, r.said)
	}
	return r
}

// rows runs a command that lists and decodes what it prints.
func rows[T any](s *site, args ...string) []T {
	s.t.Helper()
	r := s.mustCtl(append(args, "-o", "json")...)
	var all []T
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		s.t.Fatalf("mooringctl %s prints %v: %s", strings.Join(args, " "), err, r.out)
	}
	return all
}

// everything returns a line for each file on the site's share, which differs when the file does.
func everything(s *site) []string {
	s.t.Helper()
	out, err := exec.Command("find", s.at(), "-printf", `%P %y %m %i %s %T@ %C@\n`).Output()
	if err != nil {
		s.t.Fatal(err)
	}
	all := strings.Split(string(out), "\n")
	slices.Sort(all)
	return all
}

// ctlMount is in a mount table that has a mount of mooringctl.
const ctlMount = " /mnt/nas1."

// mountedAnywhere lists the processes, in any namespace, that have a mount of mooringctl.
func mountedAnywhere(s *site) (pids []string) {
	tables, _ := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, table := range tables {
		data, _ := os.ReadFile(table)
		if strings.Contains(string(data), ctlMount) {
			pids = append(pids, table)
		}
	}
	return pids
}

type ctlRow struct {
	Handle, Entry, Directory, State, Kind, Name, Volume, OnDelete string
	Claim                                                         *volume.PVC
	CapacityBytes, SizeBytes, Bytes, Files                        int64
}

// TestCtlLists lists with mooringctl everything that a controller has made. It changes nothing and
// leaves nothing mounted.
func TestCtlLists(t *testing.T) {
	s := newSite(t, "trashRetention: 1h")
	before := everything(s)
	for _, list := range []string{"volumes", "snapshots", "trash list", "jobs", "usage", "orphans"} {
		if all := rows[ctlRow](s, strings.Fields(list)...); len(all) > 0 {
			t.Errorf("%s of an empty share: %+v", list, all)
		}
	}
	if after := everything(s); !slices.Equal(before, after) {
		t.Errorf("an empty share has become\n%s", strings.Join(after, "\n"))
	}

	s.mustCreate("pvc-1", "one", "onDelete", "retain")
	s.mustCreate("pvc-2", "teams/two")
	gone := s.mustCreate("pvc-3", "three")
	write(t, s.at("one", "data"), strings.Repeat("x", 5000))
	write(t, s.at("stray", "data"), "x")
	write(t, s.at("teams", "stray", "data"), "x")
	if _, err := snapshot(t, s.ctl, &csi.Volume{VolumeId: "nas1/pvc-1"}, "snap-1", time.Minute); err != nil {
		t.Fatal(err)
	}
	s.mustDelete(gone.VolumeId)
	if err := os.Remove(s.at("teams/two")); err != nil {
		t.Fatal(err)
	}
	write(t, s.at(".mooring/volumes/pvc-4/record.json"), "{")

	var volumes []ctlRow
	r := s.mooringctl("volumes", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &volumes); err != nil || r.status != 1 || len(volumes) != 3 || volumes[2].Handle != "nas1/pvc-4" || volumes[2].State != "unreadable" {
		t.Errorf("with a damaged record it lists %+v, and ends with %d, %v", volumes, r.status, err)
	}
	volumes = nil
	r = s.mooringctl("volumes", "-o", "json", "-n", "team")
	if err := json.Unmarshal([]byte(r.out), &volumes); err != nil || r.status != 1 || !strings.Contains(r.said, "pvc-4 cannot be believed") {
		t.Errorf("with a damaged record it ends with %d, %v: %s", r.status, err, r.said)
	}
	if len(volumes) != 2 || volumes[0].Handle != "nas1/pvc-1" || *volumes[0].Claim != (volume.PVC{Namespace: "team", Name: "claim-pvc-1"}) ||
		volumes[0].Directory != "one" || volumes[0].CapacityBytes != 1<<30 || volumes[0].OnDelete != "retain" || volumes[1].Directory != "teams/two" {
		t.Errorf("the volumes are %+v", volumes)
	}
	if err := os.RemoveAll(s.at(".mooring/volumes/pvc-4")); err != nil {
		t.Fatal(err)
	}
	before = everything(s)
	if all := rows[ctlRow](s, "volumes", "-n", "other"); len(all) > 0 {
		t.Errorf("of another namespace there are %+v", all)
	}
	if all := rows[ctlRow](s, "snapshots", "-n", "team"); len(all) != 1 || all[0].Handle != "nas1/snap-1" || all[0].Volume != "nas1/pvc-1" || all[0].SizeBytes != 5000 {
		t.Errorf("the snapshots are %+v", all)
	}
	if all := rows[ctlRow](s, "trash", "list"); len(all) != 1 || all[0].Handle != "nas1/pvc-3" || all[0].State != "whole" || all[0].Claim.Name != "claim-pvc-3" {
		t.Errorf("in the trash is %+v", all)
	}
	r = s.mooringctl("usage", "-n", "team", "--share", "nas1", "-o", "json")
	var all []ctlRow
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || r.status != 1 || !strings.Contains(r.said, "volume nas1/pvc-2") {
		t.Errorf("of a volume without its directory usage says %d, %s, %v", r.status, r.said, err)
	}
	if len(all) != 1 || all[0].Handle != "nas1/pvc-1" || all[0].Bytes != 5000 || all[0].Files != 1 {
		t.Errorf("the usage is %+v", all)
	}
	var orphans []string
	for _, o := range rows[ctlRow](s, "orphans") {
		orphans = append(orphans, o.Kind+" "+o.Name)
	}
	slices.Sort(orphans)
	if want := []string{"directory stray", "directory teams/stray", "record nas1/pvc-2"}; !slices.Equal(orphans, want) {
		t.Errorf("the orphans are %q, not %q", orphans, want)
	}
	if table := s.mustCtl("volumes", "-o", "wide").out; !strings.Contains(table, "nas1/pvc-1") || !strings.Contains(table, "1Gi") || !strings.Contains(table, "MAKER") {
		t.Errorf("the table is\n%s", table)
	}
	if after := everything(s); !slices.Equal(before, after) {
		t.Errorf("the share was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	if pids := mountedAnywhere(s); pids != nil {
		t.Errorf("it is still mounted: %q", pids)
	}
}

// TestCtlRestore restores a deleted volume by its handle. The manifest is equal to the PV of the creation,
// and the volume can be deleted again.
func TestCtlRestore(t *testing.T) {
	s := newSite(t, "trashRetention: 1h")
	v := s.mustCreate("pvc-1", "teams/one")
	write(t, s.at("teams/one/data"), "precious")
	s.mustDelete(v.VolumeId)
	s.mustCreate("pvc-2", "teams/one")

	r := s.mooringctl("trash", "restore", "nas1/pvc-1")
	if r.status != 1 || !strings.Contains(r.said, "that of volume pvc-2") || r.out != "" {
		t.Fatalf("to a place that is taken: %d, %s%s", r.status, r.out, r.said)
	}
	s.mustDelete("nas1/pvc-2")
	for range 2 {
		r = s.mustCtl("trash", "restore", "nas1/pvc-1")
		var pv struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
			Spec struct {
				Capacity map[string]string
				ClaimRef struct{ Namespace, Name string }
				CSI      struct {
					Driver, VolumeHandle string
					VolumeAttributes     map[string]string
				}
			}
		}
		var pvc struct {
			Metadata struct{ Namespace, Name string }
			Spec     struct{ VolumeName string }
		}
		documents := strings.Split(r.out, "---\n")
		if len(documents) != 3 {
			t.Fatalf("it prints %q", r.out)
		}
		if err := errors.Join(yaml.Unmarshal([]byte(documents[1]), &pv), yaml.Unmarshal([]byte(documents[2]), &pvc)); err != nil {
			t.Fatal(err)
		}
		context, _ := json.Marshal(v.VolumeContext)
		if got, _ := json.Marshal(pv.Spec.CSI.VolumeAttributes); !bytes.Equal(got, context) || pv.Spec.CSI.VolumeHandle != v.VolumeId || pv.Spec.Capacity["storage"] != "1Gi" {
			t.Errorf("the PersistentVolume is %+v", pv)
		}
		if pv.Metadata.Annotations["pv.kubernetes.io/provisioned-by"] != "nfs.csi.mooring.dev" || pv.Metadata.Name != "pvc-1" || pvc.Spec.VolumeName != "pvc-1" ||
			pvc.Metadata.Namespace != "team" || pvc.Metadata.Name != "claim-pvc-1" || pv.Spec.ClaimRef != pvc.Metadata {
			t.Errorf("of %+v the claim is %+v", pv, pvc)
		}
	}
	if data, err := os.ReadFile(s.at("teams/one/data")); string(data) != "precious" {
		t.Errorf("brought back is %q, %v", data, err)
	}
	if all := rows[ctlRow](s, "volumes"); len(all) != 1 || all[0].State != "ready" {
		t.Errorf("the volumes are %+v", all)
	}
	s.mustDelete(v.VolumeId)
	if all := rows[ctlRow](s, "trash", "list"); len(all) != 2 {
		t.Errorf("in the trash is %+v", all)
	}
}

// TestCtlPurge removes the given volumes from the trash, after a confirmation.
func TestCtlPurge(t *testing.T) {
	s := newSite(t, "trashRetention: 1h")
	for i := range 3 {
		v := s.mustCreate(fmt.Sprint("pvc-", i), "")
		s.mustDelete(v.VolumeId)
	}
	if r := s.mooringctl("trash", "purge", "--all"); r.status != 2 || !strings.Contains(r.said, "--yes") || len(inTrash(t, s)) != 6 {
		t.Errorf("no confirmation was requested: %d, %s; left is %q", r.status, r.said, inTrash(t, s))
	}
	if r := s.mooringctl("trash", "purge", "--yes", "nas1/pvc-1", "nas1/pvc-7"); r.status != 1 || !strings.Contains(r.said, "nas1/pvc-7 is not in the trash") || len(inTrash(t, s)) != 4 {
		t.Errorf("one of two: %d, %s; left is %q", r.status, r.said, inTrash(t, s))
	}
	s.mustCtl("trash", "purge", "--all", "--yes", "-n", "other")
	if len(inTrash(t, s)) != 4 {
		t.Errorf("another namespace's was purged; left is %q", inTrash(t, s))
	}
	if r := s.mustCtl("trash", "purge", "--all", "--yes"); strings.Count(r.out, "purged") != 2 || len(inTrash(t, s)) != 0 {
		t.Errorf("it says %s; left is %q", r.out, inTrash(t, s))
	}
}
