// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// emptyName is a directory in an entry that replaces one which cannot be renamed.
const emptyName = "empty"

// purgeInPlace purges the directory of a volume that is kept in its place, and removes its record from the
// entry, so that the entry can be removed.
//
// It removes the directory's content through the directory's handle, which reaches no other directory, no
// matter when. The directory itself has no name but the one in its place, and a process that removed that by
// rmdir(2) an hour late would remove a successor's. So an empty directory from the entry is renamed over it,
// which fails when the entry is gone. The new directory has the project of .mooring, and can be moved away
// like any other.
func purgeInPlace(t *Trash, e *entry, r *volume.Record, remove func(dir int, name string) error) error {
	// This must come while the volume can still be restored. A deletion may move the directory into the entry at
	// the same time.
	if err := checkInnerTree(t.disk, t.root, r.Directory); err != nil {
		return err
	}
	if err := checkInnerTree(t.disk, e.dir, treeName); err != nil {
		return err
	}
	t.step("let nobody bring it back")
	id := volume.TrashID(volume.TrashVolume, r.Key, r.Nonce)
	if err := ignore(t.dir.Mkdir(volume.PurgingName(id), 0o700), unix.EEXIST); err != nil {
		return err
	}
	moved, err := wasMoved(t, e, id)
	if err != nil {
		return err
	}
	if !moved {
		if err := removeKeptDirectory(t, e, r, remove); err != nil {
			return err
		}
	}
	t.step("remove the record")
	return e.deletionMark().removeRecord()
}

// wasMoved reports whether the directory was moved away after all: the server allows that if somebody has
// changed its projects. Then what is in its place is not the volume's. wasMoved discards a tree in the entry,
// because its retention is over.
func wasMoved(t *Trash, e *entry, id string) (bool, error) {
	if err := e.dir.Refresh(); err != nil {
		return false, explainGone(e, err)
	}
	err := e.deletionMark().withRecord(deletionName, func(dir beneath.Dir, record string) error {
		if err := dir.Refresh(); err != nil {
			return err
		}
		_, err := dir.Stat(record)
		return err
	})
	if err != nil { // this client had cached the record
		return false, firstError(ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR), busy("%s %s is being deleted by another process", e.kind, e.key))
	}
	exists, err := e.has(treeName) // first, because it moves from here to the trash
	if err != nil {
		return false, err
	}
	if exists {
		return true, e.leftovers().discard(treeName)
	}
	return t.hasTree(id)
}

// removeKeptDirectory removes the directory of a volume from its place. The volume must have the claim on it.
func removeKeptDirectory(t *Trash, e *entry, r *volume.Record, remove func(dir int, name string) error) error {
	d := deletion{Volumes: t.volumes, e: e, rec: &StoredRecord{Record: *r, State: Deleting}}
	defer d.close()
	if err := d.checkClaim(); err != nil {
		return err
	}
	parent, name := volume.SplitDirectory(r.Directory)
	if err := removeInPlace(t, e, parent, name, remove); err != nil {
		return err
	}
	// A deletion may have moved it into the entry in the meantime.
	return e.leftovers().discard(treeName)
}

// removeInPlace removes a directory that could not be moved away, or moves it away if that is possible now.
// A file or a link in its place is not the volume's, and stays.
func removeInPlace(t *Trash, e *entry, parent, name string, remove func(dir int, name string) error) error {
	dir, err := beneath.ResolveCurrent(t.root, parent)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer dir.Close()
	for range retries {
		found, err := beneath.ResolveCurrent(dir, name)
		if err != nil {
			return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
		}
		err = removeFound(e, dir, found, name, remove)
		found.Close()
		if !isNameTaken(err) {
			return err
		}
	}
	return busy("something is written into the directory of volume %s while it is purged", e.key)
}

// removeFound does one attempt of removeInPlace. found is what name opens in dir.
func removeFound(e *entry, dir, found beneath.Dir, name string, remove func(dir int, name string) error) error {
	err := moveTreeToEntry(e, dir, name)
	if refusedByProject(dir, name, err) {
		if err := purgeContents(e, found, remove); err != nil {
			return err
		}
		return replaceEmpty(e, dir, name)
	}
	if err != nil {
		return err
	}
	return e.leftovers().discard(treeName)
}

// purgeContents removes what is in a directory that was found in the place of an entry's volume. It does
// nothing to an empty directory: that may be the one that has replaced the volume's, and nobody may purge
// through a handle of that.
func purgeContents(e *entry, found beneath.Dir, remove func(dir int, name string) error) error {
	empty, err := beneath.IsEmpty(found)
	if err != nil {
		return err
	}
	if !e.exists() { // it was opened by its name, which another volume may have now
		return busy("%s %s was deleted by another process", e.kind, e.key)
	}
	if empty {
		return nil
	}
	e.step("purge in place")
	return remove(int(found), ".")
}

// replaceEmpty removes an empty directory, which cannot be moved away, from the place of an entry's volume.
// ENOTEMPTY or EEXIST: it is not empty.
func replaceEmpty(e *entry, dir beneath.Dir, name string) error {
	e.step("prepare an empty directory")
	if err := ignore(e.dir.Mkdir(emptyName, 0o700), unix.EEXIST); err != nil {
		return explainGone(e, err)
	}
	e.step("replace the directory by the empty one")
	err := renameDir(e.disk, e.dir, emptyName, dir, name)
	if is(err, unix.EXDEV) {
		return volume.Errorf(volume.ErrPrecondition, "the directory of volume %s, which is empty, cannot be removed: its parent has a project quota that new directories inherit, and %s has another: remove that one from %s on the server (docs/operate.md)", e.key, volume.StateDir, volume.StateDir)
	}
	if isMissing(err) {
		if e.isGone() {
			return explainGone(e, err)
		}
		return unix.EEXIST // another process has used the empty one: check again
	}
	if err != nil {
		return err
	}
	if err := moveTreeToEntry(e, dir, name); err != nil {
		return err
	}
	return removeEmptyTree(e, dir, name)
}

// explainGone returns ErrBusy if a step failed because another process has removed the entry.
func explainGone(e *entry, err error) error {
	if isMissing(err) && e.isGone() {
		return busy("%s %s was deleted by another process", e.kind, e.key)
	}
	return err
}
