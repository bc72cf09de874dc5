// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// copyName is the name in an entry of a complete copy that cannot be renamed into its place because
// of a project quota.
const copyName = "copy"

// copyInPlace begins to copy a staged copy, which cannot be renamed into its place, once more: into
// the volume's directory, which has the project of its parent. The stage is renamed first: that
// rename excludes an undo. A record named placing.json with nothing in the stage says that an undo
// has to remove the whole directory in the volume's place.
func (p *Pending) copyInPlace(cause error) (*CopyJob, error) {
	parent, name := volume.SplitDirectory(p.rec.Directory)
	at, err := p.v.root.Resolve(parent)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if !refusedByProject(at, name, cause) {
		return nil, cause
	}
	// An undo has to be able to move the directory. While it is empty that can be tested.
	if err := moveTreeToEntry(p.e, at, name); err != nil {
		return nil, explainUnmovable(&p.rec, err)
	}
	p.v.step("put the directory back")
	if err := renameDir(p.v.disk, p.e.dir, treeName, at, name); err != nil {
		return nil, p.e.explainUndone(err)
	}
	into, err := at.Resolve(name)
	if err != nil {
		return nil, err
	}
	old := p.copy.sourceDir
	p.copy.sourceDir, p.copy.targetDir = p.copy.targetDir, into
	closeAll(old)
	if empty, err := beneath.IsEmpty(into); err != nil || !empty {
		return nil, firstError(err, occupiedError(&p.rec))
	}
	stage, err := p.e.dir.Resolve(stageName)
	if err != nil {
		return nil, p.e.explainUndone(err)
	}
	defer stage.Close()
	p.v.step("set the copy aside")
	if err := stage.Rename(treeName, p.e.dir, copyName); err != nil {
		return nil, p.e.explainUndone(err)
	}
	// The rename into the entry succeeded: so the directory found before it is the volume's.
	p.copy.inPlace = true
	_ = p.e.dir.Rmdir(stageName)
	return p.copy, nil
}

// commitInPlace commits a volume whose directory was filled in its place.
func (p *Pending) commitInPlace(ctx context.Context) (*volume.Record, error) {
	if err := p.e.leftovers().discard(copyName); err != nil {
		return nil, err
	}
	return p.Commit(ctx)
}

// occupiedError is the error for a new volume whose directory is not empty any more.
func occupiedError(r *volume.Record) error {
	return volume.Errorf(volume.ErrPrecondition, "something was put into the directory %q while volume %s was being created in it: remove it there, and try again", r.Directory, r.Key)
}

// explainUnmovable explains an EXDEV: two project quotas prevent the copy.
func explainUnmovable(r *volume.Record, err error) error {
	if !is(err, unix.EXDEV) {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be made from %s: the parent of %q has a project quota that new directories inherit, and %s has another: remove that one from %s on the server (docs/operate.md)", r.Key, r.Source, r.Directory, volume.StateDir, volume.StateDir)
}
