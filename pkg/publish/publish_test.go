// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestLife repeats every call, as kubelet may.
func TestLife(t *testing.T) {
	n := newNode(t)
	for range 2 {
		n.must(n.publish("a", nil))
		n.must(n.publish("b", readOnly))
		n.must(n.publish("c", v2))
	}
	n.wantMounts(2, 1)
	for name, readOnly := range map[string]bool{"pods/a": false, "pods/b": true} {
		if e, ok := n.mounted(name); !ok || e.Source != "10.0.0.1:/export/v1" || e.ReadOnly() != readOnly {
			t.Errorf("mount at %s = %+v, %v", name, e, ok)
		}
	}
	if space, err := n.Health.Usage(context.Background(), "nas1/v1", n.at("pods")+"//a/"); err != nil || space.Total != 7 || n.probes.usage[0] != n.at("pods/a") {
		t.Errorf("usage = %+v, %v, of %q", space, err, n.probes.usage)
	}
	for range 2 {
		n.must(n.unpublish("a"))
	}
	n.must(n.publish("d", readOnly))
	n.wantMounts(2, 2) // bound to b
	for range 2 {
		n.must(n.unpublish("b"))
		n.must(n.unpublish("d"))
	}
	for _, path := range []string{"pods/a", "pods/b", "pods/d"} {
		n.absent(path)
		if !slices.Contains(n.probes.forgotten, n.at(path)) {
			t.Errorf("probes of %s are kept: only %q are forgotten", path, n.probes.forgotten)
		}
	}
	n.must(n.publish("a", nil))
	n.wantMounts(3, 2)
	n.wantRecords(2)
}

// wantRecords fails the test unless there are this many records of views, in memory and on disk.
func (n *node) wantRecords(want int) {
	n.Helper()
	notes, err := readAll[view](n.Pods.state, viewPrefix)
	n.must(err)
	if len(notes) != want || len(n.Pods.views.all) != want {
		n.Errorf("records = %+v and %+v, want %d", notes, n.Pods.views.all, want)
	}
}

// TestShares checks which requests share the mount of another pod.
func TestShares(t *testing.T) {
	for what, c := range map[string]struct {
		change func(n *node, r *volume.PublishRequest)
		shared bool
	}{
		"the same":               {func(*node, *volume.PublishRequest) {}, true},
		"read-only":              {func(_ *node, r *volume.PublishRequest) { r.ReadOnly = true }, true},
		"with the option ro":     {func(_ *node, r *volume.PublishRequest) { r.Options = []string{"ro"} }, true},
		"with other options":     {func(_ *node, r *volume.PublishRequest) { r.Options = []string{"nfsvers=3"} }, false},
		"a share that has moved": {func(n *node, _ *volume.PublishRequest) { n.registry.Shares[0].Servers = []string{"10.0.0.2"} }, false},
		"the address as IPv6":    {func(n *node, _ *volume.PublishRequest) { n.registry.Shares[0].Servers = []string{"::ffff:10.0.0.1"} }, true},
		"the share's options":    {func(n *node, _ *volume.PublishRequest) { n.registry.Shares[0].MountOptions = []string{"noatime"} }, true},
		"the share's version":    {func(n *node, _ *volume.PublishRequest) { n.registry.Shares[0].MountOptions = []string{"nfsvers=4.1"} }, false},
		"with the option ro=vfs": {func(_ *node, r *volume.PublishRequest) { r.Options = []string{"ro=vfs"} }, true},
		"after a restart":        {func(n *node, _ *volume.PublishRequest) { n.Service = n.service(n.mounter) }, true},
		"with no records": {func(n *node, _ *volume.PublishRequest) {
			n.must(os.RemoveAll(n.at("state")))
			n.Service = n.service(n.mounter)
		}, false},
	} {
		n := newNode(t)
		n.must(n.publish("a", nil))
		n.must(n.publish("b", func(r *volume.PublishRequest) { c.change(n, r) }))
		if want := 1; c.shared != (n.mounter.Mounts == want) || c.shared != (n.mounter.Binds == 1) {
			t.Errorf("%s: %d mounts and %d binds", what, n.mounter.Mounts, n.mounter.Binds)
		}
	}
}

// TestOneIsQueried publishes for several pods in turn: only the mount of the first is queried.
func TestOneIsQueried(t *testing.T) {
	n := newNode(t)
	for _, pod := range []string{"z", "a", "m", "b"} {
		n.must(n.publish(pod, nil))
	}
	if first := n.at("pods/z"); !slices.Equal(n.probes.asked, []string{first, first, first}) {
		t.Errorf("queried = %q", n.probes.asked)
	}
}

// TestReadOnlyFirst publishes read-only first: a pod that writes gets a mount of its own.
func TestReadOnlyFirst(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", readOnly))
	n.must(n.publish("b", nil))
	n.must(n.publish("c", nil))
	n.wantMounts(2, 1)
	for name, readOnly := range map[string]bool{"pods/a": true, "pods/b": false, "pods/c": false} {
		if e, _ := n.mounted(name); e.ReadOnly() != readOnly {
			t.Errorf("mount at %s = %+v", name, e)
		}
	}
}

// slowRestrict is a Mounter that waits before it makes a mount read-only.
type slowRestrict struct {
	Mounter
	reached, resume chan struct{}
}

func (s *slowRestrict) Restrict(target string) error {
	close(s.reached)
	<-s.resume
	return s.Mounter.Restrict(target)
}

// TestReaderNotYetReadOnly publishes for a pod that writes while the mount of a read-only pod is still
// writable: it gets a mount of its own.
func TestReaderNotYetReadOnly(t *testing.T) {
	n := newNode(t)
	slow := &slowRestrict{n.mounter, make(chan struct{}), make(chan struct{})}
	n.Service = n.service(slow)
	reader := make(chan error)
	go func() { reader <- n.publish("reader", func(r *volume.PublishRequest) { own(r); readOnly(r) }) }()
	<-slow.reached
	n.must(n.publish("writer", own))
	close(slow.resume)
	n.must(<-reader)
	n.wantMounts(2, 0)
}

// TestEndsBeforeReadOnly restarts the driver after a mount, before that is read-only.
func TestEndsBeforeReadOnly(t *testing.T) {
	n := newNode(t)
	wrong := errors.New("no")
	n.mounter.Fail = func(call, _ string) error {
		if call == "restrict" || call == "unmount" {
			return wrong
		}
		return nil
	}
	reader := func(r *volume.PublishRequest) { own(r); readOnly(r) }
	if err := n.publish("a", reader); !errors.Is(err, wrong) {
		t.Errorf("error = %v", err)
	}
	n.mounter.Fail = nil
	n.Service = n.service(n.mounter)
	n.must(n.publish("a", reader))
	if e, _ := n.mounted("pods/a"); !e.ReadOnly() {
		t.Errorf("mount = %+v", e)
	}
	n.wantMounts(1, 0)
}

// TestUsageElsewhere checks that only mounts are queried.
func TestUsageElsewhere(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	for _, path := range []string{n.at("pods"), n.at("none"), "relative", ""} {
		_, err := n.Health.Usage(context.Background(), "nas1/v1", path)
		n.refused("the usage at "+path, err, volume.ErrNotFound)
	}
}

// TestMountOptions checks the order of options: ours, the share's, the volume's.
func TestMountOptions(t *testing.T) {
	n := newNode(t)
	var got mount.Spec
	spy := &spy{Mounter: n.mounter, mount: func(s mount.Spec) error { got = s; return nil }}
	n.Service = n.service(spy)
	n.must(n.publish("a/", func(r *volume.PublishRequest) { r.Options = []string{"nfsvers=3,nolock,ro"} }))
	want := mount.Spec{Source: "10.0.0.1:/export/v1", Target: n.at("pods/a"), Options: []string{"retry=0", "nodev", "nfsvers=3", "nolock"}}
	if got.Source != want.Source || got.Target != want.Target || !slices.Equal(got.Options, want.Options) {
		t.Errorf("mount = %+v, want %+v", got, want)
	}
	if e, _ := n.mounted("pods/a"); !e.ReadOnly() {
		t.Error("the mount is writable")
	}
}

// TestSnapshotDirectory checks that a volume that is a snapshot is read-only for every pod, whatever
// the options say, and that nothing else in Mooring's directory can be published.
func TestSnapshotDirectory(t *testing.T) {
	for what, options := range map[string][]string{"nothing": nil, "rw": {"rw"}, "both": {"ro", "rw"}, "with others": {"nodev,rw,noatime"}} {
		n := newNode(t)
		n.registry.Shares[0].MountOptions = append(n.registry.Shares[0].MountOptions, "rw")
		dir := volume.SnapshotDirectory("s1")
		n.must(os.MkdirAll(n.at("root/export/"+dir), 0o755))
		publish := func(pod, directory string) error {
			return n.publish(pod, func(r *volume.PublishRequest) { r.Location.Directory, r.Options = directory, options })
		}
		for _, directory := range []string{".mooring", ".mooring/snapshots", ".mooring/snapshots/s1", dir + "/deeper", ".mooring/snapshots/../data"} {
			n.refused(directory, publish("a", directory), volume.ErrInvalid)
		}
		for _, pod := range []string{"a", "b"} {
			n.must(publish(pod, dir))
			if e, ok := n.mounted("pods/" + pod); !ok || !e.ReadOnly() || e.Source != "10.0.0.1:/export/"+dir {
				t.Errorf("%s: mount at %s = %+v, %v", what, pod, e, ok)
			}
		}
	}
}

// spy is a Mounter that passes each mount to a function first.
type spy struct {
	Mounter
	mount func(s mount.Spec) error
}

func (s *spy) Mount(ctx context.Context, spec mount.Spec) error {
	if err := s.mount(spec); err != nil {
		return err
	}
	return s.Mounter.Mount(ctx, spec)
}

// TestServers checks that a share with two servers is mounted from the first that works.
func TestServers(t *testing.T) {
	n := newNode(t)
	n.registry.Shares[0].Servers = []string{"10.0.0.1", "fe80::2"}
	down := map[string]error{"10.0.0.1:/export/v1": volume.Errorf(volume.ErrUnavailable, "first is down")}
	spy := &spy{Mounter: n.mounter, mount: func(s mount.Spec) error { return down[s.Source] }}
	n.Service = n.service(spy)

	n.must(n.publish("a", nil))
	if e, _ := n.mounted("pods/a"); e.Source != "[fe80::2]:/export/v1" {
		t.Errorf("mount = %+v", e)
	}
	n.must(n.publish("b", nil)) // shares the mount of the other server
	n.wantMounts(1, 1)

	down["10.0.0.1:/export/v2"] = volume.Errorf(volume.ErrUnavailable, "first is down")
	down["[fe80::2]:/export/v2"] = volume.Errorf(volume.ErrRefused, "second refuses")
	err := n.publish("c", v2)
	n.refused("both are down", err, volume.ErrUnavailable)
	if second := down["[fe80::2]:/export/v2"]; !errors.Is(err, second) {
		t.Errorf("%v is not in %v", second, err)
	}
	n.absent("pods/c")
	n.wantRecords(2)
}

// TestMovedShare changes the address of a share while a pod has a volume: that pod's mount stays, and
// the next pod gets a mount from the new address.
func TestMovedShare(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.registry = &volume.Registry{Shares: []volume.Share{{Name: "nas1", Servers: []string{"nas.example"}, Path: "/export"}}}
	n.must(n.publish("a", nil))
	n.wantMounts(1, 0)
	n.must(n.publish("b", nil))
	if e, _ := n.mounted("pods/b"); e.Source != "nas.example:/export/v1" {
		t.Errorf("mount = %+v", e)
	}
}

// TestPodGoes ends the pod whose mount is about to be shared.
func TestPodGoes(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.mounter.Fail = func(call, _ string) error {
		if call == "bind" {
			return errors.New("it is gone")
		}
		return nil
	}
	n.must(n.publish("b", nil))
	n.wantMounts(2, 0)
}

// TestFailedMount checks that a failed mount leaves no directory, which kubelet would take for the volume.
func TestFailedMount(t *testing.T) {
	n := newNode(t)
	wrong := errors.New("no")
	n.mounter.Fail = func(call, _ string) error {
		if call == "mount" {
			return wrong
		}
		return nil
	}
	if err := n.publish("a", nil); !errors.Is(err, wrong) {
		t.Errorf("error of a failed mount = %v", err)
	}
	n.absent("pods/a")
	n.wantRecords(0)
	n.mounter.Fail = nil
	n.must(os.Mkdir(n.at("pods/a"), 0o755)) // kubelet may have made it
	n.must(n.publish("a", nil))
}

// TestLinkedDirectory publishes at a target whose parent is a symbolic link.
func TestLinkedDirectory(t *testing.T) {
	n := newNode(t)
	n.must(os.Symlink("pods", n.at("linked")))
	linked := func(r *volume.PublishRequest) { r.Target = n.at("linked/a") }
	for range 2 {
		n.must(n.publish("", linked))
	}
	n.wantMounts(1, 0)
	if _, err := n.Health.Usage(context.Background(), "nas1/v1", n.at("linked/a")); err != nil {
		t.Errorf("usage: %v", err)
	}
	n.must(n.Pods.Unpublish(context.Background(), "nas1/v1", n.at("linked/a")))
	n.absent("pods/a")
	if table, err := n.mounter.Table(); err != nil || len(table) > 0 {
		t.Errorf("table = %+v, %v, want none", table, err)
	}
}

// TestStateLost removes and damages the state directory: pods still start and end.
func TestStateLost(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.must(os.RemoveAll(n.at("state")))
	n.must(n.publish("b", nil))
	n.wantMounts(1, 1)
	n.must(n.unpublish("a"))
	n.must(n.unpublish("b"))
	n.must(os.Mkdir(n.at("state"), 0o700))
	n.must(os.WriteFile(n.at("state/"+viewPrefix+"00.json"), nil, 0o600))
	n.Service = n.service(n.mounter)
	n.must(n.publish("a", nil))
}
