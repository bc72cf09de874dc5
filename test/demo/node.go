// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
)

// driverName is the program's default name.

// node is the program on a node, and kubelet, whose part the demo plays.
type node struct {
	*process
	kubelet string // instead of /var/lib/kubelet
}

// pod is a pod on a node, with one volume.
type pod struct {
	name, uid string
	claim     *claim
	node      *node
}

func newPod(name string, c *claim, n *node) *pod {
	return &pod{name: name, uid: uuid(), claim: c, node: n}
}

// volume returns kubelet's target of the volume.
func (p *pod) volume() string {
	return filepath.Join(p.node.kubelet, "pods", p.uid, "volumes/kubernetes.io~csi", p.claim.pv, "mount")
}

// start mounts the pod's volume with the calls of kubelet, in its order, and checks the mount.
func (p *pod) start(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(p.volume()), 0o750); err != nil {
		return err
	}
	_, err := p.node.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: p.claim.id, VolumeContext: p.claim.context,
		TargetPath: p.volume(), VolumeCapability: p.claim.capability(),
	})
	if err != nil {
		return fmt.Errorf("%s: NodePublishVolume: %w", p.node.name, err)
	}
	m, err := p.mount()
	if err != nil {
		return err
	}
	found := m.FSType + " " + m.Source
	return expect("what is mounted for pod "+p.name, "nfs4 "+p.source(), found)
}

// stop unpublishes the pod's volume.
func (p *pod) stop(ctx context.Context) error {
	_, err := p.node.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: p.claim.id, TargetPath: p.volume()})
	if err != nil {
		return fmt.Errorf("%s: NodeUnpublishVolume: %w", p.node.name, err)
	}
	if err := unmounted("mounts of pod "+p.name+" that are left", p.volume()); err != nil {
		return err
	}
	_, err = os.Lstat(p.volume())
	return expect("the pod's directory is gone after NodeUnpublishVolume", true, errors.Is(err, fs.ErrNotExist))
}

// source returns the expected source of the pod's mount.
func (p *pod) source() string { return lab.Server + ":" + export + "/" + p.claim.directory() }

// mount returns the mount of the pod; nil if there is none.
func (p *pod) mount() (mountinfo.Info, error) {
	mounts, err := mountsBeneath(p.volume())
	if err != nil || len(mounts) == 0 {
		return mountinfo.Info{Source: "nothing"}, err
	}
	return *mounts[0], nil
}

// noteMount shows the mount of the pod and its version of NFS.
func (p *pod) noteMount(n *note) (mountinfo.Info, error) {
	m, err := p.mount()
	for option := range strings.SplitSeq(m.VFSOptions, ",") {
		if version, ok := strings.CutPrefix(option, "vers="); ok {
			n.add("NFS %s mount of %s", version, filepath.Base(m.Source))
		}
	}
	return m, err
}

// write and read use the volume as the pod does. Written data is on the server when the file is closed, and
// a later open sees it (close-to-open).
func (p *pod) write(n *note, file, text string) error {
	n.add("%s on %s writes  %s", p.name, p.node.name, strings.TrimSpace(text))
	return os.WriteFile(filepath.Join(p.volume(), file), []byte(text), 0o644)
}

func (p *pod) read(n *note, file, want string) error {
	data, err := os.ReadFile(filepath.Join(p.volume(), file))
	if err != nil {
		return err
	}
	n.add("%s on %s reads   %s", p.name, p.node.name, strings.TrimSpace(string(data)))
	return expect("what pod "+p.name+" reads in "+file+" on "+p.node.name, strconv.Quote(want), strconv.Quote(string(data)))
}

// mountsBeneath returns the mounts at and under a path, the deepest first, from the kernel's table, without
// a request to the server.
func mountsBeneath(path string) ([]*mountinfo.Info, error) {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.Mountpoint != path && !strings.HasPrefix(m.Mountpoint, path+"/"), false
	})
	slices.Reverse(mounts)
	return mounts, err
}

// unmounted checks that nothing is mounted at a path or below it.
func unmounted(what, path string) error {
	mounts, err := mountsBeneath(path)
	if err != nil {
		return err
	}
	var found []string
	for _, m := range mounts {
		found = append(found, m.Source+" at "+m.Mountpoint)
	}
	return expect(what, "", strings.Join(found, "\n"))
}
