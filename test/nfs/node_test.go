// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	mountutils "k8s.io/mount-utils"
)

// TestNodeIdempotent repeats each step of a volume's way to pods and back, and restarts the
// program, killed, in between.
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
	twice(a.unstage)
	twice(func() error { return a.unpublish("pod") })
	a.mounted()
	twice(a.stage)
	a.mounted("globalmount")
	twice(func() error { return a.publish("pod", false) })
	twice(func() error { return a.publish("reader", true) })
	a.mounted("globalmount", "pod", "reader")
	if n, _ := lab.Mounts(a.node.PID()); n != 4 { // and the controller's own
		t.Errorf("there are %d NFS mounts", n)
	}
	a.must(os.WriteFile(a.target("pod/data"), []byte("data"), 0o600))
	if _, err := a.stats(a.target("reader")); err != nil {
		t.Error(err)
	}
	twice(func() error { return a.unpublish("pod") })
	a.mounted("globalmount", "reader")
	twice(func() error { return a.unpublish("reader") })
	twice(a.unstage)
	a.leave()
	if data, err := os.ReadFile(s.at(v.VolumeContext["subDir"], "data")); string(data) != "data" {
		t.Errorf("the volume holds %q (%v)", data, err)
	}
}

// TestPublishConflicts publishes where something is in the way.
func TestPublishConflicts(t *testing.T) {
	s := newSite(t)
	a := s.staged(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	other := s.staged(a.node, s.mustCreate("pvc-2", ""))
	elsewhere := localDir(t)
	a.must(a.publish("writer", false))
	a.must(a.publish("reader", true))
	write(t, a.target("file"), "a file")
	write(t, a.target("full/file"), "in a directory")
	symlink(t, elsewhere, a.target("link"))
	symlink(t, "missing", a.target("dangling"))
	symlink(t, elsewhere, a.target("parent"))
	bind(t, other.staging, a.target("other"))
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
		{"missing/pod", false, codes.FailedPrecondition, []string{a.target("missing/pod"), "the parent of", "is not there"}},
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

// localTree is tree without what is mounted.
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

// TestStageConflicts stages where something is in the way.
func TestStageConflicts(t *testing.T) {
	s := newSite(t)
	node := s.start("node", "node")
	v, other := s.mustCreate("pvc-1", ""), s.staged(node, s.mustCreate("pvc-2", ""))
	elsewhere := localDir(t)
	for _, c := range []struct {
		name    string
		prepare func(staging string)
		code    codes.Code
		says    []string
		mounts  int
	}{
		{"another volume", func(p string) { bind(t, other.staging, p) }, codes.AlreadyExists, []string{"pvc-2-pvc-2 is mounted there"}, 1},
		{"something else", func(p string) { bind(t, elsewhere, p) }, codes.AlreadyExists, []string{"is mounted there"}, 1},
		{"a file", func(p string) { write(t, p, "") }, codes.FailedPrecondition, []string{"is not a directory", "remove it"}, 0},
		{"a link", func(p string) { symlink(t, elsewhere, p) }, codes.FailedPrecondition, []string{"is not a directory", "remove it"}, 0},
		{"a file above", func(p string) { write(t, filepath.Dir(p), "") }, codes.FailedPrecondition, []string{"not a directory"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.seat(node, v)
			a.staging = filepath.Join(a.dir, "pv", "globalmount")
			if c.name != "a file above" {
				mkdir(t, filepath.Dir(a.staging))
			}
			c.prepare(a.staging)
			before := localTree(t, a.dir)
			wantCode(t, a.stage(), c.code, append(c.says, "nas1/pvc-1", strings.TrimSuffix(a.staging, "/globalmount"))...)
			if d := differences(before, localTree(t, a.dir)); d != nil || len(mountsIn(t, a.dir)) != c.mounts {
				t.Errorf("changed: %q, mounted: %v", d, mountsIn(t, a.dir))
			}
			if c.mounts > 0 {
				a.must(unix.Unmount(a.staging, unix.UMOUNT_NOFOLLOW))
			}
		})
	}
	t.Run("publish without stage", func(t *testing.T) {
		a := s.seat(node, v)
		wantCode(t, a.publish("pod", false), codes.FailedPrecondition, "nas1/pvc-1", a.staging, "has to be staged first")
		if _, err := os.Lstat(a.target("pod")); !os.IsNotExist(err) {
			t.Errorf("the target was made: %v", err)
		}
	})
	t.Run("stats of what is not mounted", func(t *testing.T) {
		a := s.seat(node, v)
		_, err := a.stats(a.target("pod"))
		wantCode(t, err, codes.NotFound, "nas1/pvc-1", a.target("pod"), "is not mounted")
	})
	other.leave()
}

// TestSingleWriter publishes a ReadWriteOncePod volume for a second pod.
func TestSingleWriter(t *testing.T) {
	s := newSite(t)
	a := s.seat(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	a.must(a.stage())
	a.must(a.publish("pod", false))
	a.must(a.publish("pod", false))
	for range 2 {
		wantCode(t, a.publish("second", false), codes.FailedPrecondition, "nas1/pvc-1", "for a single pod", a.target("pod"))
		wantCode(t, a.publish("second", true), codes.FailedPrecondition, "nas1/pvc-1", "for a single pod", a.target("pod"))
		s.kill(a.node)
		a.node = s.start("node", "node")
	}
	a.mounted("globalmount", "pod")
	a.must(a.unpublish("pod"))
	a.must(a.publish("second", false))
	a.leave("second")

	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER)
	a.must(a.stage())
	a.must(a.publish("pod", false))
	a.must(a.publish("second", false))
	a.leave("pod", "second")

	a.capability = lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	a.must(a.stage())
	a.must(a.publish("pod", false))
	if err := os.WriteFile(a.target("pod/data"), nil, 0o600); err == nil {
		t.Error("a reader may write")
	}
	a.leave("pod")
}

// TestPublishCostsNothing counts what further pods of a staged volume cost the server.
func TestPublishCostsNothing(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			a := s.staged(s.start("node", "node"), s.mustCreate("pvc-1", ""))
			a.must(a.publish("pod-0", false))
			ours := func(source, target string) bool { return strings.HasPrefix(target, a.dir) }
			before, err := lab.Count(a.node.PID(), ours)
			a.must(err)
			pods := []string{"pod-1", "pod-2", "pod-3"}
			for _, pod := range pods {
				a.must(a.publish(pod, pod == "pod-2"))
				a.must(a.publish(pod, pod == "pod-2"))
			}
			a.must(a.stage())
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
			a.mounted(append(pods, "globalmount", "pod-0")...)
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

// TestUsedByNobodyElse asks, as kubelet does before it unstages a volume, whether its stage is
// mounted elsewhere too, while other volumes of the share are mounted in every way.
func TestUsedByNobodyElse(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]", "inline: true")
			mkdir(t, s.at("data"))
			others := filepath.Join(s.dir, "others")
			mkdir(t, others)
			s.mount(others, "nfsvers="+version) // somebody's, by other means
			node := s.start("node", "node")
			inline := s.pod(node, "inline", "share", "nas1")
			inline.must(inline.publish())
			stages := []*seat{
				s.staged(node, s.mustCreate("pvc-1", "")), s.staged(node, s.mustCreate("pvc-2", "")),
				s.staged(node, static("data", "share", "nas1", "subDir", "data")),
			}
			for _, a := range stages {
				a.must(a.publish("pod", false))
			}
			for _, a := range stages {
				refs, err := mountutils.New("").GetMountRefs(a.staging)
				if err != nil || len(refs) != 1 || refs[0] != a.target("pod") {
					t.Errorf("kubelet takes volume %s for mounted at %q (%v)", a.volume.VolumeId, refs, err)
				}
				a.must(a.unpublish("pod"))
				if refs, err := mountutils.New("").GetMountRefs(a.staging); err != nil || len(refs) > 0 {
					t.Errorf("kubelet will not unstage volume %s: to it, in use at %q (%v)", a.volume.VolumeId, refs, err)
				}
			}
			inline.must(inline.unpublish())
			for _, a := range stages {
				a.leave()
			}
		})
	}
}

// TestMovedServer changes the address of a share whose volume is staged.
func TestMovedServer(t *testing.T) {
	s := newSite(t)
	a := s.staged(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	a.must(a.publish("pod", false))
	s.kill(a.node)
	s.config = strings.Replace(s.config, "["+lab.Server+"]", "[localhost]", 1)
	a.node = s.start("node", "node")
	a.must(a.stage())
	a.must(a.publish("pod", false))
	a.mounted("globalmount", "pod")
	a.leave("pod")
	b := s.staged(a.node, a.volume)
	a.must(b.stage())
	b.leave()
}
