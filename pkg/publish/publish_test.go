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

// TestLife does everything twice, as kubelet may.
func TestLife(t *testing.T) {
	n := newNode(t)
	for range 2 {
		n.must(n.stage("v1"))
	}
	n.did(1, 0)
	for range 2 {
		n.must(n.publish("a", nil))
		n.must(n.publish("b", func(r *volume.Publish) { r.ReadOnly = true }))
	}
	n.did(1, 2)
	for name, readOnly := range map[string]bool{"stage/v1": false, "pods/a": false, "pods/b": true} {
		if e, ok := n.mounted(name); !ok || e.Source != "10.0.0.1:/export/v1" || e.ReadOnly() != readOnly {
			t.Errorf("at %s there is %+v, %v", name, e, ok)
		}
	}
	if space, err := n.Health.Usage(context.Background(), "nas1/v1", n.at("pods")+"//a/"); err != nil || space.Total != 7 || n.probes.usage[0] != n.at("pods/a") {
		t.Errorf("the usage is %+v, %v, of %q", space, err, n.probes.usage)
	}

	for range 2 {
		n.must(n.unpublish("a"))
		n.must(n.unpublish("b"))
	}
	n.absent("pods/a")
	n.absent("pods/b")
	if _, ok := n.mounted("stage/v1"); !ok {
		t.Error("the stage went with the pods")
	}
	for range 2 {
		n.must(n.unstage("v1"))
	}
	if _, ok := n.mounted("stage/v1"); ok {
		t.Error("the stage is still mounted")
	}
	for _, path := range []string{"pods/a", "pods/b", "stage/v1"} {
		if !slices.Contains(n.probes.forgotten, n.at(path)) {
			t.Errorf("what was known of %s is kept: forgotten are only %q", path, n.probes.forgotten)
		}
	}
	n.must(n.stage("v1"))
	n.did(2, 2)
}

// TestUsageElsewhere has only what is mounted asked.
func TestUsageElsewhere(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	for _, path := range []string{n.at("pods"), n.at("none"), "relative", ""} {
		_, err := n.Health.Usage(context.Background(), "nas1/v1", path)
		n.refused("the usage at "+path, err, volume.ErrNotFound)
	}
}

// TestMountOptions has the share's options after ours and the volume's after the share's.
func TestMountOptions(t *testing.T) {
	n := newNode(t)
	var got mount.Spec
	spy := &spy{Mounter: n.mounter, mount: func(s mount.Spec) error { got = s; return nil }}
	s := n.service(spy)
	n.must(s.Stages.Stage(context.Background(), volume.Stage{
		ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: "v1"}, Path: n.at("stage/v1/"), Options: []string{"nfsvers=3,nolock"},
	}))
	want := mount.Spec{Source: "10.0.0.1:/export/v1", Target: n.at("stage/v1"), Options: []string{"retry=0", "nosharecache", "nodev", "nfsvers=3", "nolock"}}
	if got.Source != want.Source || got.Target != want.Target || !slices.Equal(got.Options, want.Options) {
		t.Errorf("what is mounted is %+v, want %+v", got, want)
	}
}

// TestSnapshotDirectory has a volume that is a snapshot itself be staged read-only, whatever
// the options say, and so for every pod; and nothing else beneath Mooring's directory.
func TestSnapshotDirectory(t *testing.T) {
	for what, options := range map[string][]string{"nothing": nil, "rw": {"rw"}, "both": {"ro", "rw"}, "with others": {"nodev,rw,noatime"}} {
		n := newNode(t)
		n.registry.Shares[0].MountOptions = append(n.registry.Shares[0].MountOptions, "rw")
		dir := volume.SnapshotDirectory("s1")
		n.must(os.MkdirAll(n.at("root/export/"+dir), 0o755))
		var got mount.Spec
		spy := &spy{Mounter: n.mounter, mount: func(s mount.Spec) error { got = s; return nil }}
		n.Service = n.service(spy)
		stage := func(directory string) error {
			return n.Stages.Stage(context.Background(), volume.Stage{
				ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: directory}, Path: n.at("stage/v1"), Options: options,
			})
		}
		for _, directory := range []string{".mooring", ".mooring/snapshots", ".mooring/snapshots/s1", dir + "/deeper", ".mooring/snapshots/../data"} {
			n.refused(directory, stage(directory), volume.ErrInvalid)
		}
		n.must(stage(dir))
		if !slices.Contains(got.Options, "ro") || slices.Contains(got.Options, "rw") {
			t.Errorf("%s: it is mounted with %q", what, got.Options)
		}
		n.must(n.publish("a", nil))
		for _, at := range []string{"stage/v1", "pods/a"} {
			if e, ok := n.mounted(at); !ok || !e.ReadOnly() || e.Source != "10.0.0.1:/export/"+dir {
				t.Errorf("%s: at %s there is %+v, %v", what, at, e, ok)
			}
		}
	}
}

// spy is a Mounter whose mounts are looked at first.
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

// TestServers has a share of two servers, of which the first that can be mounted is taken.
func TestServers(t *testing.T) {
	n := newNode(t)
	n.registry.Shares[0].Servers = []string{"10.0.0.1", "fe80::2"}
	down := map[string]error{"10.0.0.1:/export/v1": volume.Errorf(volume.ErrUnavailable, "first is down")}
	spy := &spy{Mounter: n.mounter, mount: func(s mount.Spec) error { return down[s.Source] }}
	n.Service = n.service(spy)

	n.must(n.stage("v1"))
	if e, _ := n.mounted("stage/v1"); e.Source != "[fe80::2]:/export/v1" {
		t.Errorf("mounted is %+v", e)
	}
	n.must(n.stage("v1")) // a mount of the other server is as good
	n.did(1, 0)

	down["10.0.0.1:/export/v2"] = volume.Errorf(volume.ErrUnavailable, "first is down")
	down["[fe80::2]:/export/v2"] = volume.Errorf(volume.ErrRefused, "second refuses")
	err := n.stage("v2")
	n.refused("both are down", err, volume.ErrUnavailable)
	if second := down["[fe80::2]:/export/v2"]; !errors.Is(err, second) {
		t.Errorf("%v is not in %v", second, err)
	}
}

// TestMovedShare has a share get another address while a volume is staged: the mount stays good.
func TestMovedShare(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	n.registry = &volume.Registry{Shares: []volume.Share{{Name: "nas1", Servers: []string{"nas.example"}, Path: "/export"}}}
	n.must(n.stage("v1"))
	n.must(n.publish("a", nil))
	n.did(1, 1)
	n.must(n.unpublish("a"))
	n.must(n.unstage("v1"))
	n.must(n.stage("v1"))
	if e, _ := n.mounted("stage/v1"); e.Source != "nas.example:/export/v1" {
		t.Errorf("mounted is %+v", e)
	}
}

// TestFailedBind leaves no directory that kubelet would take for the volume.
func TestFailedBind(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	wrong := errors.New("no")
	n.mounter.Fail = func(call, _ string) error {
		if call == "bind" {
			return wrong
		}
		return nil
	}
	if err := n.publish("a", nil); !errors.Is(err, wrong) {
		t.Errorf("the error of a bind that failed is %v", err)
	}
	n.absent("pods/a")
	n.mounter.Fail = nil
	n.must(os.Mkdir(n.at("pods/a"), 0o755)) // some have made it already
	n.must(n.publish("a", nil))
}
