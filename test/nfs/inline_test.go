// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// inlineID is a volume id as kubelet makes it.
const inlineID = "csi-2f4c1bd1f7a0b7e3f7a9f5e5a4c9f6d5f0c7e1a2b3c4d5e6f708192a3b4c5d6e"

// pod is the target of an inline volume on a node.
type pod struct {
	t          *testing.T
	node       *lab.Driver
	id, target string
	context    map[string]string
	readOnly   bool
}

// pod prepares a target as kubelet does. attributes are those of the volume in the pod.
func (s *site) pod(node *lab.Driver, name string, attributes ...string) *pod {
	s.t.Helper()
	p := &pod{t: s.t, node: node, id: inlineID + name, target: filepath.Join(s.dir, "pods", name, "mount"), context: map[string]string{
		"csi.storage.k8s.io/ephemeral": "true", "csi.storage.k8s.io/pod.name": name, "csi.storage.k8s.io/pod.namespace": "team",
		"csi.storage.k8s.io/pod.uid": "0d7c2b9e", "csi.storage.k8s.io/serviceAccount.name": "default",
	}}
	for i := 0; i < len(attributes); i += 2 {
		p.context[attributes[i]] = attributes[i+1]
	}
	mkdir(s.t, filepath.Dir(p.target))
	return p
}

func (p *pod) publish(options ...string) error {
	_, err := p.node.Node.NodePublishVolume(soon(p.t), &csi.NodePublishVolumeRequest{
		VolumeId: p.id, TargetPath: p.target, VolumeContext: p.context, Readonly: p.readOnly,
		VolumeCapability: lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER, options...),
	})
	return err
}

// unpublish tries again, as kubelet does, while a node that has just started removes the volume itself.
func (p *pod) unpublish() error {
	for ctx := soon(p.t); ; time.Sleep(100 * time.Millisecond) {
		_, err := p.node.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: p.id, TargetPath: p.target})
		if status.Code(err) != codes.Aborted {
			return err
		}
	}
}

func (p *pod) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// inlines lists the existing directories of pods.
func inlines(s *site) []string {
	s.t.Helper()
	var names []string
	entries, err := os.ReadDir(s.at(".mooring/inline"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestInline gives pods directories of their own, and removes them.
func TestInline(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "inline: true", "mountOptions: [nfsvers="+version+"]")
			s.open()
			node := s.start("node", "node")
			a, b := s.pod(node, "a", "share", "nas1"), s.pod(node, "b", "share", "nas1")
			b.readOnly = true
			for range 2 {
				a.must(a.publish())
				b.must(b.publish())
			}
			a.must(os.WriteFile(filepath.Join(a.target, "data"), []byte("a's"), 0o600))
			if err := os.WriteFile(filepath.Join(b.target, "data"), nil, 0o600); err == nil {
				t.Error("a read-only volume can be written")
			}
			if data, err := os.ReadFile(s.at(".mooring/inline", a.id, "data")); string(data) != "a's" {
				t.Errorf("on the share there is %q (%v), among %q", data, err, inlines(s))
			}
			if info, err := os.Stat(a.target); err != nil || info.Mode().Perm() != 0o777 {
				t.Errorf("a pod's user cannot write: %v, %v", info.Mode(), err)
			}
			if n := len(mountsIn(t, filepath.Join(s.dir, "pods"))); n != 2 || len(inlines(s)) != 2 {
				t.Errorf("%d are mounted, and there are %q", n, inlines(s))
			}
			_, err := node.Node.NodeGetVolumeStats(soon(t), &csi.NodeGetVolumeStatsRequest{VolumeId: a.id, VolumePath: a.target})
			a.must(err)
			s.kill(node)
			node = s.start("node", "node")
			a.node, b.node = node, node
			a.must(a.publish())
			for range 2 {
				a.must(a.unpublish())
				b.must(b.unpublish())
			}
			noInlineLeft(s, node)
		})
	}
}

// noInlineLeft checks that nothing is left of inline volumes and of the processes that made them.
func noInlineLeft(s *site, node *lab.Driver) {
	s.t.Helper()
	if m := mountsIn(s.t, filepath.Join(s.dir, "pods")); len(m) > 0 {
		s.t.Errorf("still mounted: %v", m)
	}
	if m := mountsIn(s.t, node.Dir); len(m) > 0 {
		s.t.Errorf("mounted in the node's directory: %v", m)
	}
	if left := inlines(s); len(left) > 0 {
		s.t.Errorf("left are %q", left)
	}
	notes, _ := filepath.Glob(filepath.Join(node.Dir, "state/node/*"))
	if len(notes) > 0 {
		s.t.Errorf("noted is %q", notes)
	}
}

// TestInlineDirectory shows pods an existing directory, which remains.
func TestInlineDirectory(t *testing.T) {
	s := newSite(t, "inline: true")
	write(t, s.at("data/set/file"), "kept")
	node := s.start("node", "node")
	a := s.pod(node, "a", "share", "nas1", "subDir", "data/set")
	a.readOnly = true
	a.must(a.publish())
	a.must(a.publish())
	if data, err := os.ReadFile(filepath.Join(a.target, "file")); string(data) != "kept" {
		t.Errorf("the pod reads %q (%v)", data, err)
	}
	if err := os.WriteFile(filepath.Join(a.target, "new"), nil, 0o600); err == nil {
		t.Error("it can write")
	}
	a.must(a.unpublish())
	a.readOnly = false
	a.must(a.publish())
	write(t, filepath.Join(a.target, "new"), "by the pod")
	// A tenant replaces the directory of the next pod by a link.
	write(t, s.at("secret/file"), "another's")
	a.must(os.Symlink("../../secret", filepath.Join(a.target, "link")))
	b := s.pod(node, "b", "share", "nas1", "subDir", "data/set/link")
	wantCode(t, b.publish(), codes.FailedPrecondition, "nas1", "data/set/link", "symbolic link")
	a.must(a.unpublish())
	for _, name := range []string{"data/set/file", "data/set/new"} {
		if _, err := os.Stat(s.at(name)); err != nil {
			t.Errorf("%s is gone with the pod: %v", name, err)
		}
	}
	a.must(b.unpublish())
	noInlineLeft(s, node)
}

// TestInlineRefused asks for inline volumes that are not allowed.
func TestInlineRefused(t *testing.T) {
	s := newSite(t, "inline: true")
	s.config += strings.NewReplacer("shares:\n", "", "inline: true", "inline: false", "nas1", "closed", s.path, lab.Exports+"/closed-to-pods").Replace(s.config)
	s.mustCreate("pvc-1", "volumes/one")
	mkdir(t, s.at("data"))
	write(t, s.at("file"), "")
	node := s.start("node", "node")
	before := tree(t, s.export)
	for name, c := range map[string]struct {
		attributes []string
		options    []string
		code       codes.Code
		says       []string
	}{
		"no share":        {nil, nil, codes.InvalidArgument, []string{"name no share"}},
		"unknown":         {[]string{"share", "nas9"}, nil, codes.FailedPrecondition, []string{"nas9", "is not in Mooring's configuration"}},
		"not allowed":     {[]string{"share", "closed"}, nil, codes.PermissionDenied, []string{"closed", "inline: true"}},
		"an export":       {[]string{"share", lab.Server + ":" + s.path}, nil, codes.InvalidArgument, []string{"cannot be a share's name"}},
		"a server":        {[]string{"share", s.path, "server", lab.Server}, nil, codes.PermissionDenied, []string{"cannot choose the server"}},
		"options":         {[]string{"share", "nas1", "mountOptions", "suid"}, nil, codes.PermissionDenied, []string{"cannot choose the mountOptions"}},
		"suid":            {[]string{"share", "nas1"}, []string{"suid"}, codes.PermissionDenied, []string{"cannot choose mount options", "suid"}},
		"a typo":          {[]string{"share", "nas1", "subdir", "data"}, nil, codes.InvalidArgument, []string{`"subdir" is not known`}},
		"above":           {[]string{"share", "nas1", "subDir", "../x"}, nil, codes.InvalidArgument, []string{".."}},
		"absolute":        {[]string{"share", "nas1", "subDir", "/data"}, nil, codes.InvalidArgument, []string{"begins with /"}},
		"Mooring's":       {[]string{"share", "nas1", "subDir", ".mooring/volumes"}, nil, codes.InvalidArgument, []string{"Mooring's own"}},
		"a volume":        {[]string{"share", "nas1", "subDir", "volumes/one"}, nil, codes.PermissionDenied, []string{"volumes/one", "belongs to volume pvc-1"}},
		"in a volume":     {[]string{"share", "nas1", "subDir", "volumes/one/x"}, nil, codes.PermissionDenied, []string{"belongs to volume pvc-1"}},
		"above a volume":  {[]string{"share", "nas1", "subDir", "volumes"}, nil, codes.PermissionDenied, []string{"contains volumes"}},
		"not there":       {[]string{"share", "nas1", "subDir", "none/at/all"}, nil, codes.FailedPrecondition, []string{"none/at/all", "does not exist"}},
		"a file":          {[]string{"share", "nas1", "subDir", "file"}, nil, codes.FailedPrecondition, []string{"file", "is where a directory must be"}},
		"another's place": {[]string{"share", "nas1", "subDir", "data"}, nil, codes.AlreadyExists, []string{"is mounted there"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.pod(node, strings.ReplaceAll(name, "'", ""), c.attributes...)
			if name == "another's place" {
				bind(t, s.dir, p.target)
				defer func() { p.must(unix.Unmount(p.target, unix.MNT_DETACH)) }()
			}
			wantCode(t, p.publish(c.options...), c.code, append(c.says, p.id)...)
			if name != "another's place" {
				if m := mountsIn(t, p.target); len(m) > 0 {
					t.Errorf("mounted is %v", m)
				}
				p.must(p.unpublish())
			}
		})
	}
	if d := differences(before, tree(t, s.export)); d != nil {
		// The first call makes the directory for pods.
		if len(d) > 2 || len(inlines(s)) > 0 {
			t.Errorf("changed on the share: %q", d)
		}
	}
}

// TestInlineCrash kills the node at any moment while pods come and go: when the last is gone,
// nothing is left.
func TestInlineCrash(t *testing.T) {
	s := newSite(t, "inline: true")
	s.open()
	node := s.start("node", "node")
	for i := range 12 {
		a, b := s.pod(node, "a", "share", "nas1"), s.pod(node, "b", "share", "nas1")
		var all sync.WaitGroup
		all.Go(func() { _ = a.publish(); _ = a.unpublish() })
		all.Go(func() { _ = b.publish() })
		time.Sleep(time.Duration(i*17) * time.Millisecond)
		s.kill(node)
		all.Wait()
		node = s.start("node", "node")
		a.node, b.node = node, node
		b.must(b.publish())
		write(t, filepath.Join(b.target, "data"), "b's")
		a.must(a.unpublish())
		b.must(b.unpublish())
	}
	noInlineLeft(s, node)
	eventually(t, waitTimeout, "the trash is empty", func() bool {
		entries, err := os.ReadDir(s.at(".mooring/trash"))
		return err == nil && len(entries) == 0
	})
}

// TestInlineInSilence removes a pod while its server is silent: its directory is removed later.
func TestInlineInSilence(t *testing.T) {
	s := newSite(t)
	dir := second(t)
	s.config += "  - {name: far, servers: [" + secondServer + "], path: " + dir + ", inline: true}\n"
	node := s.start("node", "node")
	a := s.pod(node, "a", "share", "far")
	a.must(a.publish())
	own := filepath.Join(lab.View+dir, ".mooring/inline", a.id)
	over := accident(t, "cut", "heal")
	b := s.pod(node, "b", "share", "far")
	wantCode(t, b.publish(), codes.Unavailable, b.id, "share far", "does not answer")
	for _, p := range []*pod{a, b} {
		start := time.Now()
		p.must(p.unpublish())
		if took := time.Since(start); took > prompt {
			t.Errorf("the pod had to wait %v", took)
		}
	}
	if m := mountsIn(t, filepath.Join(s.dir, "pods")); len(m) > 0 {
		t.Errorf("still mounted: %v", m)
	}
	over()
	if _, err := os.Stat(own); err != nil {
		t.Errorf("the directory went while the server was away: %v", err)
	}
	s.kill(node)
	node = s.start("node", "node")
	eventually(t, waitTimeout, "nothing is left of the pods", func() bool {
		_, err := os.Stat(own)
		notes, _ := filepath.Glob(filepath.Join(node.Dir, "state/node/*"))
		return os.IsNotExist(err) && len(notes) == 0
	})
}

// TestInlineKeepsNoDisk unmounts a disk while the child of an inline volume waits for its server: no
// process has the disk mounted any more.
func TestInlineKeepsNoDisk(t *testing.T) {
	s := newSite(t)
	far := second(t)
	s.config += "  - {name: far, servers: [" + secondServer + "], path: " + far + ", inline: true, mountOptions: [nfsvers=4.2]}\n"
	kubelet := filepath.Join(s.dir, "kubelet") // a shared mount, as in the container
	disk := filepath.Join(kubelet, "disk")
	mkdir(t, kubelet)
	if err := errors.Join(unix.Mount(kubelet, kubelet, "", unix.MS_BIND, ""), unix.Mount("", kubelet, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(kubelet, unix.MNT_DETACH) })
	mkdir(t, disk)
	if err := unix.Mount("disk", disk, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	node := s.start("node", "node")
	p := s.pod(node, "web", "share", "far")
	p.must(p.publish()) // now the node has heard from the server
	p.must(p.unpublish())
	over := accident(t, "cut", "heal")
	published := make(chan error, 1)
	go func() { published <- p.publish() }()
	has := func() (pids []int) {
		for _, pid := range lab.Descendants(node.PID()) {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/mountinfo", pid))
			for _, task := range tasks {
				if table, err := os.ReadFile(task); err == nil && strings.Contains(string(table), " "+disk+" ") {
					pids = append(pids, pid)
				}
			}
		}
		return pids
	}
	waits := func() bool { // mount(8) waits for the server
		return slices.ContainsFunc(lab.Descendants(node.PID()), func(pid int) bool {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return strings.HasPrefix(string(name), "mount.nfs")
		})
	}
	eventually(t, waitTimeout, "the child waits", func() bool { return waits() && len(has()) > 0 })
	if err := unix.Unmount(disk, 0); err != nil {
		t.Fatal(err)
	}
	if pids := has(); !waits() || len(pids) > 0 {
		t.Errorf("the child waits: %v; the disk is kept by %v", waits(), pids)
	}
	over()
	if err := <-published; err != nil {
		eventually(t, waitTimeout, "the pod gets its volume", func() bool { return p.publish() == nil })
	}
	p.must(p.unpublish())
}

// TestInlineAddresses uses an inline volume on a share with two addresses, for each of which there is an NFS
// client with a host name of its own: the whole share is mounted only in the child's namespace.
func TestInlineAddresses(t *testing.T) {
	s := newSite(t, "inline: true", "mountOptions: [nfsvers=4.2]")
	twoAddresses(s)
	s.open()
	node := s.start("node", "node")
	p := s.pod(node, "web", "share", "nas1")
	p.must(p.publish())
	write(t, filepath.Join(p.target, "data"), "the pod's")
	if data, err := os.ReadFile(s.at(".mooring/inline", p.id, "data")); string(data) != "the pod's" {
		t.Errorf("on the share there is %q (%v)", data, err)
	}
	if m := mountsIn(t, node.Dir); len(m) > 0 {
		t.Errorf("mounted in the node's directory: %v", m)
	}
	p.must(p.unpublish())
	noInlineLeft(s, node)
}

// TestInlineStatd uses an inline volume that needs rpc.statd when it does not run: it is started in the mount
// namespace of the node, and not in that of the child, which it would keep.
func TestInlineStatd(t *testing.T) {
	s := newSite(t, "inline: true", "mountOptions: [nfsvers=3]")
	s.open()
	node := s.start("node", "node")
	p := s.pod(node, "web", "share", "nas1")
	noStatd(t)
	p.must(p.publish())
	statd := output(t, "pid=$(cat /run/rpc.statd.pid); readlink /proc/$pid/exe /proc/$pid/ns/mnt")
	where, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", node.PID()))
	if err != nil || statd != "/usr/sbin/rpc.statd\n"+where {
		t.Errorf("the node is in %s (%v), and there is %q", where, err, statd)
	}
	if out := output(t, "flock -n "+filepath.Join(p.target, "lock")+" echo locked"); out != "locked" {
		t.Errorf("a lock says %q", out)
	}
	p.must(p.unpublish())
}

// TestInlineReadOnlyExport shows a pod a directory of a read-only export that is not initialized.
func TestInlineReadOnlyExport(t *testing.T) {
	s := newSite(t)
	if err := lab.Do("export", "readonly"); err != nil {
		t.Fatal(err)
	}
	write(t, s.add("ro", "/readonly", lab.View+"/readonly", "inline: true")+"/models/one", "read")
	p := s.pod(s.start("node", "node"), "web", "share", "ro", "subDir", "models")
	p.readOnly = true
	p.must(p.publish())
	if data, err := os.ReadFile(p.target + "/one"); string(data) != "read" {
		t.Errorf("the pod reads %q (%v)", data, err)
	}
	p.must(p.unpublish())
}
