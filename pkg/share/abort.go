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
	e    *entry
	r    *volume.Record
	made bool // this process knows that it has made the directory
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
		return !u.e.gone(), nil
	}
	return false, u.rollback()
}

// rollback takes away what was made for a creation that is marked as being undone, the claim
// last. The record goes through the trash, and is there until the claim is released: whoever
// purges the trash finishes that, should this process stop.
func (u undo) rollback() error {
	if !u.r.Shallow {
		if err := u.takeBack(); err != nil {
			return err
		}
	}
	deleted, due, err := u.times()
	if err != nil {
		return ignore(err, unix.ESTALE)
	}
	id := volume.TrashID(volume.TrashVolume, u.r.Key, u.r.Nonce)
	for _, name := range []string{abortFile, unplaceFile} {
		if _, err := u.trash.moveRecord(u.e, name, id, deleted, due.Sub(deleted)); err != nil {
			return err
		}
	}
	if err := u.e.finish(u.remains(u.r).rescue(u.e)); err != nil {
		return err
	}
	if err := u.remains(u.r).forget(); err != nil {
		return err
	}
	if there, err := u.trash.has(id); err != nil || there {
		return err // it was not brought back after all
	}
	return u.trash.removeRecord(volume.TrashRecordName(id, deleted, due))
}

// times returns the times that the record of an undone creation has in the trash: those which
// it had there, where it was to be brought back; else it is due at once.
func (u undo) times() (deleted, due time.Time, err error) {
	if u.r.Restored != nil {
		return u.r.Restored.Deleted, u.r.Restored.Due, nil
	}
	at, err := u.e.deletedAt()
	return at, at, err
}

// takeBack takes away what was made of a volume's directory, which it is safe to take: what was
// put in its place, the directory that was made there first, and what is staged. A directory
// that somebody else has made, or has put something into, stays.
func (u undo) takeBack() error {
	placed, err := u.e.staged().settle()
	if err != nil {
		return err
	}
	if !u.r.Adopted || u.r.Restored != nil {
		if err := u.takeDirectory(placed); err != nil {
			return err
		}
	}
	if err := u.e.staged().close(u.remains(u.r).rescue(u.e)); err != nil {
		return err
	}
	return u.e.leftovers().clearDir(treeName, u.e.leftovers().strayTree)
}

// takeDirectory takes the directory in the volume's place away, if it is the volume's.
func (u undo) takeDirectory(placed bool) error {
	has, err := u.claims.of(u.r.Directory)
	if err != nil || has != (owner{u.r.Key, u.r.Nonce}) {
		return err // the directory is made after the claim
	}
	parent, name := volume.SplitDirectory(u.r.Directory)
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
		return u.takeEmpty(at, name)
	}
	taken, err := u.e.has(treeName)
	if err != nil {
		return err
	}
	if !taken { // by another, who stopped
		if err := takeTree(u.e, at, name); err != nil {
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

// takeEmpty takes away the directory that was made for the volume, if it is still empty.
func (u undo) takeEmpty(at beneath.Dir, name string) error {
	d, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer d.Close()
	ours, err := beneath.Empty(d)
	if !u.made && err == nil {
		ours, err = u.claims.unused(d, u.r.Directory, owner{u.r.Key, u.r.Nonce})
	}
	if err != nil || !ours {
		return err
	}
	err = takeTree(u.e, at, name)
	if forbidden(at, name, err) {
		err = replaceEmpty(u.e, at, name)
		if taken(err) {
			return nil // somebody has put something into it
		}
		return err
	}
	if err != nil {
		return err
	}
	return dropTree(u.e, at, name)
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
// the last moment, or in its place, it is put back.
func dropTree(e *entry, at beneath.Dir, name string) error {
	e.step("remove the directory")
	err := beneath.RmdirCurrent(e.dir, treeName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		e.step("put the directory back")
		err = rename(e.disk, e.dir, treeName, at, name)
	}
	return ignore(err, unix.ENOENT)
}
