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

// deletion is the deletion of a volume whose record is marked. Any number of processes may be
// at it at once: a step that is done already is done.
//
//	take the directory away      <directory>    -> entry/tree
//	move it into the trash       entry/tree     -> trash/<key>.<nonce>
//	move the record after it     entry/deletion -> trash/<key>.<nonce>.<deleted>.<due>.json
//	remove the entry             from here on every step above fails
//	release the claim            from here on the name may be another's
type deletion struct {
	*Volumes
	e        *entry
	rec      *StoredRecord
	claim    *claim
	archived bool // under a name that is claimed, too
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
	at, err := d.deletedAt()
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
		t, err = d.toTrash(at)
	}
	if err != nil {
		return nil, d.explainGone(err)
	}
	if t != nil && !t.hasTree {
		return t, nil // the directory is kept in its place until it is purged
	}
	if t != nil {
		return t, d.releaseTrashed()
	}
	// Nothing is to be brought back. The record is kept until the claim is released: who purges
	// the trash finishes that, should this process stop.
	t, err = d.trash.moveRecord(d.e, deletionName, d.trashID(), at, 0)
	if err != nil {
		return nil, err
	}
	if err := d.release(); err != nil {
		return nil, err
	}
	return nil, d.trash.removeRecord(volume.TrashRecordName(t.Name, t.Deleted, t.Due))
}

// release removes the entry, and then what the volume has the name of: its claim, or its hold.
func (d *deletion) release() error {
	if err := d.e.removeEntry(d.cleanup(&d.rec.Record).treeHandler(d.e)); err != nil {
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
	return d.claims.removeClaim(d.claim)
}

// releaseTrashed is release for a volume that is in the trash. The empty directory of the claim
// is in nobody's way, and is left to the purge. In a parent it would be: of the parent's removal.
func (d *deletion) releaseTrashed() error {
	parent, _ := volume.SplitDirectory(d.rec.Directory)
	if d.claim == nil || !d.claim.linked || parent != "" {
		return d.release()
	}
	if err := d.e.removeEntry(d.cleanup(&d.rec.Record).treeHandler(d.e)); err != nil {
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

// explainGone explains a step that failed because another process has finished the deletion.
func (d *deletion) explainGone(err error) error {
	if isMissing(err) && d.e.isGone() {
		return busy("volume %s was just deleted by another", d.rec.Key)
	}
	return err
}

// deletedAt returns the time by the server's clock: that of the entry's last change, which was
// the mark.
func (e *entry) deletedAt() (time.Time, error) {
	if err := e.dir.Refresh(); err != nil {
		return time.Time{}, err
	}
	st, err := e.dir.StatSelf()
	return time.Unix(st.Mtim.Unix()), err
}

// deletedAt returns the time of the mark, by the server's clock. The claim, which was read after
// the mark, is a link to the record: most servers change its ctime when the record is renamed. If
// it differs from what it was before the mark, the server need not be asked again.
func (d *deletion) deletedAt() (time.Time, error) {
	if d.rec.State == Ready && d.claim != nil && d.claim.linked && d.claim.ctime.Nano() > d.rec.ctime.Nano() {
		return time.Unix(d.claim.ctime.Unix()), nil
	}
	return d.e.deletedAt()
}

// moveToEntry takes the directory into the entry, and calls move if there is something to be moved
// on. That the directory is the volume's was proved by checkClaim.
func (d *deletion) moveToEntry(move func(parent beneath.Dir, name string) error) error {
	parent, name := volume.SplitDirectory(d.rec.Directory)
	at, err := d.root.Resolve(parent)
	if is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err // a link to elsewhere, for example
	}
	defer at.Close()
	if err := moveTreeToEntry(d.e, at, name); err != nil {
		return err
	}
	return move(at, name)
}

// checkClaim refuses to touch a directory that is not claimed for the volume.
func (d *deletion) checkClaim() error {
	c, err := d.claims.find(d.rec.Directory, d.rec.ino)
	if err == nil && (c.linked || c.owner == (owner{d.rec.Key, d.rec.Nonce})) {
		d.claim = c
		return nil
	}
	whose := "no volume"
	if err == nil && c.owner.key != "" {
		whose = "volume " + c.owner.key
	}
	c.close()
	if err != nil && !isUnclaimed(err) {
		return err
	}
	if d.e.isGone() {
		return busy("volume %s was just deleted by another", d.rec.Key)
	}
	d.requestRemount()
	return volume.Errorf(volume.ErrDamaged, "volume %s is not deleted: its record says that its directory is %q, but %s has the claim on that; the directory was not touched: run mooringctl check, compare %s/volumes/%s and %s/claims on the share, and mend the one that is wrong",
		d.rec.Key, d.rec.Directory, whose, volume.StateDir, d.rec.Key, volume.StateDir)
}

// toTrash moves the directory and then its record into the trash. A volume whose directory had
// vanished leaves nothing there.
func (d *deletion) toTrash(at time.Time) (*TrashEntry, error) {
	id := d.trashID()
	if d.rec.State == Deleting { // a retry: what is in its place by now may be somebody else's
		there, err := d.trash.hasTree(id)
		if err != nil {
			return nil, err
		}
		if there {
			return d.moveRecord(at)
		}
	}
	there := false
	err := d.moveToEntry(func(beneath.Dir, string) (err error) {
		there, err = d.trash.moveTree(d.e, treeName, id)
		return err
	})
	if is(err, unix.EXDEV) {
		return d.keepInPlace(at, err)
	}
	if err == nil && !there { // another has moved it, or the directory had vanished
		there, err = d.trash.hasTree(id)
	}
	if err != nil || !there {
		return nil, err
	}
	return d.moveRecord(at)
}

// retention returns for how long the volume is kept in the trash.
func (d *deletion) retention() time.Duration {
	if d.rec.Retention != nil {
		return *d.rec.Retention
	}
	return d.def.TrashRetention
}

// maxArchiveNames is how many names are tried for an archived directory.
const maxArchiveNames = 5

// archive renames the directory to archived-<name>, beside where it was, with a suffix where
// that is taken. The new name is made first, as an empty directory, create-once, and is claimed
// meanwhile: rename(2) replaces an empty directory, and it has to be ours.
func (d *deletion) archive(at beneath.Dir, name string) error {
	d.archived = true
	st, err := d.e.dir.Stat(treeName)
	if err != nil {
		return ignore(err, unix.ENOENT) // done, or the directory had vanished
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return d.e.leftovers().moveToTrashAsStray(treeName) // a link, say, which somebody has put in its place
	}
	for _, as := range archiveNames(&d.rec.Record) {
		done, err := d.archiveAs(at, as)
		if done || err != nil {
			return err
		}
	}
	if err := renameDir(d.disk, d.e.dir, treeName, at, name); err != nil {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be archived: %q and its like are taken beside it: move the older archives away", d.rec.Key, volume.ArchiveName(name, ""))
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

// siblingPath returns the path of a name beside a volume's directory.
func siblingPath(r *volume.Record, name string) string {
	parent, _ := volume.SplitDirectory(r.Directory)
	return path.Join(parent, name)
}

// archiveAs archives under one name. done is false where that is taken.
func (d *deletion) archiveAs(at beneath.Dir, as string) (done bool, err error) {
	directory := siblingPath(&d.rec.Record, as)
	me := owner{d.rec.Key, d.rec.Nonce}
	if err := d.claims.prepare(d.e, deletionName, me); err != nil {
		return false, err
	}
	err = d.claims.take(d.e, deletionName, me, directory)
	if volume.Kind(err) == volume.ErrPrecondition {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return d.renameToArchive(at, as, me)
}

func (d *deletion) renameToArchive(at beneath.Dir, as string, me owner) (done bool, err error) {
	d.step("make the archived name")
	err = at.Mkdir(as, 0o700)
	if is(err, unix.EEXIST) {
		ours, err := d.ownsArchiveName(at, as, me)
		if err != nil || !ours {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	d.step("rename the directory to its archived name")
	err = renameDir(d.disk, d.e.dir, treeName, at, as)
	if err == nil {
		return true, nil
	}
	if is(err, unix.ENOENT) && !d.e.isGone() {
		return true, nil // another has archived it, perhaps under this very name
	}
	return false, err
}

// ownsArchiveName reports whether an interrupted archiving has made the archived name.
func (d *deletion) ownsArchiveName(at beneath.Dir, as string, me owner) (bool, error) {
	found, err := at.Resolve(as)
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer found.Close()
	return d.claims.isUnused(found, siblingPath(&d.rec.Record, as), me)
}
