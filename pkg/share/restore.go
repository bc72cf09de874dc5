// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// Restore brings a deleted volume back, as the directory that it was, or as directory if that is
// not "". It is a creation whose tree comes from the trash. A retry of an interrupted Restore
// undoes that first, which moves the tree into the trash again. If the volume has already been
// restored from this entry, Restore returns its record.
//
//	make the entry, claim the directory, make it, empty
//	take the tree out of the trash    trash/<key>.<nonce>  -> entry/stage/tree
//	begin to place it                 entry/making.json    -> entry/placing.json
//	put it in its place               entry/stage/tree     -> <directory>
//	remove the old record from the trash
//	commit                            entry/placing.json   -> entry/record.json
func (v *Volumes) Restore(ctx context.Context, t TrashEntry, directory string) (r *volume.Record, err error) {
	defer v.wrapError(&err, "restore volume %s", t.Key)
	if err := v.checkUsable(ctx); err != nil {
		return nil, err
	}
	if directory != "" {
		if err := volume.CheckDirectory(directory); err != nil {
			return nil, err
		}
	}
	if t, err = v.moveToTrash(ctx, t); err != nil {
		return nil, err
	}
	r, err = v.trash.readRestorable(t)
	if errors.Is(err, volume.ErrNotFound) {
		return v.lookupRestored(ctx, t.Key, t.Name, err)
	}
	if err != nil {
		return nil, err
	}
	was := owner{r.Key, r.Nonce}
	from := r.Directory
	r.Restored = &volume.Restored{Entry: t.Name, Deleted: t.Deleted, Due: t.Due}
	if directory != "" {
		r.Directory = directory
	}
	p, done, err := v.beginRestore(ctx, *r)
	if err != nil || done != nil {
		return done, err
	}
	if r, err = p.restore(ctx, from, was); err != nil {
		return nil, p.Fail(ctx, err)
	}
	return r, nil
}

// LookupRestored returns the record of a volume that was restored, when nothing of it is in the
// trash any more. ErrNotFound: there is none. It undoes an interrupted Restore: then the tree is in
// the trash again, and the error is ErrBusy.
func (v *Volumes) LookupRestored(ctx context.Context, key string) (r *volume.Record, err error) {
	defer v.wrapError(&err, "restore volume %s", key)
	return v.lookupRestored(ctx, key, "", volume.Errorf(volume.ErrNotFound, "volume %s exists, and nothing of it is in the trash", key))
}

// lookupRestored returns the volume that was restored from the trash entry with this name ("":
// any). none is the error to return if there is no such volume.
func (v *Volumes) lookupRestored(ctx context.Context, key, name string, none error) (*volume.Record, error) {
	found, err := v.Lookup(ctx, key)
	if errors.Is(err, volume.ErrNotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	if found.Restored == nil || name != "" && found.Restored.Entry != name {
		return nil, none
	}
	switch found.State {
	case Ready:
		return &found.Record, nil
	case Making, Aborting:
		if err := v.AbortAbandoned(ctx, found); err != nil {
			return nil, err
		}
		return nil, busy("the restore of volume %s was interrupted, and was undone: it is in the trash as %s",
			key, volume.TrashID(volume.TrashVolume, key, found.Nonce))
	}
	return nil, none
}

// beginRestore begins the creation of a volume that is restored, after it has undone an interrupted
// one. done is the volume if another process has just restored it.
func (v *Volumes) beginRestore(ctx context.Context, r volume.Record) (p *Pending, done *volume.Record, err error) {
	for range retries {
		p, found, err := v.Begin(ctx, r)
		if err != nil || p != nil {
			return p, nil, err
		}
		if found.State == Making || found.State == Aborting {
			if err := v.AbortAbandoned(ctx, found); err != nil {
				return nil, nil, err
			}
			continue
		}
		from := found.Restored
		if found.State == Ready && from != nil && from.Entry == r.Restored.Entry {
			return nil, &found.Record, nil
		}
		if there, err := v.trash.hasTree(r.Restored.Entry); err != nil || !there {
			return nil, nil, firstError(err, busy("volume %s was just restored by another process", r.Key))
		}
		return nil, nil, volume.Errorf(volume.ErrPrecondition, "there is a volume %s, which is not the one in the trash as %s", r.Key, r.Restored.Entry)
	}
	return nil, nil, busy("volume %s is created and deleted again and again", r.Key)
}

// restore does the steps after the first. from is the directory that the volume had, was its owner.
func (p *Pending) restore(ctx context.Context, from string, was owner) (*volume.Record, error) {
	r := &p.rec
	if err := p.MakeDirectory(ctx); err != nil {
		return nil, err
	}
	if err := p.v.trash.stageTree(r.Restored.Entry, p.e); err != nil {
		return nil, err
	}
	if err := p.placeTree(); err != nil {
		return nil, err
	}
	// The deletion has left the directory of the claim to the purge, which will not happen now.
	if from != r.Directory {
		if err := p.v.claims.release(from, was); err != nil {
			return nil, err
		}
	}
	names, err := p.v.trash.records(r.Restored.Entry)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p.v.step("remove the record from the trash")
		if err := p.v.trash.removeRecord(name); err != nil {
			return nil, err
		}
	}
	return p.Commit(ctx)
}

// placeTree renames the staged tree over the volume's empty directory. Before that it renames the
// record, which fails if the creation is being undone: then nothing is placed any more. The new
// name of the record tells an undo that the tree in the place may be the staged one.
func (p *Pending) placeTree() error {
	parent, name := volume.SplitDirectory(p.rec.Directory)
	at, err := p.v.root.Resolve(parent)
	if err != nil {
		return err
	}
	defer at.Close()
	stage, err := p.e.dir.Resolve(stageName)
	if err != nil {
		return p.e.explainUndone(err)
	}
	defer stage.Close()
	p.v.step("begin to place the tree")
	if err := p.e.explainUndone(p.e.dir.Rename(makingFile, p.e.dir, placingFile)); err != nil {
		return err
	}
	p.placing = true
	p.v.step("rename the tree into its place")
	err = renameDir(p.v.disk, stage, treeName, at, name)
	if isNameTaken(err) {
		return occupiedError(&p.rec)
	}
	if p.rec.Restored != nil && refusedByProject(at, name, err) {
		return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be restored to %q: that directory has another project quota than the volume, and the server refuses to move a tree between them; choose another directory, or give the volume's tree in the trash itself the project of that place, on the server (docs/operate.md)", p.rec.Key, p.rec.Directory)
	}
	if isMissing(err) && isMissing(stage.Refresh()) {
		return p.e.explainUndone(err)
	}
	if err != nil {
		return err
	}
	_ = p.e.dir.Rmdir(stageName)
	return nil
}
