// SPDX-License-Identifier: Apache-2.0

package share

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// undo undoes the creation of a volume: one of this process, or one that another process abandoned.
type undo struct {
	*Volumes
	e             *entry
	rec           *volume.Record
	madeDirectory bool // this process knows that it has made the directory
}

// run undoes the creation. It returns committed if the volume exists: then it is too late to undo.
//
// The first step decides: its rename and that of the commit have the same source, so one of them wins.
// From then on only processes that undo the creation work on the entry.
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

// rollback removes what was made for a creation that is marked as being undone, the claim last. The
// record moves through the trash and exists until the claim is released: if this process stops, a purge
// finishes the work.
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
	if err := u.e.remove(u.cleanup(u.rec).treeHandler(u.e)); err != nil {
		return err
	}
	if err := u.cleanup(u.rec).releaseReferences(); err != nil {
		return err
	}
	if exists, err := u.trash.hasTree(id); err != nil || exists {
		return err // the tree is in the trash again, and keeps its record
	}
	return u.trash.removeRecord(volume.TrashRecordName(id, deleted, due))
}

// trashTimes returns the times of the record of an undone creation in the trash. If the tree came from the
// trash, they are the times that it had there. Otherwise the record is due at once.
func (u undo) trashTimes() (deleted, due time.Time, err error) {
	if u.rec.Restored != nil {
		return u.rec.Restored.Deleted, u.rec.Restored.Due, nil
	}
	deletedAt, err := u.e.deletedAt()
	return deletedAt, deletedAt, err
}

// undoTree removes what is safe to remove of a volume's directory: the tree that was put in its place, the
// empty directory that was made there first, and the staged tree. A directory that somebody else has made
// or has put something into stays.
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

// undoDirectory removes the directory from the volume's place, if it is the volume's.
func (u undo) undoDirectory(placed bool) error {
	holder, err := u.claims.ownerOf(u.rec.Directory)
	if err != nil || holder != (owner{u.rec.Key, u.rec.Nonce}) {
		return err // without the claim, the directory was not made
	}
	parent, name := volume.SplitDirectory(u.rec.Directory)
	dir, err := u.root.Resolve(parent)
	if is(err, unix.ENOTDIR, unix.ELOOP, unix.EXDEV) && !placed {
		return nil // nothing was made there: the path leads elsewhere
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer dir.Close()
	if err := dir.Refresh(); err != nil {
		return err
	}
	if !placed {
		return u.removeEmptyDirectory(dir, name)
	}
	taken, err := u.e.has(treeName)
	if err != nil {
		return err
	}
	if !taken { // by another process, which stopped
		if err := moveTreeToEntry(u.e, dir, name); err != nil {
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

// removeEmptyDirectory removes the directory that was made for the volume, if it is still empty.
func (u undo) removeEmptyDirectory(dir beneath.Dir, name string) error {
	d, err := dir.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer d.Close()
	unused, err := u.isUnused(d)
	if err != nil || !unused {
		return err
	}
	err = moveTreeToEntry(u.e, dir, name)
	if refusedByProject(dir, name, err) {
		err = replaceEmpty(u.e, dir, name)
		if isNameTaken(err) {
			return nil // it is not empty any more
		}
		return err
	}
	if err != nil {
		return err
	}
	return removeEmptyTree(u.e, dir, name)
}

// isUnused reports whether a directory is empty and was made for the volume.
func (u undo) isUnused(d beneath.Dir) (bool, error) {
	empty, err := beneath.IsEmpty(d)
	if err != nil || u.madeDirectory {
		return empty, err
	}
	return u.claims.isUnused(d, u.rec.Directory, owner{u.rec.Key, u.rec.Nonce})
}

// moveTreeToEntry moves a volume's directory from its place into the entry. The entry is the fence: it is
// removed before the claim is released. So either the volume's own directory is moved, or nothing is.
func moveTreeToEntry(e *entry, dir beneath.Dir, name string) error {
	e.step("take the directory away")
	err := renameDir(e.disk, dir, name, e.dir, treeName)
	if is(err, unix.ENOENT) {
		// This client may have cached that, for the directory or for the entry.
		if err := dir.Refresh(); err != nil {
			return err
		}
		err = renameDir(e.disk, dir, name, e.dir, treeName)
	}
	if err != nil && e.isGone() {
		return busy("%s %s was deleted by another process", e.kind, e.key)
	}
	// The directory is gone. Or it was moved before, and what exists now belongs to somebody else and stays.
	return ignore(err, unix.ENOENT, unix.EEXIST, unix.ENOTEMPTY)
}

// removeEmptyTree removes an empty directory that was moved into the entry. If something was put into it
// at the last moment, or in its place, it is moved back.
func removeEmptyTree(e *entry, dir beneath.Dir, name string) error {
	e.step("remove the directory")
	err := beneath.RmdirCurrent(e.dir, treeName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		e.step("put the directory back")
		err = renameDir(e.disk, e.dir, treeName, dir, name)
	}
	return ignore(err, unix.ENOENT)
}
