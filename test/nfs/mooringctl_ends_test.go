// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

// TestCtlKilled kills mooringctl while it has the share mounted.
func TestCtlKilled(t *testing.T) {
	s := newSite(t)
	s.mustCreate("pvc-1", "one")
	cmd := s.ctlCommand("volumes", "--watch")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	if mountedAnywhere(s) == nil {
		t.Error("it has nothing mounted")
	}
	if here, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(here), ctlMount) {
		t.Errorf("its mounts are seen here (%v)", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, waitTimeout, "nothing of it is mounted", func() bool { return mountedAnywhere(s) == nil })
}

// TestCtlDead cuts the server off: before mooringctl starts, and while it works.
func TestCtlDead(t *testing.T) {
	s := newSite(t)
	s.mustCreate("pvc-1", "one")
	cmd := s.ctlCommand("volumes", "--watch")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := lab.Do("cut"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Do("heal"); err != nil {
			t.Error(err)
		}
	})
	for _, args := range [][]string{{"volumes"}, {"usage"}, {"orphans"}, {"trash", "list"}, {"trash", "restore", "nas1/pvc-1"}, {"trash", "purge", "--all", "--yes"}} {
		r := s.mooringctl(args...)
		if r.status != 1 || !strings.Contains(r.said, "nas1") || !strings.Contains(r.said, "does not answer") || r.took > prompt {
			t.Errorf("%s: after %v it ends with %d: %s", args, r.took, r.status, r.said)
		}
	}
	start := time.Now()
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	if took := time.Since(start); took > prompt || !strings.Contains(said.String(), "does not answer") {
		t.Errorf("it ended %v after it was told to, and said %q", took, said.String())
	}
}

// TestCtlGiven uses shares that are already mounted, without the right to mount.
func TestCtlGiven(t *testing.T) {
	s := newSite(t)
	s.mustCreate("pvc-1", "one")
	dir := localDir(t)
	at := filepath.Join(dir, "nas1")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	unprivileged := func(args ...string) ran {
		cmd := s.ctlCommand(args...)
		cmd.Args = append([]string{"setpriv", "--bounding-set", "-sys_admin"}, cmd.Args...)
		path, err := exec.LookPath("setpriv")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path = path
		return runCommand(s, cmd)
	}
	if r := unprivileged("volumes"); r.status != 1 || !strings.Contains(r.said, "CAP_SYS_ADMIN") || !strings.Contains(r.said, "--shares-dir") {
		t.Errorf("without the right to mount it ends with %d, %s", r.status, r.said)
	}
	if r := unprivileged("volumes", "--shares-dir", dir); r.status != 1 || !strings.Contains(r.said, "nothing is mounted at "+at) {
		t.Errorf("where nothing is mounted: %d, %s", r.status, r.said)
	}
	s.mount(at, "nfsvers=4.2,softerr,timeo=50,retrans=2")
	if r := unprivileged("volumes", "--shares-dir", dir); r.status != 0 || !strings.Contains(r.out, "nas1/pvc-1") {
		t.Errorf("where it is mounted: %d, %s%s", r.status, r.out, r.said)
	}
	if len(mountsIn(t, dir)) != 1 {
		t.Error("it has unmounted what is not its own")
	}
}

// TestCtlHealth checks the health of a share, and describes a volume before and after its deletion.
func TestCtlHealth(t *testing.T) {
	s := newSite(t, "trashRetention: 1h")
	type health struct {
		Share, NFSVersion   string
		Reachable, Writable bool
		FreeBytes           int64
	}
	if all := rows[health](s, "health"); len(all) != 1 || !all[0].Reachable || !all[0].Writable || all[0].NFSVersion == "" || all[0].FreeBytes == 0 {
		t.Errorf("the health of the share is %+v", all)
	}
	if table := s.mustCtl("health").out; len(strings.Fields(table)) < 4 || strings.Count(table, " yes ") != 2 {
		t.Errorf("the table of the healthy share is\n%s", table)
	}
	v := s.mustCreate("pvc-1", "one")
	if _, err := snapshot(t, s.ctl, v, "snap-1", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"nas1/pvc-1", "pvc-1", "team/claim-pvc-1"} {
		if r := s.mustCtl("describe", ref); !strings.Contains(r.out, "nas1/snap-1") || !strings.Contains(r.out, "exists, claimed by this volume") {
			t.Errorf("%s is described as\n%s", ref, r.out)
		}
	}
	if r := s.mustCtl("__complete", "describe", "team/"); !strings.Contains(r.out, "team/claim-pvc-1\t") {
		t.Errorf("a claim is completed as %q", r.out)
	}
	s.mustDelete(v.VolumeId)
	entry := rows[ctlRow](s, "trash", "list")[0].Entry
	for _, command := range []string{"restore", "purge"} {
		if r := s.mustCtl("__complete", "trash", command, ""); !strings.HasPrefix(r.out, entry+"\tteam/claim-pvc-1\n") {
			t.Errorf("trash %s completes as %q", command, r.out)
		}
	}
	if r := s.mustCtl("describe", "team/claim-pvc-1"); !strings.Contains(r.out, "mooringctl trash restore nas1/pvc-1.") {
		t.Errorf("the deleted volume is described as\n%s", r.out)
	}
	if r := s.mooringctl("describe", "team/claim-pvc-2"); r.status != 1 || !strings.Contains(r.said, "there is no volume") {
		t.Errorf("an unknown claim: status %d: %s", r.status, r.said)
	}
	if all := rows[health](s, "health"); len(all) != 1 || !all[0].Writable {
		t.Errorf("the health of a share with volumes is %+v", all)
	}
	r := s.mooringctl("volumes", "--share", "nas9")
	if r.status != 2 || strings.Count(r.said, "\n") != 1 || !strings.Contains(r.said, "nas1") {
		t.Errorf("an unknown share: status %d: %s", r.status, r.said)
	}
}
