// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
)

// seat is a volume on a node: the pods' targets.
type seat struct {
	t          *testing.T
	node       *lab.Driver
	volume     *csi.Volume
	capability *csi.VolumeCapability
	dir        string // local, as kubelet makes it
}

// holder is a pod that keeps a volume on a node while other pods come and go.
const holder = "holder"

// seat returns the seat of a volume on a node, with the PV's mount options. Nothing is mounted yet.
func (s *site) seat(node *lab.Driver, v *csi.Volume, options ...string) *seat {
	s.t.Helper()
	dir, err := os.MkdirTemp(s.dir, "kubelet")
	if err != nil {
		s.t.Fatal(err)
	}
	return &seat{t: s.t, node: node, volume: v, capability: lab.RWX(options...), dir: dir}
}

// held returns a seat where a pod has the volume.
func (s *site) held(node *lab.Driver, v *csi.Volume, options ...string) *seat {
	s.t.Helper()
	at := s.seat(node, v, options...)
	at.must(at.hold())
	return at
}

func (a *seat) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *seat) target(pod string) string { return filepath.Join(a.dir, pod) }

func (a *seat) hold() error { return a.publish(holder, false) }

func (a *seat) release() error { return a.unpublish(holder) }

func (a *seat) publish(pod string, readOnly bool) error {
	_, err := a.node.Node.NodePublishVolume(soon(a.t), &csi.NodePublishVolumeRequest{
		VolumeId: a.volume.VolumeId, VolumeContext: a.volume.VolumeContext,
		TargetPath: a.target(pod), VolumeCapability: a.capability, Readonly: readOnly,
	})
	return err
}

func (a *seat) unpublish(pod string) error {
	_, err := a.node.Node.NodeUnpublishVolume(soon(a.t), &csi.NodeUnpublishVolumeRequest{VolumeId: a.volume.VolumeId, TargetPath: a.target(pod)})
	return err
}

func (a *seat) stats(path string) (*csi.NodeGetVolumeStatsResponse, error) {
	return a.node.Node.NodeGetVolumeStats(soon(a.t), &csi.NodeGetVolumeStatsRequest{VolumeId: a.volume.VolumeId, VolumePath: path})
}

// leave unpublishes the volume from all pods.
func (a *seat) leave(pods ...string) {
	a.t.Helper()
	for _, pod := range pods {
		a.must(a.unpublish(pod))
		if _, err := os.Lstat(a.target(pod)); !os.IsNotExist(err) {
			a.t.Errorf("the target of %s is still there: %v", pod, err)
		}
	}
	a.must(a.release())
	a.mounted()
}

// mounted checks that exactly these names under the seat's directory are mount points, each once.
func (a *seat) mounted(names ...string) {
	a.t.Helper()
	count := map[string]int{}
	for _, m := range mountsIn(a.t, a.dir) {
		name, _ := filepath.Rel(a.dir, m.Mountpoint)
		count[name]++
	}
	for _, name := range names {
		if count[name] != 1 {
			a.t.Errorf("%s is mounted %d times, not once", name, count[name])
		}
		delete(count, name)
	}
	if len(count) > 0 {
		a.t.Errorf("mounted, and should not be: %v", count)
	}
}

// mount returns the mount at path.
func (a *seat) mount(path string) *mountinfo.Info {
	a.t.Helper()
	for _, m := range mountsIn(a.t, path) {
		if m.Mountpoint == path {
			return m
		}
	}
	a.t.Fatalf("nothing is mounted at %s", path)
	return nil
}
