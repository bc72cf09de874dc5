// SPDX-License-Identifier: Apache-2.0

package share

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// abort undoes the creation of a volume: this process's own, or one that was abandoned. made:
// this process knows that it has made the directory. committed: it was too late.
//
// The first step decides. Its rename and that of the commit have the same source, and one of
// them wins. From there on nobody but those who undo works on the entry.
func (v *Volumes) abort(e *entry, r *volume.Record, made bool) (committed bool, err error) {
	done, err := e.markAborted()
	if err != nil {
		return false, err
	}
	if !done {
		return !e.gone(), nil
	}
	return false, v.rollback(e, r, made)
}

// rollback takes away what was made for a creation that is marked as being undone, the claim
// last. The record goes through the trash, and is there until the claim is released: whoever
// purges the trash finishes that, should this process stop.
func (v *Volumes) rollback(e *entry, r *volume.Record, made bool) error {
	if !r.Shallow {
		if err := v.takeBack(e, r, made); err != nil {
			return err
		}
	}
	deleted, due, err := v.undoneAt(e, r)
	if err != nil {
		return ignore(err, unix.ESTALE)
	}
	id := volume.TrashID(volume.TrashVolume, r.Key, r.Nonce)
	for _, name := range []string{abortFile, unplaceFile} {
		if _, err := v.trash.moveRecord(e, name, id, deleted, due.Sub(deleted)); err != nil {
			return err
		}
	}
	if err := e.finish(v.rescue(e, r)); err != nil {
		return err
	}
	if err := v.forget(r); err != nil {
		return err
	}
	if there, err := v.trash.has(id); err != nil || there {
		return err // it was not brought back after all
	}
	return v.trash.removeRecord(volume.TrashRecordName(id, deleted, due))
}

// undoneAt returns the times that the record of an undone creation has in the trash: those which
// it had there, where it was to be brought back; else it is due at once.
func (v *Volumes) undoneAt(e *entry, r *volume.Record) (deleted, due time.Time, err error) {
	if r.Restored != nil {
		return r.Restored.Deleted, r.Restored.Due, nil
	}
	at, err := e.deletedAt()
	return at, at, err
}

// rescue returns what is done with the trees in the entry of a volume that is no more: what was
// to be brought back goes into the trash again, a copy that was not finished is purged.
func (v *Volumes) rescue(e *entry, r *volume.Record) func(name string) error {
	return func(name string) error {
		switch {
		case name == treeName: // somebody's who made one in the volume's place
			return e.leftovers().strayTree(name)
		case r.Restored != nil:
			_, err := v.trash.moveIn(e, name, volume.TrashID(volume.TrashVolume, r.Key, r.Nonce))
			return err
		}
		return e.leftovers().discard(name)
	}
}

// forget removes what names an incarnation of a volume whose entry is dead: its claim, its
// hold on the snapshot that it was, its job.
func (v *Volumes) forget(r *volume.Record) error {
	if r.Shallow {
		return v.snapshots.dropHold(r.Source.Key, userName(r))
	}
	if r.Source != nil {
		if err := v.forgetCopy(r); err != nil {
			return err
		}
	}
	return v.claims.release(r.Directory, owner{r.Key, r.Nonce})
}

// forgetCopy removes what a copy that was not finished has left elsewhere.
func (v *Volumes) forgetCopy(r *volume.Record) error {
	target := volume.Object{Kind: volume.OfVolume, Key: r.Key}
	v.jobs.remove(jobName(target, r.Nonce))
	if r.Source.Share != v.def.Name {
		return nil // it is abandoned there, and found so
	}
	from := v.table
	if r.Source.Kind == volume.OfSnapshot {
		from = v.snapshots.table
	}
	return from.dropHold(r.Source.Key, holdName(target, r.Nonce))
}

// takeBack takes away what was made of a volume's directory, which it is safe to take: what was
// put in its place, the directory that was made there first, and what is staged. A directory
// that somebody else has made, or has put something into, stays.
func (v *Volumes) takeBack(e *entry, r *volume.Record, made bool) error {
	placed, err := e.staged().settle()
	if err != nil {
		return err
	}
	if !r.Adopted || r.Restored != nil {
		if err := v.takeDirectory(e, r, made, placed); err != nil {
			return err
		}
	}
	if err := e.staged().close(v.rescue(e, r)); err != nil {
		return err
	}
	return e.leftovers().clearDir(treeName, e.leftovers().strayTree)
}

// has reports whether there is something of a name in the entry.
func (e *entry) has(name string) (bool, error) {
	_, err := e.dir.Stat(name)
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	return true, nil
}

// takeDirectory takes the directory in the volume's place away, if it is the volume's.
func (v *Volumes) takeDirectory(e *entry, r *volume.Record, made, placed bool) error {
	has, err := v.claims.of(r.Directory)
	if err != nil || has != (owner{r.Key, r.Nonce}) {
		return err // the directory is made after the claim
	}
	parent, name := volume.SplitDirectory(r.Directory)
	at, err := v.root.Resolve(parent)
	if is(err, unix.ENOTDIR, unix.ELOOP, unix.EXDEV) && !placed {
		return nil // nothing was made there: it leads elsewhere
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer at.Close()
	if err := at.Refresh(); err != nil {
		return err
	}
	if !placed {
		return v.takeEmpty(e, r, made, at, name)
	}
	taken, err := e.has(treeName)
	if err != nil {
		return err
	}
	if !taken { // by another, who stopped
		if err := takeTree(e, at, name); err != nil {
			return err
		}
	}
	e.step("take what was placed")
	if err := ignore(e.dir.Rename(treeName, e.dir, unstagedName), unix.ENOENT); err != nil {
		return err
	}
	e.step("note that nothing was placed")
	return ignore(e.dir.Rename(unplaceFile, e.dir, abortFile), unix.ENOENT)
}

// takeEmpty takes away the directory that was made for the volume, if it is still empty.
func (v *Volumes) takeEmpty(e *entry, r *volume.Record, made bool, at beneath.Dir, name string) error {
	d, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer d.Close()
	ours, err := beneath.Empty(d)
	if !made && err == nil {
		ours, err = v.claims.unused(d, r.Directory, owner{r.Key, r.Nonce})
	}
	if err != nil || !ours {
		return err
	}
	err = takeTree(e, at, name)
	if forbidden(at, name, err) {
		err = replaceEmpty(e, at, name)
		if taken(err) {
			return nil // somebody has put something into it
		}
		return err
	}
	if err != nil {
		return err
	}
	return dropTree(e, at, name)
}

// takeTree takes a volume's directory away from its place, into the entry. The entry is the
// fence: it is removed before the claim is released, so what is taken is the volume's, or
// nothing is.
func takeTree(e *entry, at beneath.Dir, name string) error {
	e.step("take the directory away")
	err := rename(e.disk, at, name, e.dir, treeName)
	if is(err, unix.ENOENT) {
		// That may be this client's memory, of the directory or of the entry.
		if err := at.Refresh(); err != nil {
			return err
		}
		err = rename(e.disk, at, name, e.dir, treeName)
	}
	if err == nil {
		return nil
	}
	if e.gone() {
		return busy("%s %s was deleted by another", e.kind, e.key)
	}
	// Gone; or taken before, and what is there now is somebody else's, and stays.
	return ignore(err, unix.ENOENT, unix.EEXIST, unix.ENOTEMPTY)
}

// dropTree removes a directory that was taken away empty. If something has come into it in
// the last moment it is put back.
func dropTree(e *entry, at beneath.Dir, name string) error {
	e.step("remove the directory")
	err := e.dir.Rmdir(treeName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		e.step("put the directory back")
		err = rename(e.disk, e.dir, treeName, at, name)
	}
	return ignore(err, unix.ENOENT)
}
