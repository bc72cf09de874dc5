// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Pods shows volumes to pods.
type Pods struct {
	*local
	stages  *Stages
	inlines *Inlines
}

// Publish shows a volume at a pod's target. Published there already in the same way is
// success; in another way it is ErrIncompatible. A stage that has gone stale is replaced
// first; one whose server does not answer is ErrUnavailable, so that neither pod nor kubelet
// begins to wait for it.
func (p *Pods) Publish(ctx context.Context, r volume.Publish) error {
	target, err := clean(r.Target)
	if err != nil {
		return err
	}
	r.Target = target
	if r.Inline != nil {
		return p.inlines.publish(ctx, r)
	}
	if r.StagingPath, err = clean(r.StagingPath); err != nil {
		return err
	}
	err = p.publish(ctx, r)
	if errors.Is(err, errRestage) {
		if err = p.stages.restage(ctx, r.ID, r.StagingPath); err == nil {
			err = p.publish(ctx, r)
		}
	}
	return err
}

// errRestage is why a publication has to wait for the stage to be mounted anew.
var errRestage = errors.New("its stage has to be mounted anew")

func (p *Pods) publish(ctx context.Context, r volume.Publish) error {
	unlock, err := p.lock(r.ID, r.Target, r.SingleWriter)
	if err != nil {
		return err
	}
	defer unlock()
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	stage, ok := table.At(r.StagingPath)
	var note staged
	noted, err := p.state.get(stagePrefix, r.StagingPath, &note)
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
	switch _, err := p.probes.Ask(ctx, probeOf(stage), fresh); {
	case errors.Is(err, unix.ESTALE) && noted:
		return errRestage
	case err != nil:
		return volume.Errorf(volume.ErrUnavailable, "publish volume %s of %s: %w; it is published when the server is back", r.ID, stage.Source, err)
	}
	if err := makeDirectory(r.Target, false); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	if err := p.mounter.Bind(ctx, r.StagingPath, r.Target, r.ReadOnly); err != nil {
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
func (p *Pods) Unpublish(ctx context.Context, id, target string) error {
	path, err := clean(target)
	if err != nil {
		return err
	}
	unlock, err := p.lock(id, path, false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.mounter.Unmount(ctx, path); err != nil {
		return fmt.Errorf("unpublish volume %s: %w", id, err)
	}
	p.probes.Forget(path)
	if err := p.inlines.leave(ctx, path); err != nil {
		return fmt.Errorf("unpublish volume %s: %w", id, err)
	}
	// No mount is there any more: it is a local directory, and has to be empty. Not os.Remove,
	// which would take a file away that is not ours.
	if err := os.NewSyscallError("rmdir "+path, syscall.Rmdir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrConflict, "unpublish volume %s: the mount is gone, but its directory stays (%w): remove what somebody has put into it", id, err)
	}
	return nil
}
