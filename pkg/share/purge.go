// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Purge removes an entry for good: remove is called with the descriptor of the trash and the
// name to remove there, and the record goes last. The tree is renamed first, from the name that
// Restore renames too: one of them wins. What has no record, or one that cannot be read, is
// not purged: nobody can say whether it may.
func (t *Trash) Purge(e Trashed, remove func(trash int, name string) error) (err error) {
	defer t.explain(&err, "purge %s from the trash", e.Name)
	if err := t.purgeable(e); err != nil {
		return err
	}
	if e.data {
		name, err := t.takePurging(e)
		if err != nil {
			return err
		}
		t.step("purge")
		if err := remove(int(t.dir), name); err != nil {
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

// removeRecord removes a record from the trash. In its place may be the directory of holds that
// a late copy has made in an entry, where a second process that deleted it found that.
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
	var holds []string
	err = beneath.Names(d, func(name string) error {
		holds = append(holds, name)
		return nil
	})
	if err != nil {
		return err
	}
	for _, hold := range holds {
		if err := ignore(d.Unlink(hold), unix.ENOENT); err != nil {
			return err
		}
	}
	return ignore(t.dir.Rmdir(name), unix.ENOENT)
}

// takePurging renames the tree of an entry, so that nobody brings it back. ENOENT: another
// purger was first, or it was brought back.
func (t *Trash) takePurging(e Trashed) (string, error) {
	if e.kind == volume.TrashLeftover {
		return e.Name, nil
	}
	name := volume.PurgingName(e.Name)
	if e.purging {
		return name, nil
	}
	t.step("take the tree for its purge")
	return name, ignore(t.dir.Rename(e.Name, t.dir, name), unix.ENOENT)
}

// purgeable refuses to purge what may still be needed, and releases a claim that was left.
func (t *Trash) purgeable(e Trashed) error {
	if e.kind == volume.TrashLeftover || e.purging && !e.recorded {
		return nil
	}
	if !e.recorded {
		return volume.Errorf(volume.ErrConflict, "%s has no record: its deletion was interrupted, and goes on when the PersistentVolume's is tried again", e.Name)
	}
	v, s, err := t.record(e)
	if err != nil {
		return err
	}
	if s != nil {
		return s.CheckRequires()
	}
	if v == nil {
		return nil
	}
	if err := v.CheckRequires(); err != nil {
		return err
	}
	return t.finishDeletion(v)
}

// finishDeletion ends a deletion that was interrupted after the record had come into the trash.
func (t *Trash) finishDeletion(r *volume.Record) error {
	v := t.volumes
	dead, err := v.dead(r.Key, r.Nonce)
	if err != nil {
		return err
	}
	if !dead {
		e, s, err := v.read(r.Key)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		defer e.close()
		if s.state != Empty {
			return busy("volume %s is still being deleted", r.Key)
		}
		if err := e.finish(v.rescue(e, r)); err != nil {
			return err
		}
	}
	if r.OnDelete == volume.Archive {
		if err := v.releaseArchives(r); err != nil {
			return err
		}
	}
	return v.forget(r)
}
