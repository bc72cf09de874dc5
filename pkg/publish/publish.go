// SPDX-License-Identifier: Apache-2.0

// Package publish implements the use cases of a node: it mounts volumes for pods and unmounts them.
//
// A pod's view of a volume is a mount of its own, at the pod's target path. It is mounted from the
// server or, if another pod of this node has the volume with the same options, it is a bind mount of
// that pod's mount, which costs the server nothing. There is no staging. The kernel gives mounts of
// one export with the same options one superblock: what one pod writes, locks or removes, the others
// see at once.
//
// The mount table is the only source for what is mounted, and it survives a restart of the driver.
// The driver never accesses a path that may be on a dead server: an entry of the table says that
// there is a mount, and the driver touches the local directory only if there is none. A child process
// checks whether a mount still works (package probe). The driver does not mount from a server that
// does not answer: callers that need other servers would have to wait.
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

// healthyTTL is how long a mount that has worked can be shared with another pod without a new check.
const healthyTTL = 5 * time.Second

// Mounter is the part of package mount that a node needs.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error
	Restrict(target string) error
	Unmount(ctx context.Context, target string) error
	Table() (mount.Table, error)
}

// Prober checks servers and mounts: see probe.Mounts.
type Prober interface {
	Server(ctx context.Context, e probe.Endpoint) (took time.Duration, err error)
	Watch(ctx context.Context, e probe.Endpoint) (watched context.Context, stop context.CancelFunc)
	Query(ctx context.Context, m probe.Mount, fresh time.Duration) (probe.MountStatus, error)
	Usage(ctx context.Context, m probe.Mount) (volume.Space, error)
	MarkHealthy(path string)
	Forget(path string)
}

// Service has the use cases of a node.
type Service struct {
	Pods    *Pods
	Inlines *InlineVolumes
	Health  *Health
}

// New returns a Service that finds shares in the current registry. In the local directory dir it
// keeps a record of each mount (view-<hash>.json) and of each directory of an inline volume
// (inline-<hash>.json); the hash is the first 12 bytes of the target path's SHA-256, in hex. runChild
// executes a ChildRequest: ChildRunner.Do in production.
func New(registry func() *volume.Registry, mounter Mounter, probes Prober, dir string, runChild func(ctx context.Context, r ChildRequest) error) (*Service, error) {
	state, err := openState(dir)
	if err != nil {
		return nil, fmt.Errorf("open the node's state: %w", err)
	}
	table, err := mounter.Table()
	if err != nil {
		return nil, err
	}
	l := &nodeServices{registry: registry, mounter: mounter, probes: probes, state: state, views: loadViews(state, table), runChild: runChild}
	inlines := &InlineVolumes{nodeServices: l}
	return &Service{
		Pods:    &Pods{nodeServices: l, inlines: inlines},
		Inlines: inlines,
		Health:  &Health{nodeServices: l},
	}, nil
}

// nodeServices has what all use cases of a node share.
type nodeServices struct {
	registry func() *volume.Registry
	mounter  Mounter
	probes   Prober
	state    state
	views    *views
	locks    keylock.Set
	runChild func(ctx context.Context, r ChildRequest) error
}

// lock locks a volume, exclusively or for one of several pods, and the path, always exclusively.
// name identifies the volume whatever its id is.
func (l *nodeServices) lock(id, name, path string, exclusive bool) (func(), error) {
	try := l.locks.TryRLock
	if exclusive {
		try = l.locks.TryLock
	}
	busy := volume.Errorf(volume.ErrBusy, "an operation on volume %s is still under way on this node: try again", id)
	release, ok := try("volume " + name)
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

// probeMount returns the probe for an entry of the mount table.
func probeMount(e mount.Entry) probe.Mount {
	server, _, _ := volume.SplitExport(e.Source)
	return probe.Mount{
		Path: e.Target, Server: server, Endpoint: probe.EndpointOf(server, e.Super), ReadOnly: e.ReadOnly(),
		Superblock: e.Device, DirectoryID: e.Device + " " + e.Source + " " + e.Root,
	}
}
