// SPDX-License-Identifier: Apache-2.0

package share

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// undo undoes the creation of a volume: this process's own, or one that was abandoned.
type undo struct {
	*Volumes
	e             *entry
	rec           *volume.Record
	madeDirectory bool // this process knows that it has made the directory
}

// run does it. committed: it was too late.
//
// The first step decides. Its rename and that of the commit have the same source, and one of
// them wins. From there on nobody but those who undo works on the entry.
func (u undo) run() (committed bool, err error) {
	done, err := u.e.markAborted()
	if err != nil {
		return false, err
	}
	if !done {
		return !u.e.isGone(), nil
	}
	return false, u.rollback()
}

// rollback takes away what was made for a creation that is marked as being undone, the claim
// last. The record goes through the trash, and is there until the claim is released: whoever
// purges the trash finishes that, should this process stop.
func (u undo) rollback() error {
	if !u.rec.Shallow {
		if err := u.undoTree(); err != nil {
			return err
		}
	}
	deleted, due, err := u.trashTimes()
	if err != nil {
		return ignore(err, unix.ESTALE)
	}
	id := volume.TrashID(volume.TrashVolume, u.rec.Key, u.rec.Nonce)
	for _, name := range []string{abortFile, unplaceFile} {
		if _, err := u.trash.moveRecord(u.e, name, id, deleted, due.Sub(deleted)); err != nil {
			return err
		}
	}
	if err := u.e.removeEntry(u.cleanup(u.rec).treeHandler(u.e)); err != nil {
		return err
	}
	if err := u.cleanup(u.rec).releaseReferences(); err != nil {
		return err
	}
	if there, err := u.trash.hasTree(id); err != nil || there {
		return err // it was not brought back after all
	}
	return u.trash.removeRecord(volume.TrashRecordName(id, deleted, due))
}

// trashTimes returns the times that the record of an undone creation has in the trash: those which
// it had there, where it was to be brought back; else it is due at once.
func (u undo) trashTimes() (deleted, due time.Time, err error) {
	if u.rec.Restored != nil {
		return u.rec.Restored.Deleted, u.rec.Restored.Due, nil
	}
	at, err := u.e.deletedAt()
	return at, at, err
}

// undoTree takes away what was made of a volume's directory, which it is safe to take: what was
// put in its place, the directory that was made there first, and what is staged. A directory
// that somebody else has made, or has put something into, stays.
func (u undo) undoTree() error {
	placed, err := u.e.stagedTree().preventPlacing()
	if err != nil {
		return err
	}
	if !u.rec.Adopted || u.rec.Restored != nil {
		if err := u.undoDirectory(placed); err != nil {
			return err
		}
	}
	if err := u.e.stagedTree().close(u.cleanup(u.rec).treeHandler(u.e)); err != nil {
		return err
	}
	return u.e.leftovers().clearDir(treeName, u.e.leftovers().removeTree)
}

// undoDirectory takes the directory in the volume's place away, if it is the volume's.
func (u undo) undoDirectory(placed bool) error {
	has, err := u.claims.ownerOf(u.rec.Directory)
	if err != nil || has != (owner{u.rec.Key, u.rec.Nonce}) {
		return err // the directory is made after the claim
	}
	parent, name := volume.SplitDirectory(u.rec.Directory)
	at, err := u.root.Resolve(parent)
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
		return u.removeEmptyDirectory(at, name)
	}
	taken, err := u.e.has(treeName)
	if err != nil {
		return err
	}
	if !taken { // by another, who stopped
		if err := moveTreeToEntry(u.e, at, name); err != nil {
			return err
		}
	}
	u.e.step("take what was placed")
	if err := ignore(u.e.dir.Rename(treeName, u.e.dir, unstagedName), unix.ENOENT); err != nil {
		return err
	}
	u.e.step("note that nothing was placed")
	return ignore(u.e.dir.Rename(unplaceFile, u.e.dir, abortFile), unix.ENOENT)
}

// removeEmptyDirectory takes away the directory that was made for the volume, if it is still empty.
func (u undo) removeEmptyDirectory(at beneath.Dir, name string) error {
	d, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer d.Close()
	ours, err := beneath.IsEmpty(d)
	if !u.madeDirectory && err == nil {
		ours, err = u.claims.isUnused(d, u.rec.Directory, owner{u.rec.Key, u.rec.Nonce})
	}
	if err != nil || !ours {
		return err
	}
	err = moveTreeToEntry(u.e, at, name)
	if refusedByProject(at, name, err) {
		err = replaceEmpty(u.e, at, name)
		if isNameTaken(err) {
			return nil // somebody has put something into it
		}
		return err
	}
	if err != nil {
		return err
	}
	return removeEmptyTree(u.e, at, name)
}

// moveTreeToEntry takes a volume's directory away from its place, into the entry. The entry is the
// fence: it is removed before the claim is released, so what is taken is the volume's, or
// nothing is.
func moveTreeToEntry(e *entry, at beneath.Dir, name string) error {
	e.step("take the directory away")
	err := renameDir(e.disk, at, name, e.dir, treeName)
	if is(err, unix.ENOENT) {
		// That may be this client's memory, of the directory or of the entry.
		if err := at.Refresh(); err != nil {
			return err
		}
		err = renameDir(e.disk, at, name, e.dir, treeName)
	}
	if err == nil {
		return nil
	}
	if e.isGone() {
		return busy("%s %s was deleted by another", e.kind, e.key)
	}
	// Gone; or taken before, and what is there now is somebody else's, and stays.
	return ignore(err, unix.ENOENT, unix.EEXIST, unix.ENOTEMPTY)
}

// removeEmptyTree removes a directory that was taken away empty. If something has come into it in
// the last moment, or in its place, it is put back.
func removeEmptyTree(e *entry, at beneath.Dir, name string) error {
	e.step("remove the directory")
	err := beneath.RmdirCurrent(e.dir, treeName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		e.step("put the directory back")
		err = renameDir(e.disk, e.dir, treeName, at, name)
	}
	return ignore(err, unix.ENOENT)
}
