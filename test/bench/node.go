// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// nodeVolumes is how many volumes a node is tried with. The last one stays staged throughout:
// as on a node with pods, the client's session and the share's superblock are there already.
// Without it they would come and go with each stage.
const nodeVolumes = 21

// node is a running node service. There is no controller beside it, so that all that the
// machine's NFS client asks is the node's.
type node struct {
	*process
	b        *bench
	protocol string
	config   string
	volumes  []*csi.Volume
}

func newNode(b *bench, protocol string) *node { return &node{b: b, protocol: protocol} }

func (n *node) kept() *csi.Volume { return n.volumes[len(n.volumes)-1] }

// measure starts the node and measures its rows.
func (n *node) measure() (err error) {
	if n.process, err = start("node", n.b.path("node"+n.protocol), n.config, ""); err != nil {
		return err
	}
	keep := n.b.path("kept", n.protocol)
	if err = n.stage(n.kept(), keep); err == nil {
		err = n.b.measure(n.rows()...)
		err = errors.Join(err, n.unstage(n.kept(), keep))
	}
	return errors.Join(err, n.Stop())
}

func (n *node) staging(i int) string { return n.b.path("staging", fmt.Sprint(i)) }

func (n *node) target(i int) string { return n.b.path("pods", fmt.Sprint(i), "mount") }

func (n *node) stage(v *csi.Volume, path string) error {
	ctx, cancel := call()
	defer cancel()
	_, err := n.Node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: v.GetVolumeId(), VolumeContext: v.GetVolumeContext(), StagingTargetPath: path, VolumeCapability: lab.RWX(),
	})
	return err
}

func (n *node) unstage(v *csi.Volume, path string) error {
	ctx, cancel := call()
	defer cancel()
	_, err := n.Node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: path})
	return err
}

// publish shows volume i, which is staged, to pod number pod.
func (n *node) publish(i, pod int) error {
	ctx, cancel := call()
	defer cancel()
	v := n.volumes[i]
	_, err := n.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.GetVolumeId(), VolumeContext: v.GetVolumeContext(), VolumeCapability: lab.RWX(),
		StagingTargetPath: n.staging(i), TargetPath: n.target(pod),
	})
	return err
}

func (n *node) unpublish(i, pod int) error {
	ctx, cancel := call()
	defer cancel()
	_, err := n.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: n.volumes[i].GetVolumeId(), TargetPath: n.target(pod)})
	return err
}

func (n *node) stats(i, pod int) error {
	ctx, cancel := call()
	defer cancel()
	_, err := n.Node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: n.volumes[i].GetVolumeId(), VolumePath: n.target(pod)})
	return err
}

func (n *node) stageAt(i int) error { return n.stage(n.volumes[i], n.staging(i)) }

func (n *node) unstageAt(i int) error { return n.unstage(n.volumes[i], n.staging(i)) }

// rows returns the node's rows.
func (n *node) rows() []spec {
	row := func(operation, variant string, count int, prepare func(int) (func(int) error, func() error, error)) spec {
		s := spec{operation: operation, variant: variant, protocol: n.protocol, disk: "xfs", delays: []float64{0}, parallel: 1, n: count, on: n.process, prepare: prepare}
		if n.protocol == "4.2" {
			s.delays = append(s.delays, networkDelay)
		}
		return s
	}
	stage := row("stage", "share in use on the node", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
		return n.stageAt, func() error { return each(count, n.unstageAt) }, nil
	})
	if n.protocol != "4.2" {
		stage.n /= 2
		return []spec{stage}
	}
	return []spec{
		stage,
		row("unstage", "", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
			return n.unstageAt, nil, each(count, n.stageAt)
		}),
		row("publish-first", "stage and publish", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
			return func(i int) error {
					if err := n.stageAt(i); err != nil {
						return err
					}
					return n.publish(i, i)
				}, func() error {
					return errors.Join(each(count, func(i int) error { return n.unpublish(i, i) }), each(count, n.unstageAt))
				}, n.pods(count)
		}),
		row("publish-second", "", 100, n.staged(func(pod int) error { return n.publish(0, pod) }, false)),
		row("unpublish", "", 100, n.staged(func(pod int) error { return n.unpublish(0, pod) }, true)),
		row("stats", "", 30, n.staged(func(pod int) error { return n.stats(0, pod) }, true)),
	}
}

// staged returns the preparation of a row about pods, from 0 on, that use volume 0: it is
// staged, another pod has it, and, if so wished, they all have it already.
func (n *node) staged(do func(pod int) error, published bool) func(int) (func(int) error, func() error, error) {
	return func(count int) (func(int) error, func() error, error) {
		err := n.pods(count + 1)
		if err == nil {
			err = n.stageAt(0)
		}
		if err == nil {
			err = n.publish(0, count)
		}
		if err == nil && published {
			err = each(count, func(pod int) error { return n.publish(0, pod) })
		}
		return do, func() error {
			return errors.Join(each(count+1, func(pod int) error { return n.unpublish(0, pod) }), n.unstageAt(0))
		}, err
	}
}

// pods makes the directories that kubelet would have made.
func (n *node) pods(count int) error {
	return each(count, func(pod int) error { return os.MkdirAll(filepath.Dir(n.target(pod)), 0o750) })
}

// each calls do with 0 to n-1, until one fails.
func each(n int, do func(int) error) error {
	for i := range n {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}
