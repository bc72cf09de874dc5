// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A server with project quotas (directory quotas) refuses some renames, with EXDEV: a directory
// cannot be moved into one that hands its project down, unless it has that project itself. If a
// deleted volume's directory cannot be moved for that reason, it is kept in its place: the entry, the
// claim and the directory stay until the purge is due. As for every deleted volume, the name of a
// record in the trash says when that is. Here it is a second name of the record in the entry:
//
//	entry/deletion   and   trash/<key>.<nonce>.<deleted>.<due>.json

// renameDir renames a directory between the share and .mooring, which a project quota may forbid.
func renameDir(d *disk, from beneath.Dir, name string, to beneath.Dir, as string) error {
	if d.opt.beforeRename != nil {
		if err := d.opt.beforeRename(from, name, to, as); err != nil {
			return err
		}
	}
	return from.Rename(name, to, as)
}

// refusedByProject reports whether the directory name in at could not be renamed because of a
// project quota. It reports false if another file system is mounted there or above.
func refusedByProject(at beneath.Dir, name string, err error) bool {
	if !is(err, unix.EXDEV) {
		return false
	}
	d, err := at.Resolve(name)
	if err != nil {
		return false
	}
	defer d.Close()
	parent, err := at.StatSelf()
	if err != nil {
		return false
	}
	st, err := d.StatSelf()
	return err == nil && st.Dev == parent.Dev
}

// refusedByProject reports whether a project quota prevented that the volume's directory was moved.
func (d *deletion) refusedByProject(err error) bool {
	parent, name := volume.SplitDirectory(d.rec.Directory)
	at, e := d.root.Resolve(parent)
	if e != nil {
		return false
	}
	defer at.Close()
	return refusedByProject(at, name, err)
}

// keepInPlace leaves the directory, which could not be moved, in its place, and records in the
// trash when it will be purged. cause is the error of the move. The entry and the claim stay too:
// no other volume can have the name while the directory exists.
func (d *deletion) keepInPlace(at time.Time, cause error) (*TrashEntry, error) {
	if !d.refusedByProject(cause) {
		return nil, cause
	}
	if kept, err := d.trash.findRecord(d.trashID()); kept != nil || err != nil {
		return kept, err
	}
	deleted, due := trashTimes(at, d.retention())
	err := d.trash.linkRecord(d.e, volume.TrashRecordName(d.trashID(), deleted, due))
	if err != nil {
		return nil, err // ENOENT: another process has finished the deletion
	}
	return d.trash.findRecord(d.trashID())
}

// linkRecord gives the record of a marked entry a second name, in the trash. A late call fails: the
// record is not in the entry any more.
func (t *Trash) linkRecord(e *entry, name string) error {
	e.step("promise when the directory is purged")
	err := e.deletionMark().withRecord(deletionName, func(in beneath.Dir, record string) error { return hardLink(t.disk, in, record, t.dir, name) })
	if !errors.Is(err, errNoLinks) {
		return ignore(err, unix.EEXIST)
	}
	var data []byte
	err = e.deletionMark().withRecord(deletionName, func(in beneath.Dir, record string) (err error) {
		data, _, err = in.Read(record, maxRecord)
		return err
	})
	if err != nil {
		return err
	}
	temp := t.stagingName()
	if err := writeFile(t.staging, temp, data); err != nil {
		return err
	}
	return t.staging.Rename(temp, t.dir, name)
}

// findRecord returns the entry of the trash that has a record with this id; nil if there is none.
func (t *Trash) findRecord(id string) (*TrashEntry, error) {
	if err := t.dir.Refresh(); err != nil {
		return nil, err
	}
	names, err := t.records(id)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	n, _ := volume.ParseTrashName(names[0])
	return &TrashEntry{
		Name: id, Key: n.Key, Deleted: n.Deleted, Due: n.Due,
		nonce: n.Nonce, kind: n.Kind, recorded: true,
	}, nil
}

// InPlaceEntry returns the entry of the trash of a volume that is being deleted and whose directory
// stays in its place until it is purged. It returns nil for any other volume.
func (t *Trash) InPlaceEntry(ctx context.Context, r *StoredRecord) (kept *TrashEntry, err error) {
	defer t.wrapError(&err, "check whether the directory of volume %s is kept", r.Key)
	if err := ctx.Err(); err != nil || r.State != Deleting {
		return nil, err
	}
	return t.findRecord(volume.TrashID(volume.TrashVolume, r.Key, r.Nonce))
}

// IsInPlace reports whether the directory of a deleted volume is still in its place, as it could
// not be moved into the trash.
func (t *Trash) IsInPlace(ctx context.Context, e TrashEntry) (in bool, err error) {
	defer t.wrapError(&err, "check whether volume %s is in its place", e.Key)
	if err := ctx.Err(); err != nil || e.hasTree || !e.recorded || e.kind != volume.TrashVolume {
		return false, err
	}
	entry, r, err := t.volumes.read(e.Key)
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	entry.close()
	_, nonce := decodeIdentity(r.data)
	return r.state == Deleting && nonce == e.nonce, nil
}

// moveToTrash moves a volume that was kept in its place into the trash, from which it can be
// restored, if the server allows it by now. It returns any other entry unchanged.
func (v *Volumes) moveToTrash(ctx context.Context, t TrashEntry) (TrashEntry, error) {
	if kept, err := v.trash.IsInPlace(ctx, t); err != nil || !kept || t.purging {
		return t, err
	}
	moved, err := v.Delete(ctx, t.Key)
	if err != nil || moved == nil {
		return t, err
	}
	if !moved.hasTree {
		return t, volume.Errorf(volume.ErrPrecondition, "volume %s cannot be restored: its directory has a project quota of its own, so the server refuses to move it; it stays in its place until %s: copy from there what is needed, or give the directory itself the project of the one above it, on the server, and try again (docs/operate.md)", t.Key, moved.Due.Format(time.RFC3339))
	}
	// A purger in its place makes the purging mark before it checks for the directory.
	moved.purging, err = v.trash.hasTree(volume.PurgingName(t.Name))
	return *moved, err
}

// moveRecord moves the record into the trash, after the tree. It may have a name there already, if
// the directory was kept in its place before and could now be moved.
func (d *deletion) moveRecord(at time.Time) (*TrashEntry, error) {
	if d.rec.State == Deleting { // not if this process has just marked it
		kept, err := d.trash.findRecord(d.trashID())
		if err != nil {
			return nil, err
		}
		if kept != nil {
			d.step("remove the record")
			kept.hasTree = true
			return kept, d.e.deletionMark().removeRecord()
		}
	}
	return d.trash.moveRecord(d.e, deletionName, d.trashID(), at, d.retention())
}

// trashTimes returns the times for the name of a record in the trash, in whole seconds. They are
// rounded up, so that no tree is purged too early.
func trashTimes(at time.Time, keep time.Duration) (deleted, due time.Time) {
	deleted = at.UTC()
	if keep > 0 {
		deleted = deleted.Add(time.Second - 1)
	}
	deleted = deleted.Truncate(time.Second)
	return deleted, deleted.Add(keep).Truncate(time.Second)
}

// explainArchive explains an EXDEV: a project quota prevents the archiving of a volume.
func (d *deletion) explainArchive(err error) error {
	const remedy = "give the directory itself the project of the one above, on the server (docs/operate.md): the deletion goes on then"
	if d.refusedByProject(err) {
		return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be archived: its directory %q has a project quota of its own, so the server refuses to rename it; it was not changed: %s", d.rec.Key, d.rec.Directory, remedy)
	}
	if there, _ := d.e.has(treeName); there && is(err, unix.EXDEV) {
		return volume.Errorf(volume.ErrPrecondition, "volume %s cannot be archived: its directory has a project quota of its own, so the server refuses to rename it to a name beside %q; it is complete, in %s/volumes/%s/%s: %s", d.rec.Key, d.rec.Directory, volume.StateDir, d.rec.Key, treeName, remedy)
	}
	return err
}
