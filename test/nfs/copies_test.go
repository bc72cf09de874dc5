// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// snapshot asks a controller for a snapshot of a volume.
func snapshot(t *testing.T, d *lab.Driver, v *csi.Volume, name string, timeout time.Duration) (*csi.Snapshot, error) {
	t.Helper()
	r, err := d.Controller.CreateSnapshot(within(t, timeout), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v.GetVolumeId()})
	return r.GetSnapshot(), err
}

// mustSnapshot repeats the call while the copy is in progress or belongs to another controller, and
// while the server is unavailable.
func mustSnapshot(t *testing.T, d *lab.Driver, v *csi.Volume, name string) *csi.Snapshot {
	t.Helper()
	for deadline := time.Now().Add(2 * waitTimeout); ; time.Sleep(200 * time.Millisecond) {
		s, err := snapshot(t, d, v, name, time.Minute)
		switch status.Code(err) {
		case codes.OK:
			return s
		case codes.Aborted, codes.DeadlineExceeded, codes.Unavailable:
			if time.Now().Before(deadline) {
				continue
			}
		}
		t.Fatalf("snapshot %s: %v", name, err)
	}
}

// expectInProgress calls with a short timeout until the answer says, in these words, that the copy takes longer.
// On a busy machine the time may be over before the answer arrives.
func expectInProgress(t *testing.T, call func(timeout time.Duration) error, words ...string) {
	t.Helper()
	var err error
	eventually(t, waitTimeout, "a call reports that the copy goes on", func() bool {
		err = call(5 * time.Second)
		return status.Code(err) != codes.DeadlineExceeded || strings.Contains(err.Error(), words[0])
	})
	wantCode(t, err, codes.DeadlineExceeded, words...)
}

func snapshots(t *testing.T, d *lab.Driver) (ids []string) {
	t.Helper()
	r, err := d.Controller.ListSnapshots(soon(t), &csi.ListSnapshotsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range r.Entries {
		ids = append(ids, e.Snapshot.SnapshotId)
	}
	return ids
}

func deleteSnapshot(t *testing.T, d *lab.Driver, id string) error {
	t.Helper()
	_, err := d.Controller.DeleteSnapshot(soon(t), &csi.DeleteSnapshotRequest{SnapshotId: id})
	return err
}

// withSource adds a snapshot or another volume as the source to a request.
func withSource(r *csi.CreateVolumeRequest, kind, id string) *csi.CreateVolumeRequest {
	if kind == "snapshot" {
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
	} else {
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
	}
	return r
}

// sameTree compares two trees on the server.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	if d := differences(tree(t, want), tree(t, got)); d != nil {
		t.Errorf("%s is not as %s:\n%s", got, want, strings.Join(d, "\n"))
	}
}

// manyFiles fills a volume, on the server, with so many files that a single worker takes long.
func manyFiles(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprint("d", i%20))
		if i < 20 {
			mkdir(t, sub)
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint("file-", i)), fmt.Append(nil, "content of ", i), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// distant puts the server 10 ms away until near is called: a copy of many files then begins within
// seconds, and takes 80 ms or more for each file that one worker copies. When the server is near again
// everything is copied once more: with too many files a slow machine would not finish that in time.
func distant(t *testing.T) (near func()) {
	t.Helper()
	netem := func(args ...string) {
		if out, err := exec.Command("tc", append([]string{"qdisc"}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("tc qdisc %q: %v: %s", args, err, out)
		}
	}
	netem("add", "dev", "lo", "root", "netem", "delay", "5ms")
	near = sync.OnceFunc(func() { netem("del", "dev", "lo", "root") })
	t.Cleanup(near)
	return near
}

func inState(s *site, dir string) []string {
	entries, _ := os.ReadDir(s.at(".mooring", dir))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// unfinished lists the volumes and snapshots that are being made.
func unfinished(s *site) []string {
	names, _ := filepath.Glob(s.at(".mooring/*/*/making.json"))
	placing, _ := filepath.Glob(s.at(".mooring/*/*/placing.json"))
	return append(names, placing...)
}

// TestLifeOfSnapshots takes a snapshot, spoils the volume, restores and clones, by each version.
func TestLifeOfSnapshots(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			v := s.mustCreate("pvc-1", "one")
			s.open()
			manyFiles(t, s.at("one"), 60)
			symlink(t, "/etc/shadow", s.at("one/link"))
			if err := errors.Join(os.Link(s.at("one/d1/file-1"), s.at("one/hard")), os.Chown(s.at("one/d2/file-2"), 1234, 5678), os.Chmod(s.at("one"), 0o2750)); err != nil {
				t.Fatal(err)
			}
			before := tree(t, s.at("one"))
			first := mustSnapshot(t, s.ctl, v, "snap-1")
			if again := mustSnapshot(t, s.ctl, v, "snap-1"); again.String() != first.String() || !first.ReadyToUse || first.SizeBytes <= 0 {
				t.Errorf("the second answer is %v, the first %v", again, first)
			}
			if err := errors.Join(os.RemoveAll(s.at("one/d1")), os.WriteFile(s.at("one/d2/file-2"), []byte("spoilt"), 0o644)); err != nil {
				t.Fatal(err)
			}
			for name, r := range map[string]*csi.CreateVolumeRequest{
				"two":   withSource(request("pvc-2", params{"subDir": "two"}), "snapshot", first.SnapshotId),
				"three": withSource(request("pvc-3", params{"subDir": "three"}), "volume", v.VolumeId),
			} {
				got, err := s.controller().CreateVolume(soon(t), r)
				if err != nil {
					t.Fatal(err)
				}
				if got.Volume.ContentSource.String() != r.VolumeContentSource.String() {
					t.Errorf("%s is said to be from %v", name, got.Volume.ContentSource)
				}
				if name == "two" {
					if d := differences(before, tree(t, s.at("two"))); d != nil {
						t.Errorf("the restored volume is another:\n%s", strings.Join(d, "\n"))
					}
				} else {
					sameTree(t, s.at("one"), s.at("three"))
				}
			}
			s.mustDelete(v.VolumeId) // the snapshot remains
			if ids := snapshots(t, s.ctl); len(ids) != 1 || ids[0] != first.SnapshotId {
				t.Errorf("the snapshots are %v", ids)
			}
			if err := deleteSnapshot(t, s.ctl, first.SnapshotId); err != nil {
				t.Error(err)
			}
			s.mustDelete("nas1/pvc-2", "nas1/pvc-3")
			s.empty()
		})
	}
}

// TestCopyOutlivesItsController kills a controller in the middle of a copy. Another one does not touch
// the copy during the lease; the same one starts it again by itself.
func TestCopyOutlivesItsController(t *testing.T) {
	s := newSite(t)
	s.ctl = s.start("controller", "controller", "--copy-workers=1")
	v := s.mustCreate("pvc-1", "one")
	manyFiles(t, s.at("one"), 1200)
	near := distant(t)
	expectInProgress(t, func(timeout time.Duration) error {
		_, err := snapshot(t, s.ctl, v, "snap-1", timeout)
		return err
	}, "snapshot snap-1", "files", "it goes on")
	wantCode(t, s.delete(v.VolumeId), codes.Aborted, "pvc-1", "copied", "snap-1")
	if ids := snapshots(t, s.ctl); ids != nil {
		t.Errorf("there are %v before one is whole", ids)
	}
	other := s.start("controller", "other") // before the kill, so that it asks during the lease
	if ids := snapshots(t, other); ids != nil {
		t.Errorf("there are %v before one is whole", ids)
	}
	s.kill(s.ctl)
	near()
	if making, jobs := unfinished(s), inState(s, "jobs"); len(making) != 1 || len(jobs) != 1 {
		t.Fatalf("the dead one has left %v and %v", making, jobs)
	}
	if r := s.mustCtl("__complete", "jobs", ""); !strings.HasPrefix(r.out, "nas1/snap-1\tsnapshot from ") {
		t.Errorf("the job is completed as %q", r.out)
	}
	_, err := snapshot(t, other, v, "snap-1", time.Minute)
	wantCode(t, err, codes.Aborted, "snapshot snap-1 is still being made")
	s.ctl = s.start("controller", "controller")
	eventually(t, waitTimeout, "the copy is begun again", func() bool { return len(snapshots(t, s.ctl)) == 1 })
	sameTree(t, s.at("one"), s.at(".mooring/snapshots/snap-1/data"))
	for _, d := range []*lab.Driver{s.ctl, other} {
		if got := mustSnapshot(t, d, v, "snap-1"); got.SnapshotId != "nas1/snap-1" {
			t.Errorf("the snapshot is %v", got)
		}
	}
	if making, jobs := unfinished(s), inState(s, "jobs"); making != nil || jobs != nil {
		t.Errorf("left are %v and %v", making, jobs)
	}
}

// TestCopyIsTakenOver checks that another controller continues after the lease.
func TestCopyIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.start("controller", "first", "--copy-workers=1")
	s.ctl = first
	v := s.mustCreate("pvc-1", "one")
	manyFiles(t, s.at("one"), 1200)
	r := withSource(request("pvc-2", params{"subDir": "two"}), "volume", v.VolumeId)
	near := distant(t)
	expectInProgress(t, func(timeout time.Duration) error {
		_, err := first.Controller.CreateVolume(within(t, timeout), r)
		return err
	}, "volume pvc-2")
	start := time.Now()
	s.kill(first)
	near()
	for _, m := range mountsIn(t, s.dir) { // those of the dead one remain otherwise
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	s.ctl = s.start("controller", "second")
	eventually(t, waitTimeout, "the clone is made by the second", func() bool {
		_, err := s.ctl.Controller.CreateVolume(soon(t), r)
		if err != nil && status.Code(err) != codes.Aborted {
			t.Fatal(err)
		}
		return err == nil
	})
	if took := time.Since(start); took < 15*time.Second {
		t.Errorf("the first had only %v of its lease", took)
	}
	sameTree(t, s.at("one"), s.at("two"))
	s.mustDelete("nas1/pvc-1", "nas1/pvc-2")
	s.empty()
}

// TestCopyAndItsServer stops the server, or cuts it off, in the middle of a copy.
func TestCopyAndItsServer(t *testing.T) {
	for stop, start := range map[string]string{"stop": "start", "cut": "heal"} {
		t.Run(stop, func(t *testing.T) {
			s := newSite(t)
			s.ctl = s.start("controller", "controller", "--copy-workers=1")
			v := s.mustCreate("pvc-1", "one")
			manyFiles(t, s.at("one"), 1500)
			near := distant(t)
			expectInProgress(t, func(timeout time.Duration) error {
				_, err := snapshot(t, s.ctl, v, "snap-1", timeout)
				return err
			}, "it goes on")
			over := outage(t, stop, start)
			near()
			time.Sleep(3 * time.Second) // the length of the outage; the copy has no progress to wait for
			over()
			mustSnapshot(t, s.ctl, v, "snap-1")
			sameTree(t, s.at("one"), s.at(".mooring/snapshots/snap-1/data"))
			eventually(t, waitTimeout, "nothing is left of the copy", func() bool { return inState(s, "jobs") == nil && unfinished(s) == nil })
		})
	}
}

// TestCopyWithoutSpace fills the server's disk, or its quota, in the middle of a copy. The copy leaves
// nothing, and the next try succeeds when there is space.
func TestCopyWithoutSpace(t *testing.T) {
	for _, c := range []struct {
		name string
		site func(t *testing.T) *site
		more func(t *testing.T, s *site)
	}{
		{"disk", func(t *testing.T) *site {
			s := exported(t, "small", 0o755)
			t.Cleanup(func() { _ = os.RemoveAll(s.export) })
			// With 4.2 nfsd copies, and keeps the space of a failed copy for a while.
			s.config += "    mountOptions: [nfsvers=4.1]\n"
			s.open()
			return s
		}, func(t *testing.T, s *site) {
			if err := os.Remove(s.at("one/ballast")); err != nil {
				t.Fatal(err)
			}
		}},
		{"quota", func(t *testing.T) *site {
			s := newSite(t, "mountOptions: [nfsvers=4.1]") // copies by read and write
			s.open()
			quota(t, s, "project -s -p "+s.export+" 4711", "limit -p bhard=60m 4711")
			return s
		}, func(t *testing.T, s *site) { quota(t, s, "limit -p bhard=200m 4711") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.site(t)
			v := s.mustCreate("pvc-1", "one")
			for _, name := range []string{"data", "ballast"} {
				if err := os.WriteFile(s.at("one", name), bytes.Repeat([]byte("mooring!"), 19<<17), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := snapshot(t, s.ctl, v, "snap-1", time.Minute)
			wantCode(t, err, codes.ResourceExhausted, "pvc-1", "space")
			if ids := snapshots(t, s.ctl); ids != nil {
				t.Errorf("there is %v", ids)
			}
			_, err = s.controller().CreateVolume(soon(t), withSource(request("pvc-2", params{"subDir": "two"}), "volume", v.VolumeId))
			wantCode(t, err, codes.ResourceExhausted, "space") // the rest of the first may still take it
			if left := append(unfinished(s), inState(s, "jobs")...); left != nil || holds(tree(t, s.export), "two") {
				t.Errorf("left are %v", left)
			}
			c.more(t, s)
			eventually(t, waitTimeout, "the trash is empty", func() bool { return inState(s, "trash") == nil })
			mustSnapshot(t, s.ctl, v, "snap-1")
			sameTree(t, s.at("one"), s.at(".mooring/snapshots/snap-1/data"))
		})
	}
}

func quota(t *testing.T, s *site, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if out, err := exec.Command("xfs_quota", "-x", "-c", command, lab.Exports).CombinedOutput(); err != nil {
			t.Fatalf("xfs_quota: %v: %s", err, out)
		}
	}
}

// TestShallow restores a snapshot without a copy.
func TestShallow(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "one")
	manyFiles(t, s.at("one"), 100)
	snap := mustSnapshot(t, s.ctl, v, "snap-1")
	r := withSource(request("pvc-2", params{"restore": "shallow"}), "snapshot", snap.SnapshotId)
	r.VolumeCapabilities = []*csi.VolumeCapability{lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)}
	made, err := s.controller().CreateVolume(soon(t), r)
	if err != nil {
		t.Fatal(err)
	}
	a := s.seat(s.start("node", "node", "--node-id", "node"), made.Volume)
	a.must(a.hold())
	a.must(a.publish("pod", false))
	sameTree(t, s.at("one"), a.target("pod"))
	if err := os.WriteFile(a.target("pod/new"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing into a snapshot: %v", err)
	}
	wantCode(t, deleteSnapshot(t, s.ctl, snap.SnapshotId), codes.FailedPrecondition, "pvc-2", "snap-1")
	valid, err := s.controller().ValidateVolumeCapabilities(soon(t), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: made.Volume.VolumeId, VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()}})
	if err != nil || valid.Confirmed != nil {
		t.Errorf("that it can be written to: %v, %v", valid, err)
	}
	writable, err := s.controller().CreateVolume(soon(t), withSource(request("pvc-3", params{"restore": "shallow", "subDir": "three"}), "snapshot", snap.SnapshotId))
	if err != nil || writable.Volume.VolumeContext["subDir"] != "three" {
		t.Fatalf("for writers: %v, %v", writable, err)
	}
	sameTree(t, s.at("one"), s.at("three"))
	a.leave("pod")
	s.mustDelete(made.Volume.VolumeId)
	if err := deleteSnapshot(t, s.ctl, snap.SnapshotId); err != nil {
		t.Error(err)
	}
	s.mustDelete(v.VolumeId, "nas1/pvc-3")
	s.empty()
}

// TestAcrossShares restores and clones to another share.
func TestAcrossShares(t *testing.T) {
	s := newSite(t)
	second := s.add("second", lab.Exports, lab.Exports)
	v := s.mustCreate("pvc-1", "one")
	manyFiles(t, s.at("one"), 100)
	snap := mustSnapshot(t, s.ctl, v, "snap-1")
	for name, r := range map[string]*csi.CreateVolumeRequest{
		"two":   withSource(request("pvc-2", params{"share": "second", "subDir": "two"}), "snapshot", snap.SnapshotId),
		"three": withSource(request("pvc-3", params{"share": "second", "subDir": "three"}), "volume", v.VolumeId),
	} {
		if _, err := s.controller().CreateVolume(soon(t), r); err != nil {
			t.Fatal(err)
		}
		sameTree(t, s.at("one"), filepath.Join(second, name))
	}
	if jobs := inState(s, "jobs"); jobs != nil {
		t.Errorf("left are the holds %v", jobs)
	}
}
