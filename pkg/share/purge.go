// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Purge removes an entry of the trash permanently. It calls remove with the descriptor of a
// directory and the name to remove there, or "." for everything in it.
//
//	finish the deletion    if it stopped after it had moved the record: remove the entry, release the claim
//	rename the tree        trash/<id> -> trash/<id>.purging, unless it is a leftover
//	remove the tree, then the record
//
// Restore renames the tree from the same name: only one of the two succeeds. If the directory was
// kept in its place, Purge makes trash/<id>.purging and removes the directory there. An entry
// without a record, or with an unreadable one, is not purged: nothing says whether it may be.
func (t *Trash) Purge(e TrashEntry, remove func(dir int, name string) error) (err error) {
	defer t.wrapError(&err, "purge %s from the trash", e.Name)
	inPlace, err := t.preparePurge(e, remove)
	if err != nil {
		return err
	}
	if e.hasTree || inPlace {
		if err := t.purgeTree(e, remove); err != nil {
			return err
		}
	}
	if !e.recorded {
		return nil
	}
	names, err := t.records(e.Name)
	if err != nil {
		return err
	}
	for _, name := range names {
		t.step("remove the record from the trash")
		if err := t.removeRecord(name); err != nil {
			return err
		}
	}
	return nil
}

// removeRecord removes a record from the trash. A directory of holds may have the record's name: a
// late copy made it in the entry, and a second process that deleted the volume moved it here.
func (t *Trash) removeRecord(name string) error {
	err := t.dir.Unlink(name)
	if !is(err, unix.EISDIR, unix.EPERM) {
		return ignore(err, unix.ENOENT)
	}
	d, err := t.dir.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer d.Close()
	if err := removeAll(d, 1); err != nil {
		return err
	}
	return ignore(t.dir.Rmdir(name), unix.ENOENT)
}

// purgeTree removes the tree of an entry. It renames the tree first, so that it cannot be restored.
// ENOENT: another purger was first, or the tree was restored. There may be two trees, if one that
// was to be purged in its place could be moved into the trash after all: the second is purged next.
func (t *Trash) purgeTree(e TrashEntry, remove func(dir int, name string) error) error {
	if e.kind == volume.TrashLeftover {
		t.step("purge")
		return remove(int(t.dir), e.Name)
	}
	name := volume.PurgingName(e.Name)
	if e.kind == volume.TrashVolume { // in a snapshot it is only the copy of a share
		for _, tree := range []string{e.Name, name} {
			if err := checkInnerTree(t.disk, t.dir, tree); err != nil {
				return err
			}
		}
	}
	for range retries {
		t.step("take the tree for its purge")
		err := t.dir.Rename(e.Name, t.dir, name)
		if err != nil && !isMissing(err) && !isNameTaken(err) {
			return err
		}
		t.step("purge")
		if e := remove(int(t.dir), name); e != nil || !isNameTaken(err) {
			return e
		}
	}
	return busy("%s is moved into the trash again and again", e.Name)
}

// preparePurge refuses to purge an entry that may still be needed, and releases a claim that was
// left. inPlace: the volume was purged in its place.
func (t *Trash) preparePurge(e TrashEntry, remove func(dir int, name string) error) (inPlace bool, err error) {
	if e.kind == volume.TrashLeftover || e.purging && !e.recorded {
		return false, nil
	}
	if !e.recorded {
		return false, volume.Errorf(volume.ErrPrecondition, "%s has no record: its deletion was interrupted, and continues when the deletion of the PersistentVolume is retried", e.Name)
	}
	v, s, err := t.record(e)
	if err != nil {
		return false, err
	}
	if s != nil {
		return false, s.CheckRequires()
	}
	if v == nil {
		return false, nil
	}
	if err := v.CheckRequires(); err != nil {
		return false, err
	}
	return t.finishDeletion(v, remove)
}

// finishDeletion finishes a deletion that stopped after it had moved the record into the trash, or
// that has kept the directory in its place: then it purges the directory there. inPlace: it did.
func (t *Trash) finishDeletion(r *volume.Record, remove func(dir int, name string) error) (inPlace bool, err error) {
	v := t.volumes
	dead, err := v.isDead(r.Key, r.Nonce)
	if err != nil {
		return false, err
	}
	if !dead {
		e, s, err := v.read(r.Key)
		if err != nil {
			return false, ignore(err, unix.ENOENT)
		}
		defer e.close()
		if s.state != Empty && s.state != Deleting {
			return false, busy("volume %s is still being deleted", r.Key)
		}
		if inPlace = s.state == Deleting; inPlace {
			if err := purgeInPlace(t, e, r, remove); err != nil {
				return false, err
			}
		}
		if err := e.removeRecordlessEntry(v.cleanup(r).treeHandler(e)); err != nil {
			return false, err
		}
	}
	if r.OnDelete == volume.Archive {
		if err := v.cleanup(r).releaseArchiveClaims(); err != nil {
			return false, err
		}
	}
	return inPlace, v.cleanup(r).releaseReferences()
}
