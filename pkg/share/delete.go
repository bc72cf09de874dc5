// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"path"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// deletion is the deletion of a volume whose record is marked: the steps of Volumes.Delete after
// the first.
type deletion struct {
	*Volumes
	e        *entry
	rec      *StoredRecord
	claim    *claim
	archived bool // the directory has a second claim, on its archived name
}

func (d *deletion) run(ctx context.Context) (*TrashEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if moves := !d.rec.Shallow && d.rec.OnDelete != volume.Retain; moves {
		if err := d.checkClaim(); err != nil {
			return nil, d.explainGone(err)
		}
	}
	deletedAt, err := d.deletedAt()
	if err != nil {
		return nil, d.explainGone(err)
	}
	var t *TrashEntry
	switch {
	case d.rec.Shallow, d.rec.OnDelete == volume.Retain:
	case d.rec.OnDelete == volume.Archive:
		err = d.moveToEntry(d.archive)
		if is(err, unix.EXDEV) {
			err = d.explainArchive(err)
		}
	default:
		t, err = d.toTrash(deletedAt)
	}
	if err != nil {
		return nil, d.explainGone(err)
	}
	if t != nil && !t.hasTree {
		return t, nil // the directory stays in its place until it is purged
	}
	if t != nil {
		return t, d.releaseTrashed()
	}
	// Nothing will be restored. The record is kept until the claim is released: if this process stops, the
	// purge of the trash releases it.
	t, err = d.trash.moveRecord(d.e, deletionName, d.trashID(), deletedAt, 0)
	if err != nil {
		return nil, err
	}
	if err := d.release(); err != nil {
		return nil, err
	}
	return nil, d.trash.removeRecord(volume.TrashRecordName(t.Name, t.Deleted, t.Due))
}

// release removes the entry, and then what belongs to the volume by name: its claim, or its hold.
func (d *deletion) release() error {
	if err := d.e.remove(d.cleanup(&d.rec.Record).treeHandler(d.e)); err != nil {
		return err
	}
	if d.archived {
		if err := d.cleanup(&d.rec.Record).releaseArchiveClaims(); err != nil {
			return err
		}
	}
	if d.claim == nil {
		return d.cleanup(&d.rec.Record).releaseReferences()
	}
	parent, _ := volume.SplitDirectory(d.rec.Directory)
	d.claims.parents.recordUse(parent)
	return d.claims.remove(d.claim)
}

// releaseTrashed does the same for a volume that is in the trash. It leaves the empty directory of the
// claim to the purge, because that blocks nothing. In a parent it would block the parent's removal.
func (d *deletion) releaseTrashed() error {
	parent, _ := volume.SplitDirectory(d.rec.Directory)
	if d.claim == nil || !d.claim.linked || parent != "" {
		return d.release()
	}
	if err := d.e.remove(d.cleanup(&d.rec.Record).treeHandler(d.e)); err != nil {
		return err
	}
	return d.claims.unlinkClaim(d.claim)
}

func (d *deletion) trashID() string {
	return volume.TrashID(volume.TrashVolume, d.rec.Key, d.rec.Nonce)
}

func (d *deletion) close() {
	if d.claim != nil {
		d.claim.close()
	}
}

// explainGone returns ErrBusy if a step failed because another process has finished the deletion.
func (d *deletion) explainGone(err error) error {
	if isMissing(err) && d.e.isGone() {
		return busy("volume %s was just deleted by another process", d.rec.Key)
	}
	return err
}

// deletedAt returns the time of the entry's last change, which was the mark, by the server's clock.
func (e *entry) deletedAt() (time.Time, error) {
	if err := e.dir.Refresh(); err != nil {
		return time.Time{}, err
	}
	st, err := e.dir.StatSelf()
	return time.Unix(st.Mtim.Unix()), err
}

// deletedAt returns the time of the mark, by the server's clock. The claim was read after the mark and is a
// link to the record: most servers change its ctime when the record is renamed. If the ctime has changed
// since before the mark, deletedAt need not ask the server again.
func (d *deletion) deletedAt() (time.Time, error) {
	if d.rec.State == Ready && d.claim != nil && d.claim.linked && d.claim.ctime.Nano() > d.rec.ctime.Nano() {
		return time.Unix(d.claim.ctime.Unix()), nil
	}
	return d.e.deletedAt()
}

// moveToEntry moves the directory into the entry, and calls move to move it on, unless it was there before.
// checkClaim has proved that the directory is the volume's.
func (d *deletion) moveToEntry(move func(parent beneath.Dir, name string) error) error {
	parent, name := volume.SplitDirectory(d.rec.Directory)
	dir, err := d.root.Resolve(parent)
	if is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err // for example a link to elsewhere
	}
	defer dir.Close()
	if err := moveTreeToEntry(d.e, dir, name); err != nil {
		return err
	}
	return move(dir, name)
}

// checkClaim refuses to touch a directory that is not claimed for the volume.
func (d *deletion) checkClaim() error {
	c, err := d.claims.find(d.rec.Directory, d.rec.ino)
	holder := "no volume"
	switch {
	case isUnclaimed(err):
	case err != nil:
		c.close()
		return err
	case c.linked || c.owner == (owner{d.rec.Key, d.rec.Nonce}):
		d.claim = c
		return nil
	case c.owner.key != "":
		holder = "volume " + c.owner.key
	}
	c.close()
	if d.e.isGone() {
		return busy("volume %s was just deleted by another process", d.rec.Key)
	}
	d.requestRemount()
	return volume.Errorf(volume.ErrDamaged, "volume %s is not deleted: its record says that its directory is %q, but %s has the claim on that; the directory was not touched: run mooringctl check, compare %s/volumes/%s and %s/claims on the share, and correct the wrong one",
		d.rec.Key, d.rec.Directory, holder, volume.StateDir, d.rec.Key, volume.StateDir)
}

// toTrash moves the directory and then its record into the trash. It puts nothing there if the directory
// had vanished.
func (d *deletion) toTrash(deletedAt time.Time) (*TrashEntry, error) {
	id := d.trashID()
	if d.rec.State == Deleting { // a retry: somebody else may own what is in its place now
		exists, err := d.trash.hasTree(id)
		if err != nil {
			return nil, err
		}
		if exists {
			return d.moveRecord(deletedAt)
		}
	}
	moved := false
	err := d.moveToEntry(func(beneath.Dir, string) (err error) {
		moved, err = d.trash.moveTree(d.e, treeName, id)
		return err
	})
	if is(err, unix.EXDEV) {
		return d.keepInPlace(deletedAt, err)
	}
	if err != nil {
		return nil, err
	}
	if !moved { // another process has moved it, or the directory had vanished
		moved, err = d.trash.hasTree(id)
		if err != nil || !moved {
			return nil, err
		}
	}
	return d.moveRecord(deletedAt)
}

// retention returns how long the volume stays in the trash.
func (d *deletion) retention() time.Duration {
	if d.rec.Retention != nil {
		return *d.rec.Retention
	}
	return d.def.TrashRetention
}

// maxArchiveNames is how many names archive tries for a directory.
const maxArchiveNames = 5

// archive renames the directory to archived-<name> in the same parent, with a suffix if that name is taken.
// Before that it makes the new name as an empty directory, create-once, and claims it: rename(2) replaces
// an empty directory, and that must be the volume's own.
func (d *deletion) archive(dir beneath.Dir, name string) error {
	d.archived = true
	st, err := d.e.dir.Stat(treeName)
	if err != nil {
		return ignore(err, unix.ENOENT) // done, or the directory had vanished
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return d.e.leftovers().moveToTrashAsStray(treeName) // for example a link that somebody has put in its place
	}
	for _, newName := range archiveNames(&d.rec.Record) {
		done, err := d.archiveAs(dir, newName)
		if done || err != nil {
			return err
		}
	}
	if err := renameDir(d.disk, d.e.dir, treeName, dir, name); err != nil {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be archived: names such as %q are taken beside it: move the older archives away", d.rec.Key, volume.ArchiveName(name, ""))
}

// archiveNames returns the names to try for an archived directory.
func archiveNames(r *volume.Record) []string {
	_, name := volume.SplitDirectory(r.Directory)
	unique := "-" + r.Nonce[:8]
	names := []string{volume.ArchiveName(name, ""), volume.ArchiveName(name, unique)}
	for i := 2; i < maxArchiveNames; i++ {
		names = append(names, volume.ArchiveName(name, fmt.Sprintf("%s-%d", unique, i)))
	}
	return names
}

// siblingPath returns the path of a name in the parent of a volume's directory.
func siblingPath(r *volume.Record, name string) string {
	parent, _ := volume.SplitDirectory(r.Directory)
	return path.Join(parent, name)
}

// archiveAs archives the directory under one name. done is false if that name is taken.
func (d *deletion) archiveAs(dir beneath.Dir, newName string) (done bool, err error) {
	directory := siblingPath(&d.rec.Record, newName)
	self := owner{d.rec.Key, d.rec.Nonce}
	if err := d.claims.prepare(d.e, deletionName, self); err != nil {
		return false, err
	}
	err = d.claims.take(d.e, deletionName, self, directory)
	if volume.Kind(err) == volume.ErrPrecondition {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return d.renameToArchive(dir, newName, self)
}

func (d *deletion) renameToArchive(dir beneath.Dir, newName string, self owner) (done bool, err error) {
	d.step("make the archived name")
	err = dir.Mkdir(newName, 0o700)
	if is(err, unix.EEXIST) {
		isOwn, err := d.ownsArchiveName(dir, newName, self)
		if err != nil || !isOwn {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	d.step("rename the directory to its archived name")
	err = renameDir(d.disk, d.e.dir, treeName, dir, newName)
	if is(err, unix.ENOENT) && !d.e.isGone() {
		return true, nil // another process has archived it, perhaps under this very name
	}
	return err == nil, err
}

// ownsArchiveName reports whether an interrupted archiving has made the archived name.
func (d *deletion) ownsArchiveName(dir beneath.Dir, newName string, self owner) (bool, error) {
	found, err := dir.Resolve(newName)
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer found.Close()
	return d.claims.isUnused(found, siblingPath(&d.rec.Record, newName), self)
}
