// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Stages mounts volumes, each once for the node.
type Stages struct {
	*local
}

// find resolves a stage against the registry in force.
func (s *Stages) find(location volume.Location, options []string) (target, error) {
	registry := s.registry()
	def, err := registry.Resolve(location.Share)
	if err != nil {
		return target{}, err
	}
	snapshot := volume.IsSnapshotDirectory(location.Directory)
	_, _, unregistered := volume.SplitExport(location.Share)
	// A whole export is somebody's who has written server and path into a PV himself. Where those that
	// are not registered are refused it is a share, and nobody gets all of that.
	if whole := location.Directory == "" && unregistered && registry.Unregistered; !whole && !snapshot {
		if err := volume.CheckDirectory(location.Directory); err != nil {
			return target{}, err
		}
	}
	if err := volume.CheckMountOptions(options); err != nil {
		return target{}, err
	}
	merged := volume.MergeMountOptions(nodeOptions, def.MountOptions, options)
	if snapshot { // whatever the PV says
		merged = volume.MergeMountOptions(merged, []string{"ro"})
	}
	return target{def, def.Servers, location.Directory, merged}, nil
}

// Stage mounts a volume at its staging path. Mounted there already is success, unless it has
// gone stale: then it is replaced. Something else mounted there is ErrIncompatible.
func (s *Stages) Stage(ctx context.Context, r volume.Stage) error {
	t, err := s.find(r.Location, r.Options)
	if err != nil {
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
	table, err := s.mounter.Table()
	if err != nil {
		return err
	}
	note := staged{ID: r.ID, Path: path, Location: r.Location, Options: r.Options}
	if e, mounted := table.At(path); mounted {
		if !t.is(e.Source) {
			return volume.Errorf(volume.ErrIncompatible, "volume %s cannot be staged at %s: %s is mounted there", r.ID, path, e.Source)
		}
		if _, err := s.probes.Ask(ctx, probeOf(e), fresh); errors.Is(err, unix.ESTALE) {
			return s.replace(ctx, e, note, t)
		}
		return nil
	}
	if err := makeDirectory(path, true); err != nil {
		return fmt.Errorf("stage volume %s: %w", r.ID, err)
	}
	err = s.stage(ctx, note, t)
	if err != nil {
		_ = s.state.drop(stagePrefix, path) // too many is better than too few
	}
	return err
}

// stage mounts from the first server that answers. The note comes before the mount: one that
// is too many has the volume mounted again, at worst, where it was to be.
func (s *Stages) stage(ctx context.Context, note staged, t target) error {
	err := s.eachServer(ctx, t, func(ctx context.Context, server string) error {
		note.Server = server
		if err := s.state.put(stagePrefix, note.Path, note); err != nil {
			return err
		}
		return s.mounter.Mount(ctx, mount.Spec{Source: t.share.Source(server, t.dir), Target: note.Path, Options: t.options})
	})
	if err != nil {
		return fmt.Errorf("stage volume %s, directory %q: %w", note.ID, t.dir, err)
	}
	s.probes.Good(note.Path)
	return nil
}

// replace takes a stale mount away and makes it anew. Pods that show it keep it, stale, until
// they end.
func (s *Stages) replace(ctx context.Context, stale mount.Entry, note staged, t target) error {
	var before staged
	if _, err := s.state.get(stagePrefix, note.Path, &before); err != nil {
		return err
	}
	note.Earlier = before.Earlier
	if stale.Target != "" {
		klog.FromContext(ctx).Info("A mount has gone stale and is replaced", "volume", note.ID, "source", stale.Source, "path", note.Path)
		if !slices.Contains(note.Earlier, stale.Device) {
			note.Earlier = append(note.Earlier[max(0, len(note.Earlier)-15):], stale.Device)
		}
		note.Server = before.Server
		if err := s.state.put(stagePrefix, note.Path, note); err != nil {
			return err
		}
		if err := s.mounter.Unmount(ctx, note.Path); err != nil {
			return fmt.Errorf("replace the stale mount of volume %s: %w", note.ID, err)
		}
		s.probes.Forget(note.Path)
	}
	return s.stage(ctx, note, t)
}

// restage mounts a volume anew, as it was staged, where its mount is stale or gone.
func (s *Stages) restage(ctx context.Context, id, path string) error {
	unlock, err := s.lock(id, path, true)
	if err != nil {
		return err
	}
	defer unlock()
	var note staged
	if ok, err := s.state.get(stagePrefix, path, &note); err != nil || !ok {
		return errors.Join(err, volume.Errorf(volume.ErrConflict, "volume %s is not staged at %s: it has to be staged first", id, path))
	}
	t, err := s.find(note.Location, note.Options)
	if err != nil {
		return err
	}
	table, err := s.mounter.Table()
	if err != nil {
		return err
	}
	e, mounted := table.At(path)
	if mounted {
		if _, err := s.probes.Ask(ctx, probeOf(e), fresh); !errors.Is(err, unix.ESTALE) {
			return nil // somebody else has just done it
		}
	}
	if err := makeStage(path, mounted); err != nil {
		return err
	}
	return s.replace(ctx, e, note, t)
}

// makeStage makes the staging directory where nothing is mounted on it.
func makeStage(path string, mounted bool) error {
	if mounted {
		return nil
	}
	return makeDirectory(path, true)
}

// Unstage unmounts a volume from its staging path. Nothing mounted there is success.
func (s *Stages) Unstage(ctx context.Context, id, stagingPath string) error {
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
	s.probes.Forget(path)
	if err := s.state.drop(stagePrefix, path); err != nil {
		return fmt.Errorf("unstage volume %s: %w", id, err)
	}
	return nil
}
