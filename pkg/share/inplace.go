// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// emptyName is a directory in an entry that is to replace another one, which cannot be renamed.
const emptyName = "empty"

// purgeInPlace purges the directory of a volume that is kept in its place, and takes its record
// from the entry, which may be removed then.
//
// What is in the directory is removed through its handle, by which no other directory is reached,
// whenever that happens. The directory itself has no name but the one in its place, and who removes
// that by rmdir(2) an hour late removes a successor's. So it is replaced: an empty directory is
// renamed from the entry over it, which fails when the entry is gone. That new one has the project
// that .mooring has, and is taken away like any other.
func purgeInPlace(t *Trash, e *entry, r *volume.Record, remove func(dir int, name string) error) error {
	// While it can be brought back; a deletion may take it into the entry at the same time.
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
	taken, err := wasMoved(t, e, id)
	if err == nil && !taken {
		err = removeKeptDirectory(t, e, r, remove)
	}
	if err != nil {
		return err
	}
	t.step("remove the record")
	return e.deletionMark().removeRecord()
}

// wasMoved reports whether the directory was taken away after all, as the server lets us since
// somebody has changed its projects. What is in its place then is not the volume's. A tree in the entry
// is thrown away: its time is over.
func wasMoved(t *Trash, e *entry, id string) (bool, error) {
	if err := e.dir.Refresh(); err != nil {
		return false, explainGone(e, err)
	}
	err := e.deletionMark().withRecord(deletionName, func(in beneath.Dir, record string) error {
		if err := in.Refresh(); err != nil {
			return err
		}
		_, err := in.Stat(record)
		return err
	})
	if err != nil { // that was this client's memory
		return false, firstError(ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR), busy("%s %s is being deleted by another", e.kind, e.key))
	}
	there, err := e.has(treeName) // first, as it goes on from here to the trash
	if err != nil {
		return false, err
	}
	if there {
		return true, e.leftovers().discard(treeName)
	}
	return t.hasTree(id)
}

// removeKeptDirectory removes the directory of a volume, which has the claim on it, from its place.
func removeKeptDirectory(t *Trash, e *entry, r *volume.Record, remove func(dir int, name string) error) error {
	d := deletion{Volumes: t.volumes, e: e, rec: &StoredRecord{Record: *r, State: Deleting}}
	defer d.close()
	if err := d.checkClaim(); err != nil {
		return err
	}
	parent, name := volume.SplitDirectory(r.Directory)
	at, err := beneath.ResolveCurrent(t.root, parent)
	if ignore(err, unix.ENOENT) != nil {
		return err
	}
	if err == nil {
		defer at.Close()
		if err := removeInPlace(e, at, name, remove); err != nil {
			return err
		}
	}
	// A deletion may have taken it away since this looked for it there.
	return e.leftovers().discard(treeName)
}

// removeInPlace removes a directory that could not be taken away, unless that is possible by now. A
// file or a link in its place is not the volume's, and stays.
func removeInPlace(e *entry, at beneath.Dir, name string, remove func(dir int, name string) error) error {
	for range retries {
		found, err := beneath.ResolveCurrent(at, name)
		if err != nil {
			return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
		}
		err = moveTreeToEntry(e, at, name)
		if err == nil {
			err = e.leftovers().discard(treeName)
		} else if refusedByProject(at, name, err) {
			if err = purgeContents(e, found, remove); err == nil {
				err = replaceEmpty(e, at, name)
			}
		}
		found.Close()
		if !isNameTaken(err) {
			return err
		}
	}
	return busy("something is written into the directory of volume %s while it is purged", e.key)
}

// purgeContents removes what is in a directory that was found in the place of an entry's volume. One that
// is empty is let alone: it may be one that has replaced the volume's, which nobody may hold a handle of
// in order to purge it.
func purgeContents(e *entry, found beneath.Dir, remove func(dir int, name string) error) error {
	empty, err := beneath.IsEmpty(found)
	if err != nil {
		return err
	}
	if !e.exists() { // it was found by its name, and that may be another's since
		return busy("%s %s was deleted by another", e.kind, e.key)
	}
	if empty {
		return nil
	}
	e.step("purge in place")
	return remove(int(found), ".")
}

// replaceEmpty removes an empty directory, which cannot be taken away, from the place of an entry's
// volume. ENOTEMPTY or EEXIST: it is not empty.
func replaceEmpty(e *entry, at beneath.Dir, name string) error {
	e.step("prepare an empty directory")
	if err := ignore(e.dir.Mkdir(emptyName, 0o700), unix.EEXIST); err != nil {
		return explainGone(e, err)
	}
	e.step("replace the directory by the empty one")
	err := renameDir(e.disk, e.dir, emptyName, at, name)
	if is(err, unix.EXDEV) {
		return volume.Errorf(volume.ErrPrecondition, "the directory of volume %s, which is empty, cannot be removed: the directory that it is in has a project quota, which it hands down, and %s has another: take that from %s on the server (docs/operate.md)", e.key, volume.StateDir, volume.StateDir)
	}
	if isMissing(err) {
		if e.isGone() {
			return explainGone(e, err)
		}
		return unix.EEXIST // another has taken the empty one: look again
	}
	if err != nil {
		return err
	}
	if err := moveTreeToEntry(e, at, name); err != nil {
		return err
	}
	return removeEmptyTree(e, at, name)
}

// explainGone explains a step that failed because another has removed the entry.
func explainGone(e *entry, err error) error {
	if isMissing(err) && e.isGone() {
		return busy("%s %s was deleted by another", e.kind, e.key)
	}
	return err
}
