// SPDX-License-Identifier: Apache-2.0

// Package publish has the node's use cases. A volume is mounted once per node (stage), and
// each pod gets a bind of that mount (publish), which costs the server nothing.
//
// What is mounted is known from the mount table alone, which also survives a restart of the
// driver. A path that may be on a dead server is never looked at: an entry of the table says
// that there is a mount, and only where there is none is the plain local directory touched.
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
	"github.com/mooring-csi/mooring/pkg/volume"
)

// mountPatience bounds one mount(8). It ends before kubelet's two minutes do.
const mountPatience = 50 * time.Second

// nodeOptions have mount.nfs report a failure instead of trying for two minutes: kubelet
// tries again by itself (nfs(5), retry=).
var nodeOptions = []string{"retry=0"}

// Mounter is what is needed of package mount.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source, target string, readOnly bool) error
	Unmount(ctx context.Context, target string) error
	Table() (mount.Table, error)
}

// Usage tells how full a mounted volume is.
type Usage interface {
	Of(ctx context.Context, path string) (volume.Space, error)
	Forget(path string)
}

// Service does a node's work.
type Service struct {
	registry func() *volume.Registry
	mounter  Mounter
	usage    Usage
	locks    keylock.Set
}

// New returns a Service that finds shares in the registry in force.
func New(registry func() *volume.Registry, mounter Mounter, usage Usage) *Service {
	return &Service{registry: registry, mounter: mounter, usage: usage}
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

// Stage mounts a volume at its staging path. Mounted there already is success; something else
// mounted there is ErrIncompatible.
func (s *Service) Stage(ctx context.Context, r volume.Stage) error {
	def, err := s.registry().Resolve(r.Location.Share)
	if err != nil {
		return err
	}
	snapshot := volume.IsSnapshotDirectory(r.Location.Directory)
	if err := volume.CheckDirectory(r.Location.Directory); err != nil && !snapshot {
		return err
	}
	if err := volume.CheckMountOptions(r.Options); err != nil {
		return err
	}
	path, err := clean(r.Path)
	if err != nil {
		return err
	}
	unlock, err := s.lock(r.ID, path, true)
	if err != nil {
		return err
	}
	defer unlock()

	var sources []string
	for _, server := range def.Servers {
		sources = append(sources, def.Source(server, r.Location.Directory))
	}
	table, err := s.mounter.Table()
	if err != nil {
		return err
	}
	if e, mounted := table.At(path); mounted {
		if !slices.ContainsFunc(sources, func(source string) bool { return sameDirectory(source, e.Source) }) {
			return volume.Errorf(volume.ErrIncompatible, "volume %s cannot be staged at %s: %s is mounted there", r.ID, path, e.Source)
		}
		return nil
	}
	if err := makeDirectory(path, true); err != nil {
		return fmt.Errorf("stage volume %s: %w", r.ID, err)
	}
	options := volume.MergeMountOptions(nodeOptions, def.MountOptions, r.Options)
	if snapshot { // whatever the PV says
		options = volume.MergeMountOptions(options, []string{"ro"})
	}
	return s.mountFirst(ctx, r.ID, sources, path, options)
}

// sameDirectory reports whether two sources are the same directory of a server. Its name does
// not count: the kernel shows that by which it came to know the server first, and the share may
// have got another address since the volume was staged.
func sameDirectory(a, b string) bool {
	_, p, ok := volume.SplitExport(a)
	_, q, is := volume.SplitExport(b)
	return ok && is && p == q
}

// mountFirst mounts the first of the sources that can be.
func (s *Service) mountFirst(ctx context.Context, id string, sources []string, path string, options []string) error {
	var errs []error
	for _, source := range sources {
		each, cancel := context.WithTimeout(ctx, mountPatience/time.Duration(len(sources)))
		err := s.mounter.Mount(each, mount.Spec{Source: source, Target: path, Options: options})
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("stage volume %s: %w", id, errors.Join(errs...))
}

// Unstage unmounts a volume from its staging path. Nothing mounted there is success.
func (s *Service) Unstage(ctx context.Context, id, stagingPath string) error {
	path, err := clean(stagingPath)
	if err != nil {
		return err
	}
	unlock, err := s.lock(id, path, true)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.mounter.Unmount(ctx, path); err != nil {
		return fmt.Errorf("unstage volume %s: %w", id, err)
	}
	s.usage.Forget(path)
	return nil
}

// Publish shows a staged volume at a pod's target. Published there already in the same way
// is success; in another way it is ErrIncompatible.
func (s *Service) Publish(ctx context.Context, r volume.Publish) error {
	target, err := clean(r.Target)
	if err != nil {
		return err
	}
	staging, err := clean(r.StagingPath)
	if err != nil {
		return err
	}
	unlock, err := s.lock(r.ID, target, r.SingleWriter)
	if err != nil {
		return err
	}
	defer unlock()
	table, err := s.mounter.Table()
	if err != nil {
		return err
	}
	staged, ok := table.At(staging)
	if !ok {
		return volume.Errorf(volume.ErrConflict, "volume %s is not staged at %s: it has to be staged first", r.ID, staging)
	}
	if e, mounted := table.At(target); mounted {
		if e.Source != staged.Source || e.Device != staged.Device || e.ReadOnly() != (r.ReadOnly || staged.ReadOnly()) {
			return volume.Errorf(volume.ErrIncompatible, "volume %s cannot be published at %s: %s is mounted there, in another way", r.ID, target, e.Source)
		}
		return nil
	}
	if r.SingleWriter {
		for _, e := range table.Of(staged) {
			if e.Target != staging {
				return volume.Errorf(volume.ErrConflict, "volume %s is for a single pod, and is published at %s already", r.ID, e.Target)
			}
		}
	}
	if err := makeDirectory(target, false); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	if err := s.mounter.Bind(ctx, staging, target, r.ReadOnly); err != nil {
		_ = syscall.Rmdir(target) // empty, or it stays
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	return nil
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
	s.usage.Forget(path)
	// No mount is there any more: it is a local directory, and has to be empty. Not os.Remove,
	// which would take a file away that is not ours.
	if err := os.NewSyscallError("rmdir "+path, syscall.Rmdir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrConflict, "unpublish volume %s: the mount is gone, but its directory stays: %w", id, err)
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
	if _, mounted := table.At(path); !mounted {
		return volume.Space{}, volume.Errorf(volume.ErrNotFound, "volume %s is not mounted at %s", id, path)
	}
	return s.usage.Of(ctx, path)
}

// clean returns a path's canonical form. Only absolute ones will do.
func clean(path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", volume.Errorf(volume.ErrInvalid, "the path %q is not absolute", path)
	}
	return filepath.Clean(path), nil
}

// makeDirectory makes the directory at which something is to be mounted. Nothing is mounted
// there, so that looking at it is safe. A file or a link in its place is ErrConflict.
func makeDirectory(path string, parents bool) error {
	if parents {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return inTheWay(err)
		}
	}
	err := os.Mkdir(path, 0o750)
	if errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrConflict, "the parent of %s is not there: the orchestrator has to make it", path)
	}
	if !errors.Is(err, fs.ErrExist) {
		return inTheWay(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return volume.Errorf(volume.ErrConflict, "%s is not a directory (%s): remove it", path, info.Mode())
	}
	return nil
}

// inTheWay gives its kind to an error about a file that stands where a parent is to be.
func inTheWay(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return volume.Errorf(volume.ErrConflict, "%w: a file stands where a directory is to be: remove it", err)
	}
	return err
}
