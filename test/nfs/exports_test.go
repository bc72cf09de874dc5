// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// exported returns a site on one of the lab's other exports, in a directory of the test.
func exported(t *testing.T, name string, mode os.FileMode) *site {
	t.Helper()
	if name != "squash" {
		if err := lab.Do("export", name); err != nil {
			t.Fatal(err)
		}
	}
	dir := strings.ReplaceAll(t.Name(), "/", "-")
	export := filepath.Join("/run/export", name, dir)
	mkdir(t, export)
	if err := os.Chmod(export, mode); err != nil {
		t.Fatal(err)
	}
	return newSiteAt(t, "/"+name+"/"+dir, export)
}

// TestReadOnlyExport uses a read-only share that was writable before, and one that never was.
func TestReadOnlyExport(t *testing.T) {
	s := exported(t, "readonly", 0o755)
	says := []string{"share nas1 (127.0.0.1:" + s.path + ")", "the share is read-only on the server", "export it rw"}
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-1", nil)
		wantCode(t, err, codes.PermissionDenied, says...)
		wantCode(t, s.delete("nas1/pvc-1"), codes.FailedPrecondition, says[0], "nothing of Mooring's is on the export")
	})

	writable := newSite(t)
	v := writable.mustCreate("pvc-1", "dir")
	write(t, writable.at("dir/data"), "there")
	if err := os.CopyFS(s.at("was"), os.DirFS(writable.export)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.at("was/.mooring"), 0o700); err != nil { // CopyFS does not copy modes
		t.Fatal(err)
	}
	was := newSiteAt(t, s.path+"/was", s.at("was"))
	says[0] = "share nas1 (127.0.0.1:" + was.path + ")"
	unchanged(t, was.export, func() {
		if r, err := was.controller().ControllerGetVolume(soon(t), &csi.ControllerGetVolumeRequest{VolumeId: v.VolumeId}); err != nil || r.Volume.VolumeContext["subDir"] != "dir" {
			t.Errorf("the volume cannot be seen: %v (%v)", r, err)
		}
		_, err := was.create("pvc-2", nil)
		wantCode(t, err, codes.PermissionDenied, says...)
		wantCode(t, was.delete(v.VolumeId), codes.PermissionDenied, says...)
		_, err = was.controller().ControllerExpandVolume(soon(t), &csi.ControllerExpandVolumeRequest{
			VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30},
		})
		wantCode(t, err, codes.PermissionDenied, says...)
	})
	a := was.held(was.start("node", "node"), v)
	a.must(a.publish("pod", true))
	if data, err := os.ReadFile(a.target("pod/data")); string(data) != "there" {
		t.Errorf("the pod reads %q (%v)", data, err)
	}
	a.leave("pod")
}

// TestClosedExport uses a share on which root may not write.
func TestClosedExport(t *testing.T) {
	s := exported(t, "closed", 0o755)
	unchanged(t, s.export, func() {
		_, err := s.create("pvc-1", nil)
		wantCode(t, err, codes.PermissionDenied, "share nas1 (127.0.0.1:"+s.path+")", "root_squash", "no_root_squash")
		wantCode(t, s.delete("nas1/pvc-1"), codes.FailedPrecondition, "share nas1", "nothing of Mooring's is on the export")
	})
}

// TestSquashedExport uses a share on which root is mapped to nobody, which may write.
func TestSquashedExport(t *testing.T) {
	s := exported(t, "squash", os.ModeSticky|0o777)
	s.mustCreate("pvc-0", "") // initializes the share, as nobody
	s.mustDelete("nas1/pvc-0")
	s.empty()
	for _, p := range []params{{"uid": "1000"}, {"gid": "1000"}, {"uid": "0"}, {"uid": "1000", "gid": "1000", "mountPermissions": "0770", "subDir": "a/b/c"}} {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			unchanged(t, s.export, func() {
				_, err := s.create("pvc-1", p)
				wantCode(t, err, codes.PermissionDenied, "share nas1 (127.0.0.1:"+s.path+")", "pvc-1", "set its owner to", "root_squash", "anonuid")
			})
		})
	}
	for _, p := range []params{{}, {"mountPermissions": "0777"}, {"mountPermissions": "2770", "subDir": "a/b/c"}, {"uid": "65534", "gid": "65534"}} {
		t.Run(fmt.Sprint(p), func(t *testing.T) {
			v, err := s.create("pvc-1", p)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.at(v.VolumeContext["subDir"]))
			if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
				t.Errorf("the directory is %v (%v)", info, err)
			}
			a := s.held(s.start("node", "node-"+fmt.Sprint(len(p), p["uid"], p["subDir"] != "")), v)
			a.must(a.publish("pod", false))
			a.must(os.WriteFile(a.target("pod/data"), []byte("data"), 0o600))
			a.leave("pod")
			s.mustDelete(v.VolumeId)
			s.empty()
		})
	}
}

// TestClosedToRoot uses a directory that a pod may read, and root, which is squashed, may not.
func TestClosedToRoot(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := exported(t, "squash", os.ModeSticky|0o777)
			mkdir(t, s.at("data"))
			if err := errors.Join(os.Chown(s.at("data"), 1000, 1000), os.Chmod(s.at("data"), 0o700)); err != nil {
				t.Fatal(err)
			}
			node := s.start("node", "node")
			var seats []*seat
			for range 2 { // the second time the kernel may have the directory in its cache
				a := s.seat(node, static("data", "share", "nas1", "subDir", "data"), "nfsvers="+version)
				a.volume.VolumeId += fmt.Sprint(len(seats))
				a.must(a.hold())
				a.must(errors.Join(os.Chmod(a.dir, 0o755), os.Chmod(filepath.Dir(s.dir), 0o755)))
				as := exec.Command("sh", "-c", "echo more >>"+a.target(holder)+"/file")
				as.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
				if out, err := as.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				seats = append(seats, a)
			}
			if a, b := seats[0].mount(seats[0].target(holder)), seats[1].mount(seats[1].target(holder)); a.Minor != b.Minor {
				t.Errorf("they do not share a superblock: %v and %v", a, b)
			}
			for _, a := range seats {
				a.leave()
			}
		})
	}
}

// small returns a site on the small export, which no other test uses meanwhile.
func small(t *testing.T) *site {
	t.Helper()
	s := exported(t, "small", 0o755)
	t.Cleanup(func() { _ = os.RemoveAll(s.export) })
	s.open()
	return s
}

// TestFullShare uses up one resource of the server, and frees a little at a time until it is enough for a
// volume with two parents: each refusal may come at another step, and leaves nothing behind. Existing
// volumes can be deleted, which is the remedy, even when nothing is free.
func TestFullShare(t *testing.T) {
	for _, c := range []struct {
		name string
		fill func(t *testing.T, dir string) (free func())
		many int // minimum of refusals
	}{{"inodes", takeInodes, 5}, {"blocks", takeBlocks, 1}} {
		t.Run(c.name, func(t *testing.T) {
			s := small(t)
			old := s.mustCreate("pvc-old", "old")
			fill := s.export + "-fill"
			mkdir(t, fill+"/again")
			t.Cleanup(func() { _ = os.RemoveAll(fill) })
			refused := refusedUntil(t, s, params{"subDir": "a/b/c", "mountPermissions": "0777"}, c.fill(t, fill))
			t.Logf("refused %d times", refused)
			if refused < c.many {
				t.Errorf("refused only %d times", refused)
			}
			c.fill(t, fill+"/again")
			unchanged(t, s.export, func() {
				_, err := s.controller().ControllerExpandVolume(soon(t), &csi.ControllerExpandVolumeRequest{
					VolumeId: "nas1/pvc-1", CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30},
				})
				wantCode(t, err, codes.ResourceExhausted, "share nas1 (127.0.0.1:"+s.path+")", "pvc-1", "no space or no inodes")
			})
			s.mustDelete(old.VolumeId, "nas1/pvc-1")
			s.empty()
		})
	}
}

func takeInodes(t *testing.T, dir string) (free func()) {
	n := 0
	for ; ; n++ {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, n), nil, 0o600); err != nil {
			break
		}
	}
	return func() {
		n--
		if err := os.Remove(fmt.Sprintf("%s/%d", dir, n)); err != nil {
			t.Fatal(err)
		}
	}
}

func takeBlocks(t *testing.T, dir string) (free func()) {
	fill, err := os.Create(dir + "/fill")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fill.Close() })
	var size int64
	for block := int64(1 << 20); block >= 4096; block /= 16 {
		for unix.Fallocate(int(fill.Fd()), 0, size, block) == nil {
			size += block
		}
	}
	return func() {
		size -= 4096
		if err := fill.Truncate(size); err != nil {
			t.Fatal(err)
		}
	}
}

// refusedUntil asks for a volume on a full share again and again, freeing a little each time,
// until it is made. It returns how often it was refused.
func refusedUntil(t *testing.T, s *site, p params, free func()) (refused int) {
	t.Helper()
	for ; refused < 200; refused++ {
		before := tree(t, s.export)
		_, err := s.create("pvc-1", p)
		if err == nil {
			return refused
		}
		wantCode(t, err, codes.ResourceExhausted, "share nas1 (127.0.0.1:"+s.path+")", "no space or no inodes", "free some, or empty the trash")
		if d := differences(before, tree(t, s.export)); d != nil {
			t.Fatalf("refusal %d changed the share:\n%s", refused, strings.Join(d, "\n"))
		}
		free()
	}
	t.Fatal("it is never enough")
	return refused
}
