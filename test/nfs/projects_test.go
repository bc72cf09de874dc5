// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// fsxattr is struct fsxattr (ioctl_fsgetxattr(2)).
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// projectOf returns the project and flags of a path on the server. If set is not nil, it changes them
// first.
func projectOf(t *testing.T, path string, set func(*fsxattr)) (attr fsxattr) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const get, put = 0x801c581f, 0x401c5820
	call := func(request uintptr) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&attr))); errno != 0 {
			t.Fatalf("the project of %s: %v", path, errno)
		}
	}
	if call(get); set != nil {
		set(&attr)
		call(put)
	}
	return attr
}

const handedDown = 0x200 // FS_XFLAG_PROJINHERIT

// setProject gives a directory a project, which new entries inherit.
func setProject(t *testing.T, path string, project uint32) {
	t.Helper()
	projectOf(t, path, func(a *fsxattr) { a.project, a.flags = project, a.flags|handedDown })
}

// onQuotas runs a test on each file system with projects.
func onQuotas(t *testing.T, test func(t *testing.T, s *site)) {
	t.Run("xfs", func(t *testing.T) { test(t, newSite(t, "trashRetention: 1h")) })
	t.Run("ext4", func(t *testing.T) {
		s := exported(t, "ext4", 0o755)
		s.config = lab.Registry("nas1", s.path, "trashRetention: 1h")
		test(t, s)
	})
}

// TestVolumeWithAProject gives the whole share one project and a volume another one: the server does not
// allow to move the volume.
func TestVolumeWithAProject(t *testing.T) {
	onQuotas(t, func(t *testing.T, s *site) {
		setProject(t, s.export, 50)
		s.open()
		for _, v := range []struct{ name, retention string }{{"pvc-1", "1h"}, {"pvc-2", "1s"}} {
			s.mustCreate(v.name, v.name, "trashRetention", v.retention)
			write(t, s.at(v.name, "sub/data"), "precious")
			setProject(t, s.at(v.name), 51)
			s.mustDelete("nas1/"+v.name, "nas1/"+v.name)
		}
		list := s.mooringctl("trash", "list")
		if !strings.Contains(list.out, "in place") {
			t.Errorf("the trash is shown as %s", list.out)
		}
		eventually(t, waitTimeout, "the second is purged", func() bool { _, err := os.Stat(s.at("pvc-2")); return os.IsNotExist(err) })
		s.restart()
		if data, err := os.ReadFile(s.at("pvc-1/sub/data")); string(data) != "precious" {
			t.Errorf("the first holds %q (%v)", data, err)
		}
		_, err := s.create("pvc-1", params{"subDir": "pvc-1", "trashRetention": "1h"})
		wantCode(t, err, codes.Aborted, "stays in its place")
		_, err = s.create("pvc-3", params{"subDir": "pvc-1"})
		wantCode(t, err, codes.Aborted, "mooringctl trash list")
		if r := s.mooringctl("check"); r.status != 0 || strings.Contains(r.out, "pvc-1") {
			t.Errorf("check says %s%s", r.out, r.said)
		}
		if r := s.mooringctl("trash", "restore", "nas1/pvc-1"); r.status == 0 || !strings.Contains(r.said, "copy from there") {
			t.Errorf("brought back: %d, %s", r.status, r.said)
		}
		setProject(t, s.at("pvc-1"), 50)
		if r := s.mooringctl("trash", "restore", "nas1/pvc-1"); r.status != 0 {
			t.Errorf("brought back: %d, %s", r.status, r.said)
		}
		setProject(t, s.at("pvc-1"), 51)
		if data, err := os.ReadFile(s.at("pvc-1/sub/data")); string(data) != "precious" {
			t.Errorf("brought back is %q (%v)", data, err)
		}
		s.mustDelete("nas1/pvc-1")
		if r := s.mooringctl("trash", "purge", "--yes", "nas1/pvc-1"); r.status != 0 {
			t.Errorf("purged: %d, %s", r.status, r.said)
		}
		s.mustCreate("pvc-3", "pvc-1")
		s.mustDelete("nas1/pvc-3")
		if r := s.mooringctl("trash", "purge", "--yes", "--all"); r.status != 0 {
			t.Errorf("purged: %d, %s", r.status, r.said)
		}
		s.empty()
		s.mustCreate("pvc-1", "pvc-1")
		if p := projectOf(t, s.at("pvc-1"), nil); p.project != 50 {
			t.Errorf("the new volume is of the project %d", p.project)
		}
	})
}

// TestNoProjectOfOurs removes the project of .mooring as docs/operate.md says: then volumes can be moved there.
// They keep their projects, and cannot go back to a directory that hands down another one.
func TestNoProjectOfOurs(t *testing.T) {
	onQuotas(t, func(t *testing.T, s *site) {
		setProject(t, s.export, 50)
		mkdir(t, s.at("team"))
		setProject(t, s.at("team"), 60)
		s.open()
		s.mustCreate("pvc-1", "team/one")
		s.mustCreate("pvc-2", "team/two")
		write(t, s.at("team/two/data"), "precious")
		s.mustDelete("nas1/pvc-1")
		if r := s.mooringctl("trash", "purge", "--yes", "nas1/pvc-1"); r.status == 0 || !strings.Contains(r.said, "docs/operate.md") {
			t.Errorf("purged: %d, %s", r.status, r.said)
		}
		take := "xargs -0 chattr -P -p 0"
		if strings.HasSuffix(t.Name(), "/xfs") {
			take = "xargs -0 -n 1 xfs_io -c 'chproj 0' -c 'chattr -P'"
		}
		script := `find . \( -path './trash/*' -o -path './snapshots/*/data' -o -path './inline/*' \) -prune -o -type d -print0 |` + take
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir = s.at(".mooring")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", script, err, out)
		}
		if r := s.mooringctl("trash", "purge", "--yes", "nas1/pvc-1"); r.status != 0 {
			t.Errorf("purged: %d, %s", r.status, r.said)
		}
		setProject(t, s.at("team/two"), 61)
		s.mustDelete("nas1/pvc-2")
		s.mustCreate("pvc-3", "team/two") // the name is free
		s.mustCreate("pvc-4", "new/one")
		s.mustDelete("nas1/pvc-3", "nas1/pvc-4")
		if r := s.mooringctl("trash", "restore", "nas1/pvc-2"); r.status == 0 || !strings.Contains(r.said, "another project quota") {
			t.Fatalf("brought back: %d, %s", r.status, r.said)
		}
		trees, _ := filepath.Glob(s.at(".mooring/trash/pvc-2.????????????????"))
		for _, tree := range trees {
			wantProject(t, filepath.Join(tree, "data"), 60)
			setProject(t, tree, 60)
		}
		if r := s.mooringctl("trash", "restore", "nas1/pvc-2"); r.status != 0 {
			t.Fatalf("brought back: %d, %s", r.status, r.said)
		}
		if data, err := os.ReadFile(s.at("team/two/data")); string(data) != "precious" {
			t.Errorf("brought back is %q (%v)", data, err)
		}
	})
}

// TestParentWithAProject gives a parent a project to hand down: volumes that are restored, cloned and
// brought back in it have that project too.
func TestParentWithAProject(t *testing.T) {
	onQuotas(t, func(t *testing.T, s *site) {
		mkdir(t, s.at("team"))
		setProject(t, s.at("team"), 60)
		s.open()
		v := s.mustCreate("pvc-1", "one")
		manyFiles(t, s.at("one"), 40)
		write(t, s.at("one/sub/data"), "precious")
		snap := mustSnapshot(t, s.ctl, v, "snap-1")
		for name, r := range map[string][2]string{"pvc-2": {"snapshot", snap.SnapshotId}, "pvc-3": {"volume", v.VolumeId}} {
			dir := "team/" + name
			if _, err := s.controller().CreateVolume(within(t, time.Minute), withSource(request(name, params{"subDir": dir}), r[0], r[1])); err != nil {
				t.Fatal(err)
			}
			sameTree(t, s.at("one"), s.at(dir))
			wantProject(t, s.at(dir), 60)
			s.mustDelete("nas1/" + name)
			if _, err := os.Stat(s.at(dir)); err == nil {
				t.Errorf("%s is still there", dir)
			}
			if r := s.mooringctl("trash", "restore", "nas1/"+name); r.status != 0 {
				t.Errorf("brought back: %d, %s", r.status, r.said)
			}
			sameTree(t, s.at("one"), s.at(dir))
			wantProject(t, s.at(dir), 60)
		}
		if left := append(unfinished(s), inState(s, "jobs")...); left != nil {
			t.Errorf("left are %v", left)
		}
	})
}

// wantProject checks that all directories and files of a tree have this project.
func wantProject(t *testing.T, dir string, project uint32) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p := projectOf(t, path, nil); p.project != project {
			t.Errorf("%s is of the project %d, not %d", path, p.project, project)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestArchiveWithAProject uses a project that prevents the archiving of a volume. The target is not claimed,
// and with the project of its parent the volume is archived.
func TestArchiveWithAProject(t *testing.T) {
	onQuotas(t, func(t *testing.T, s *site) {
		setProject(t, s.export, 50)
		s.open()
		v := s.mustCreate("pvc-1", "one", "onDelete", "archive")
		write(t, s.at("one/data"), "precious")
		setProject(t, s.at("one"), 51)
		for range 2 {
			wantCode(t, s.delete(v.VolumeId), codes.FailedPrecondition, "cannot be archived", "was not changed")
		}
		if claims, _ := os.ReadDir(s.at(".mooring/claims")); len(claims) != 1 {
			t.Errorf("the claims are %v", claims)
		}
		setProject(t, s.at("one"), 50)
		s.mustDelete(v.VolumeId)
		s.empty("archived-one", "archived-one/data")
	})
}
