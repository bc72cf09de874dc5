// SPDX-License-Identifier: Apache-2.0

// Package publish has the node's use cases: it shows volumes to pods, and takes them away.
//
// A pod's view of a volume is a mount of its own, at the pod's target: mounted from the server, or,
// where another pod of this node has the volume in the same way, a second mount of what that one
// has, which costs the server nothing. There is no stage. The kernel gives mounts of one export with
// the same options one superblock: what one pod writes, locks or removes the others see at once.
//
// What is mounted is known from the mount table alone, which also survives a restart of the
// driver. A path that may be on a dead server is never looked at: an entry of the table says
// that there is a mount, and only where there is none is the plain local directory touched.
// Whether a mount still works is asked by a child (package probe), and a server that does not
// answer is not mounted from: who has to wait would be the one who asks for another server.
package publish

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/keylock"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// fresh is how recently a mount must have worked for another pod to get it unasked.
const fresh = 5 * time.Second

// Mounter is what is needed of package mount.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error
	Restrict(target string) error
	Unmount(ctx context.Context, target string) error
	Table() (mount.Table, error)
}

// Prober tells how servers and mounts are: see probe.Mounts.
type Prober interface {
	Server(ctx context.Context, e probe.Endpoint) (took time.Duration, err error)
	Watch(ctx context.Context, e probe.Endpoint) (watched context.Context, stop context.CancelFunc)
	Query(ctx context.Context, m probe.Mount, fresh time.Duration) (probe.MountStatus, error)
	Usage(ctx context.Context, m probe.Mount) (volume.Space, error)
	MarkHealthy(path string)
	Forget(path string)
}

// Service does a node's work.
type Service struct {
	Pods    *Pods
	Inlines *InlineVolumes
	Health  *Health
}

// New returns a Service that finds shares in the registry in force, and keeps its notes in
// the local directory dir. do does what a ChildRequest says: Children in production.
func New(registry func() *volume.Registry, mounter Mounter, probes Prober, dir string, do func(ctx context.Context, r ChildRequest) error) (*Service, error) {
	state, err := openState(dir)
	if err != nil {
		return nil, fmt.Errorf("open the node's state: %w", err)
	}
	table, err := mounter.Table()
	if err != nil {
		return nil, err
	}
	l := &local{registry: registry, mounter: mounter, probes: probes, state: state, views: loadViews(state, table), do: do}
	inlines := &InlineVolumes{local: l}
	return &Service{
		Pods:    &Pods{local: l, inlines: inlines},
		Inlines: inlines,
		Health:  &Health{local: l},
	}, nil
}

// local is what there is on a node for all that is done with its mounts.
type local struct {
	registry func() *volume.Registry
	mounter  Mounter
	probes   Prober
	state    state
	views    *views
	locks    keylock.Set
	do       func(ctx context.Context, r ChildRequest) error
}

// lock takes a volume for one who is to be its only pod, or for one of several, and the path for
// one. of is what the volume is, by whatever id.
func (l *local) lock(id, of, path string, exclusive bool) (func(), error) {
	try := l.locks.TryRLock
	if exclusive {
		try = l.locks.TryLock
	}
	busy := volume.Errorf(volume.ErrBusy, "an operation on volume %s is still under way on this node: try again", id)
	release, ok := try("volume " + of)
	if !ok {
		return nil, busy
	}
	releasePath, ok := l.locks.TryLock("path " + path)
	if !ok {
		release()
		return nil, busy
	}
	return func() { releasePath(); release() }, nil
}

// probeOf returns how to ask about an entry of the mount table.
func probeOf(e mount.Entry) probe.Mount {
	server, _, _ := volume.SplitExport(e.Source)
	return probe.Mount{
		Path: e.Target, Server: server, Endpoint: probe.EndpointOf(server, e.Super), ReadOnly: e.ReadOnly(),
		Superblock: e.Device, DirectoryID: e.Device + " " + e.Source + " " + e.Root,
	}
}
