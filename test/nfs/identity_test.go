// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// withoutDisk lets no disk be mounted where the share is: what is exported is an empty directory. back
// mounts it again.
func (s *site) withoutDisk() (back func()) {
	s.t.Helper()
	rename(s.t, s.export, s.export+"-away")
	mkdir(s.t, s.export)
	return func() {
		s.t.Helper()
		if err := os.Remove(s.export); err != nil { // which fails where there is anything in it
			s.t.Fatal(err)
		}
		rename(s.t, s.export+"-away", s.export)
	}
}

// TestDiskNotMounted has a controller start while the disk of a share is not mounted on the server.
// Nothing is deleted, nothing is laid out; and when the disk is back, it goes on.
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
	eventually(t, patience, "the disk is noticed", func() bool { err = s.delete(v.VolumeId); return err == nil })
	if _, err := os.Stat(s.at("dir")); !os.IsNotExist(err) {
		t.Errorf("the volume is still there: %v", err)
	}
	s.mustDelete(v.VolumeId)
}

// TestPinnedShare has the registry say which share it is.
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
	eventually(t, patience, "the disk is noticed", func() bool { return s.delete(v.VolumeId) == nil })
	s.mustDelete("nas1/pvc-2")
}
