// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// nodeVolumes is the number of volumes on a node. A pod has the last one all the time: as on a node with
// pods, the client's session and the share's superblock already exist. Without it they would come and go
// with each volume. Later volumes are not published before they are measured.
const nodeVolumes = 21

// node is a running node service. There is no controller beside it, so that all requests of the machine's
// NFS client are those of the node.
type node struct {
	*process
	b        *bench
	protocol string
	config   string
	export   string // the share's directory
	volumes  []*csi.Volume
	unseen   int // the first volume that neither the plugin nor the kernel has used
	load     int // number of its load pods
}

func newNode(b *bench, protocol string) *node {
	return &node{b: b, protocol: protocol, unseen: nodeVolumes}
}

// keeper is the pod that keeps the last volume.
const keeper = 999

// measure starts the node and measures its rows.
func (n *node) measure() (err error) {
	if n.process, err = start("node", n.b.path("node"+n.protocol), n.config, ""); err != nil {
		return err
	}
	if err = n.pods(keeper + 1); err == nil {
		err = n.publish(nodeVolumes-1, keeper)
	}
	if err == nil {
		err = n.b.measure(n.rows()...)
		err = errors.Join(err, n.loaded(0), n.unpublish(nodeVolumes-1, keeper))
	}
	return errors.Join(err, n.Stop())
}

func (n *node) target(i int) string { return n.b.path("pods", fmt.Sprint(i), "mount") }

// publish publishes volume i in a pod.
func (n *node) publish(i, pod int) error {
	ctx, cancel := call()
	defer cancel()
	v := n.volumes[i]
	_, err := n.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: v.GetVolumeId(), VolumeContext: v.GetVolumeContext(), VolumeCapability: lab.RWX(),
		TargetPath: n.target(pod),
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

// rows returns the node's rows.
func (n *node) rows() []spec {
	row := func(operation, variant string, count int, prepare func(int) (func(int) error, func() error, error)) spec {
		s := spec{operation: operation, variant: variant, protocol: n.protocol, disk: "xfs", delays: []float64{0}, parallel: 1, n: count, on: n.process, prepare: prepare}
		if n.protocol == "4.2" {
			s.delays = append(s.delays, networkDelay)
		}
		return s
	}
	first := row("publish-first", "share in use on the node", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
		do, undo := n.firsts(n.see(count), count)
		return do, undo, n.pods(count)
	})
	if n.protocol != "4.2" {
		first.n /= 2
		return []spec{first}
	}
	all := []spec{
		first,
		row("publish-first", shownBefore, nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
			do, undo := n.firsts(0, count)
			return do, undo, errors.Join(n.pods(count), each(count, do), undo())
		}),
		row("unpublish-last", "", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
			return func(i int) error { return n.unpublish(i, i) }, nil,
				errors.Join(n.pods(count), each(count, func(i int) error { return n.publish(i, i) }))
		}),
		row("publish-second", "", 100, n.shown(func(pod int) error { return n.publish(0, pod) }, false)),
		row("unpublish", "", 100, n.shown(func(pod int) error { return n.unpublish(0, pod) }, true)),
		row("stats", "", 30, n.shown(func(pod int) error { return n.stats(0, pod) }, true)),
	}
	return slices.Concat(n.alone(row), all, n.loads())
}

// shownBefore is the case of volumes that the plugin has already mounted: see package publish.
const shownBefore = "a volume that the node has had before"

// see returns the first of a number of volumes that were never used on the node.
func (n *node) see(count int) int {
	first := n.unseen
	n.unseen += count
	return first
}

// firsts publishes each of the volumes from one on in a pod, and unpublishes it.
func (n *node) firsts(from, count int) (do func(int) error, undo func() error) {
	return func(i int) error { return n.publish(from+i, i) },
		func() error { return each(count, func(i int) error { return n.unpublish(from+i, i) }) }
}

// shown returns the preparation of a row about pods, from 0 on, that use volume 0: another pod has it, and
// optionally all of them.
func (n *node) shown(do func(pod int) error, published bool) func(int) (func(int) error, func() error, error) {
	return func(count int) (func(int) error, func() error, error) {
		err := n.pods(count + 1)
		if err == nil {
			err = n.publish(0, count)
		}
		if err == nil && published {
			err = each(count, func(pod int) error { return n.publish(0, pod) })
		}
		return do, func() error {
			return each(count+1, func(pod int) error { return n.unpublish(0, pod) })
		}, err
	}
}

// pods makes the directories that kubelet makes.
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
