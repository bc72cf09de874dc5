// SPDX-License-Identifier: Apache-2.0

// Package publish has the node's use cases. A volume is mounted once per node (stage), and
// each pod gets a bind of that mount (publish), which costs the server nothing.
//
// What is mounted is known from the mount table alone, which also survives a restart of the
// driver. A path that may be on a dead server is never looked at: an entry of the table says
// that there is a mount, and only where there is none is the plain local directory touched.
// Whether a mount still works is asked by a child (package probe), and a server that does not
// answer is not mounted from: who has to wait would be the one who asks for another server.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/mooring-csi/mooring/pkg/keylock"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// fresh is how recently a mount must have worked for another pod to get it unasked.
const fresh = 5 * time.Second

// Mounter is what is needed of package mount.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source, target string, readOnly bool) error
	Unmount(ctx context.Context, target string) error
	Table() (mount.Table, error)
}

// Prober tells how servers and mounts are: see probe.Mounts.
type Prober interface {
	Server(ctx context.Context, e probe.Endpoint) (took time.Duration, err error)
	Watch(ctx context.Context, e probe.Endpoint) (watched context.Context, stop context.CancelFunc)
	Ask(ctx context.Context, m probe.Mount, fresh time.Duration) (probe.Answer, error)
	Usage(ctx context.Context, m probe.Mount) (volume.Space, error)
	Good(path string)
	Forget(path string)
}

// Service does a node's work.
type Service struct {
	registry func() *volume.Registry
	mounter  Mounter
	probes   Prober
	inline   func(ctx context.Context, r InlineRequest) error
	state    state
	locks    keylock.Set
}

// New returns a Service that finds shares in the registry in force, and keeps its notes in
// the local directory dir. inline does what an InlineRequest says: Children in production.
func New(registry func() *volume.Registry, mounter Mounter, probes Prober, dir string, inline func(ctx context.Context, r InlineRequest) error) (*Service, error) {
	state, err := openState(dir)
	if err != nil {
		return nil, fmt.Errorf("open the node's state: %w", err)
	}
	return &Service{registry: registry, mounter: mounter, probes: probes, inline: inline, state: state}, nil
}

// lock takes a volume for one who changes its stage, or for one of several who publish it,
// and the path for one.
func (s *Service) lock(id, path string, exclusive bool) (func(), error) {
	try := s.locks.TryRLock
	if exclusive {
		try = s.locks.TryLock
	}
	busy := volume.Errorf(volume.ErrBusy, "an operation on volume %s is still under way on this node: try again", id)
	release, ok := try("volume " + id)
	if !ok {
		return nil, busy
	}
	releasePath, ok := s.locks.TryLock("path " + path)
	if !ok {
		release()
		return nil, busy
	}
	return func() { releasePath(); release() }, nil
}

// probeOf returns how to ask about an entry of the mount table.
func probeOf(e mount.Entry) probe.Mount {
	server, _, _ := volume.SplitExport(e.Source)
	return probe.Mount{Path: e.Target, Server: server, Endpoint: probe.EndpointOf(server, e.Super), ReadOnly: e.ReadOnly()}
}

// Publish shows a volume at a pod's target. Published there already in the same way is
// success; in another way it is ErrIncompatible. A stage that has gone stale is replaced
// first; one whose server does not answer is ErrUnavailable, so that neither pod nor kubelet
// begins to wait for it.
func (s *Service) Publish(ctx context.Context, r volume.Publish) error {
	target, err := clean(r.Target)
	if err != nil {
		return err
	}
	r.Target = target
	if r.Inline != nil {
		return s.publishInline(ctx, r)
	}
	if r.StagingPath, err = clean(r.StagingPath); err != nil {
		return err
	}
	err = s.publish(ctx, r)
	if errors.Is(err, errRestage) {
		if err = s.restage(ctx, r.ID, r.StagingPath); err == nil {
			err = s.publish(ctx, r)
		}
	}
	return err
}

// errRestage is why a publication has to wait for the stage to be mounted anew.
var errRestage = errors.New("its stage has to be mounted anew")

func (s *Service) publish(ctx context.Context, r volume.Publish) error {
	unlock, err := s.lock(r.ID, r.Target, r.SingleWriter)
	if err != nil {
		return err
	}
	defer unlock()
	table, err := s.mounter.Table()
	if err != nil {
		return err
	}
	stage, ok := table.At(r.StagingPath)
	var note staged
	noted, err := s.state.get(stagePrefix, r.StagingPath, &note)
	switch {
	case err != nil:
		return err
	case !ok && noted && note.ID == r.ID:
		return errRestage // somebody, or a crash, took the mount away
	case !ok:
		return volume.Errorf(volume.ErrConflict, "volume %s is not staged at %s: it has to be staged first", r.ID, r.StagingPath)
	}
	if e, mounted := table.At(r.Target); mounted {
		if e.ReadOnly() != (r.ReadOnly || stage.ReadOnly()) || !shows(e, stage, note) {
			return volume.Errorf(volume.ErrIncompatible, "volume %s cannot be published at %s: %s is mounted there, in another way", r.ID, r.Target, e.Source)
		}
		return nil
	}
	if r.SingleWriter {
		for _, e := range table {
			if e.Target != r.StagingPath && shows(e, stage, note) {
				return volume.Errorf(volume.ErrConflict, "volume %s is for a single pod, and is published at %s already", r.ID, e.Target)
			}
		}
	}
	switch _, err := s.probes.Ask(ctx, probeOf(stage), fresh); {
	case errors.Is(err, unix.ESTALE) && noted:
		return errRestage
	case err != nil:
		return volume.Errorf(volume.ErrUnavailable, "publish volume %s of %s: %w; it is published when the server is back", r.ID, stage.Source, err)
	}
	if err := makeDirectory(r.Target, false); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	if err := s.mounter.Bind(ctx, r.StagingPath, r.Target, r.ReadOnly); err != nil {
		_ = syscall.Rmdir(r.Target) // empty, or it stays
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	return nil
}

// shows reports whether e is of the stage's mount, or of one before it that went stale.
func shows(e, stage mount.Entry, note staged) bool {
	return sameDirectory(e.Source, stage.Source) && (e.Device == stage.Device || slices.Contains(note.Earlier, e.Device))
}

// Unpublish takes a pod's view of a volume away, and the directory where it was. Nothing
// there is success.
func (s *Service) Unpublish(ctx context.Context, id, target string) error {
	path, err := clean(target)
	if err != nil {
		return err
	}
	unlock, err := s.lock(id, path, false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.mounter.Unmount(ctx, path); err != nil {
		return fmt.Errorf("unpublish volume %s: %w", id, err)
	}
	s.probes.Forget(path)
	if err := s.leaveInline(ctx, path); err != nil {
		return fmt.Errorf("unpublish volume %s: %w", id, err)
	}
	// No mount is there any more: it is a local directory, and has to be empty. Not os.Remove,
	// which would take a file away that is not ours.
	if err := os.NewSyscallError("rmdir "+path, syscall.Rmdir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrConflict, "unpublish volume %s: the mount is gone, but its directory stays (%w): remove what somebody has put into it", id, err)
	}
	return nil
}

// Usage tells how full a volume is that is mounted at path.
func (s *Service) Usage(ctx context.Context, id, path string) (volume.Space, error) {
	path = filepath.Clean(path) // a relative one is not in the table
	table, err := s.mounter.Table()
	if err != nil {
		return volume.Space{}, err
	}
	e, mounted := table.At(path)
	if !mounted {
		return volume.Space{}, volume.Errorf(volume.ErrNotFound, "volume %s is not mounted at %s", id, path)
	}
	return s.probes.Usage(ctx, probeOf(e))
}
