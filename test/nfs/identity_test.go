// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/admin"
	"google.golang.org/grpc/codes"
)

// withoutDisk unmounts the share's disk on the server, which then exports an empty directory. back mounts
// it again.
func (s *site) withoutDisk() (back func()) {
	s.t.Helper()
	rename(s.t, s.export, s.export+"-away")
	mkdir(s.t, s.export)
	return func() {
		s.t.Helper()
		if err := os.Remove(s.export); err != nil { // fails if it is not empty
			s.t.Fatal(err)
		}
		rename(s.t, s.export+"-away", s.export)
	}
}

// TestDiskNotMounted starts a controller while the disk of a share is not mounted on the server. The
// controller deletes and initializes nothing, and continues when the disk is back.
func TestDiskNotMounted(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "dir")
	s.kill(s.ctl)
	s.ctl = nil
	back := s.withoutDisk()
	says := []string{"share nas1 (127.0.0.1:" + s.path + ")", "nothing of Mooring's is on the export", "mounted on the server", "mooringctl share forget nas1"}
	for range 2 {
		wantCode(t, s.delete(v.VolumeId), codes.FailedPrecondition, says...)
	}
	_, err := s.controller().DeleteSnapshot(soon(t), &csi.DeleteSnapshotRequest{SnapshotId: "nas1/snap-1"})
	wantCode(t, err, codes.FailedPrecondition, says...)
	_, err = s.controller().ControllerExpandVolume(soon(t), &csi.ControllerExpandVolumeRequest{VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 31}})
	wantCode(t, err, codes.FailedPrecondition, says...)
	if ids, _ := listVolumes(s, "", 0); len(ids) > 0 {
		t.Errorf("the list is %q", ids)
	}
	if names, err := os.ReadDir(s.export); err != nil || len(names) > 0 {
		t.Errorf("on the export are %v, %v", names, err)
	}
	back()
	eventually(t, waitTimeout, "the disk is noticed", func() bool { err = s.delete(v.VolumeId); return err == nil })
	if _, err := os.Stat(s.at("dir")); !os.IsNotExist(err) {
		t.Errorf("the volume is still there: %v", err)
	}
	s.mustDelete(v.VolumeId)
}

// TestPinnedShare uses a registry that has the share's id.
func TestPinnedShare(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "dir")
	format, err := os.ReadFile(s.at(".mooring/format.json"))
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`[0-9a-f-]{36}`).FindString(string(format))
	if log := s.ctl.Log(); id == "" || !strings.Contains(log, "Share laid out") || !strings.Contains(log, id) {
		t.Errorf("of the id %q the log says\n%s", id, log)
	}
	s.config = strings.Replace(s.config, "    path: "+s.path+"\n", "    path: "+s.path+"\n    id: "+id+"\n", 1)
	s.restart()
	s.mustCreate("pvc-2", "other")
	s.kill(s.ctl)
	s.ctl = nil
	back := s.withoutDisk()
	_, err = s.create("pvc-3", nil)
	wantCode(t, err, codes.FailedPrecondition, "it has the id "+id, "nothing of Mooring's")
	wantCode(t, s.delete(v.VolumeId), codes.FailedPrecondition, "it has the id "+id)
	back()
	eventually(t, waitTimeout, "the disk is noticed", func() bool { return s.delete(v.VolumeId) == nil })
	s.mustDelete("nas1/pvc-2")
}

// shareOf returns the site's share as mooringctl lists it.
func shareOf(s *site, state string) admin.Share {
	s.t.Helper()
	all := rows[admin.Share](s, "shares")
	if len(all) != 1 || all[0].Name != "nas1" || all[0].State != state || (all[0].ID == "") != (state == "not laid out") {
		s.t.Fatalf("the shares are %+v", all)
	}
	return all[0]
}

// TestMovedShare moves a share as docs/operate.md says, restores it from a backup, and gives the copy an
// id of its own.
func TestMovedShare(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "dir")
	write(t, s.at("dir/file"), "kept")
	id := shareOf(s, "laid out").ID
	s.kill(s.ctl)
	copied := s.export + "-copy"
	if out, err := exec.Command("cp", "-a", s.export, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	s.config = strings.Replace(s.config, "    path: "+s.path+"\n", "    path: "+s.path+"-copy\n    id: "+id+"\n", 1)
	s.ctl = s.start("controller", "controller")
	if moved := shareOf(s, "laid out"); moved.ID != id || moved.Expected != id {
		t.Errorf("the copy is %+v", moved)
	}
	if r := s.mustCtl("check"); r.out != "" {
		t.Errorf("a check of the copy finds %s", r.out)
	}
	if file, err := os.ReadFile(copied + "/dir/file"); err != nil || string(file) != "kept" {
		t.Errorf("in the copy is %q, %v", file, err)
	}
	s.mustDelete(v.VolumeId)
	s.mustCreate("pvc-2", "other")

	r := s.mustCtl("share", "reidentify", "nas1")
	if !strings.Contains(r.out, "and had "+id) || !strings.Contains(r.said, "set it to the new one") {
		t.Errorf("it says %q, %q", r.out, r.said)
	}
	renewed := shareOf(s, "another")
	s.kill(s.ctl)
	s.ctl = s.start("controller", "controller")
	wantCode(t, s.delete("nas1/pvc-2"), codes.FailedPrecondition, "it has the id "+id, "the share "+renewed.ID, "set its id")
	s.kill(s.ctl)
	s.config = strings.Replace(s.config, id, renewed.ID, 1)
	s.ctl = s.start("controller", "controller")
	s.mustDelete("nas1/pvc-2")
}

// TestForgottenShare forgets the content of a share that was emptied.
func TestForgottenShare(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "dir")
	if r := s.mooringctl("share", "forget", "--yes", "nas1"); r.status == 0 || !strings.Contains(r.said, "nothing was changed") {
		t.Errorf("a share in use: %d, %s", r.status, r.said)
	}
	id := shareOf(s, "laid out").ID
	s.kill(s.ctl)
	if err := os.RemoveAll(s.at("dir")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.at(".mooring")); err != nil {
		t.Fatal(err)
	}
	s.ctl = s.start("controller", "controller")
	wantCode(t, s.delete(v.VolumeId), codes.FailedPrecondition, "mooringctl share forget nas1")
	shareOf(s, "not laid out")
	if r := s.mooringctl("share", "forget", "nas1"); r.status == 0 || !strings.Contains(r.said, "--yes") {
		t.Errorf("no confirmation is requested: %d, %s", r.status, r.said)
	}
	shareOf(s, "not laid out")
	if r := s.mustCtl("share", "forget", "--yes", "nas1"); !strings.Contains(r.said, "after a restart") {
		t.Errorf("it says %q", r.said)
	}
	if now := shareOf(s, "laid out"); now.ID == id {
		t.Errorf("it is %s again", id)
	}
	eventually(t, waitTimeout, "that it is laid out is noticed", func() bool { return s.delete(v.VolumeId) == nil })
	s.mustCreate("pvc-2", "dir")
	s.mustDelete("nas1/pvc-2")
}
