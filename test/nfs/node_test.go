// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
)

// TestNodeIdempotent repeats each step of a volume's way to pods and back, and kills and restarts the
// program in between.
func TestNodeIdempotent(t *testing.T) {
	s := newSite(t)
	v := s.mustCreate("pvc-1", "")
	a := s.seat(s.start("node", "node"), v)
	twice := func(do func() error) {
		t.Helper()
		a.must(do())
		a.must(do())
		s.kill(a.node)
		a.node = s.start("node", "node")
		a.must(do())
	}
	twice(func() error { return a.unpublish("pod") })
	a.mounted()
	twice(func() error { return a.publish("pod", false) })
	twice(func() error { return a.publish("reader", true) })
	a.mounted("pod", "reader")
	if n, _ := lab.Mounts(a.node.PID()); n != 3 { // with that of the controller
		t.Errorf("there are %d NFS mounts", n)
	}
	a.must(os.WriteFile(a.target("pod/data"), []byte("data"), 0o600))
	if _, err := a.stats(a.target("reader")); err != nil {
		t.Error(err)
	}
	twice(func() error { return a.unpublish("pod") })
	a.mounted("reader")
	twice(func() error { return a.unpublish("reader") })
	a.leave()
	if data, err := os.ReadFile(s.at(v.VolumeContext["subDir"], "data")); string(data) != "data" {
		t.Errorf("the volume holds %q (%v)", data, err)
	}
}

// TestPublishConflicts publishes at targets that are already in use.
func TestPublishConflicts(t *testing.T) {
	s := newSite(t)
	a := s.held(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	other := s.held(a.node, s.mustCreate("pvc-2", ""))
	elsewhere := localDir(t)
	a.must(a.publish("writer", false))
	a.must(a.publish("reader", true))
	write(t, a.target("file"), "a file")
	write(t, a.target("full/file"), "in a directory")
	symlink(t, elsewhere, a.target("link"))
	symlink(t, "missing", a.target("dangling"))
	symlink(t, elsewhere, a.target("parent"))
	bind(t, other.target(holder), a.target("other"))
	bind(t, elsewhere, a.target("local"))
	for _, c := range []struct {
		pod      string
		readOnly bool
		code     codes.Code
		says     []string
	}{
		{"writer", true, codes.AlreadyExists, []string{a.target("writer"), "in another way"}},
		{"reader", false, codes.AlreadyExists, []string{a.target("reader"), "in another way"}},
		{"other", false, codes.AlreadyExists, []string{a.target("other"), "127.0.0.1:" + s.path + "/team-claim-pvc-2-pvc-2 is mounted there"}},
		{"local", false, codes.AlreadyExists, []string{a.target("local"), "is mounted there"}},
		{"file", false, codes.FailedPrecondition, []string{a.target("file"), "is not a directory", "remove it"}},
		{"link", false, codes.FailedPrecondition, []string{a.target("link"), "is not a directory", "remove it"}},
		{"dangling", false, codes.FailedPrecondition, []string{a.target("dangling"), "is not a directory", "remove it"}},
		{"missing/pod", false, codes.FailedPrecondition, []string{a.target("missing/pod"), "the parent directory of", "does not exist"}},
		{"file/pod", false, codes.FailedPrecondition, []string{a.target("file/pod")}},
	} {
		t.Run(c.pod, func(t *testing.T) {
			before, mounts := localTree(t, a.dir), len(mountsIn(t, s.dir))
			wantCode(t, a.publish(c.pod, c.readOnly), c.code, append(c.says, "nas1/pvc-1")...)
			if d := differences(before, localTree(t, a.dir)); d != nil || len(mountsIn(t, s.dir)) != mounts {
				t.Errorf("changed: %q, and %d mounts, not %d", d, len(mountsIn(t, s.dir)), mounts)
			}
		})
	}
	if entries, _ := os.ReadDir(elsewhere); len(entries) > 0 {
		t.Errorf("behind the links there is %v", entries)
	}
	wantCode(t, a.unpublish("full"), codes.FailedPrecondition, "nas1/pvc-1", a.target("full"), "not empty")
	wantCode(t, a.unpublish("file"), codes.FailedPrecondition, "nas1/pvc-1", a.target("file"), "not a directory")
	for _, name := range []string{"file", "full/file", "link"} {
		if _, err := os.Lstat(a.target(name)); err != nil {
			t.Errorf("unpublishing took %s away: %v", name, err)
		}
	}
	a.leave("writer", "reader", "other", "local")
	other.leave()
}

func bind(t *testing.T, source, target string) {
	t.Helper()
	mkdir(t, target)
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// localTree is tree without mounts.
func localTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	var add func(path string)
	add = func(path string) {
		text, err := describe(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(dir, path)
		all[name] = text
		for _, m := range mountsIn(t, path) {
			if m.Mountpoint == path {
				return
			}
		}
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			if e.Type()&os.ModeSymlink == 0 {
				add(filepath.Join(path, e.Name()))
			}
		}
	}
	add(dir)
	return all
}

// TestNotMounted asks for the usage of volumes that are not published.
func TestNotMounted(t *testing.T) {
	s := newSite(t)
	a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	_, err := a.stats(a.target("pod"))
	wantCode(t, err, codes.NotFound, "nas1/pvc-1", a.target("pod"), "is not mounted")
}

// TestSingleWriter publishes a ReadWriteOncePod volume for a second pod.
func TestSingleWriter(t *testing.T) {
	s := newSite(t)
	a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	a.must(a.publish("pod", false))
	a.must(a.publish("pod", false))
	for range 2 {
		wantCode(t, a.publish("second", false), codes.FailedPrecondition, "nas1/pvc-1", "for a single pod", a.target("pod"))
		wantCode(t, a.publish("second", true), codes.FailedPrecondition, "nas1/pvc-1", "for a single pod", a.target("pod"))
		s.kill(a.node)
		a.node = s.start("node", "node")
	}
	a.mounted("pod")
	a.must(a.unpublish("pod"))
	a.must(a.publish("second", false))
	a.leave("second")

	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER)
	a.must(a.publish("pod", false))
	a.must(a.publish("second", false))
	a.leave("pod", "second")

	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	a.must(a.publish("pod", false))
	if err := os.WriteFile(a.target("pod/data"), nil, 0o600); err == nil {
		t.Error("a reader may write")
	}
	a.leave("pod")
}

// TestPodsMountsApart mounts something in a pod's volume, as a container with mountPropagation:
// Bidirectional may: another pod does not see it.
func TestPodsMountsApart(t *testing.T) {
	s := newSite(t)
	a := s.seat(nil, s.mustCreate("pvc-1", "dir"))
	mkdir(t, s.at("dir/sub"))
	bind(t, a.dir, a.dir)
	t.Cleanup(func() { _ = unix.Unmount(a.dir, unix.MNT_DETACH) })
	a.must(unix.Mount("", a.dir, "", unix.MS_SHARED, "")) // like kubelet's directory
	a.node = s.start("node", "node")
	a.must(a.publish("pod-1", false))
	a.must(a.publish("pod-2", false))
	a.must(unix.Mount("sub", a.target("pod-1/sub"), "tmpfs", 0, ""))
	for _, m := range mountsIn(t, a.target("pod-2")) {
		if m.FSType == "tmpfs" {
			t.Errorf("what is mounted in the first pod's volume is mounted at %s too", m.Mountpoint)
		}
	}
	a.must(a.unpublish("pod-1"))
	a.must(a.unpublish("pod-2"))
}

// TestPublishCostsNothing counts the RPCs of further pods of a volume.
func TestPublishCostsNothing(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			a := s.held(s.start("node", "node"), s.mustCreate("pvc-1", ""))
			a.must(a.publish("pod-0", false))
			ours := func(source, target string) bool { return strings.HasPrefix(target, a.dir) }
			before, err := lab.Count(a.node.PID(), ours)
			a.must(err)
			pods := []string{"pod-1", "pod-2", "pod-3"}
			for _, pod := range pods {
				a.must(a.publish(pod, pod == "pod-2"))
				a.must(a.publish(pod, pod == "pod-2"))
			}
			a.must(a.hold())
			after, err := lab.Count(a.node.PID(), ours)
			a.must(err)
			if d := after.Since(before); d.Total() != 0 {
				t.Errorf("three more pods cost the server %v", d)
			}
			devices := map[int]bool{}
			for _, m := range mountsIn(t, a.dir) {
				devices[m.Minor] = true
			}
			if len(devices) != 1 {
				t.Errorf("they are on %d superblocks", len(devices))
			}
			a.mounted(append(pods, holder, "pod-0")...)
			for _, pod := range pods {
				a.must(a.unpublish(pod))
			}
			end, err := lab.Count(a.node.PID(), ours)
			a.must(err)
			if d := end.Since(after); d.Total() != 0 {
				t.Errorf("to unpublish them cost the server %v", d)
			}
			a.leave("pod-0")
		})
	}
}

// TestMovedServer changes the address of a share while a pod has a volume of it: that pod's mount does not
// change, and the next pod's mount uses the new address.
func TestMovedServer(t *testing.T) {
	s := newSite(t)
	a := s.held(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	s.kill(a.node)
	s.config = strings.Replace(s.config, "["+lab.Server+"]", "[localhost]", 1)
	a.node = s.start("node", "node")
	a.must(a.hold())
	a.must(a.publish("pod", false))
	a.mounted(holder, "pod")
	write(t, a.target("pod/file"), "seen by both")
	if data, err := os.ReadFile(a.target(holder + "/file")); string(data) != "seen by both" {
		t.Errorf("the pod before reads %q (%v)", data, err)
	}
	a.leave("pod")
}

// TestTwoPlugins starts a second plugin beside a running one: the second ends, the first continues.
func TestTwoPlugins(t *testing.T) {
	s := newSite(t)
	a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	dir := filepath.Join(s.dir, "node")
	out, err := exec.CommandContext(soon(t), os.Getenv("MOORING_BINARY"), "node",
		"--endpoint=unix://"+filepath.Join(dir, "csi.sock"), "--state-dir="+filepath.Join(dir, "state"), "--node-id=second").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is used by another node") {
		t.Errorf("the second one ends with %v and says %s", err, out)
	}
	a.must(a.publish("pod", false))
	a.leave("pod")
}
