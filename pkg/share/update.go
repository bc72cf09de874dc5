// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// updateLock excludes other changes of a record, and deletions, as every hold does. It is a
// directory among the holds, in which the new record is written. A process that takes the lock from
// a dead one removes that directory: a late rename of the dead process then fails, as its source is
// gone.
type updateLock struct {
	e        *entry
	holds, d beneath.Dir
}

// lock takes the lock of an entry. ErrBusy: another process has it. ErrNotFound: the entry is being
// deleted.
func (h holds) lock() (*updateLock, error) {
	for range retries {
		d, err := h.open()
		if err != nil {
			return nil, err
		}
		u, err := h.lockIn(d)
		if u != nil {
			return u, nil
		}
		d.Close()
		if err != nil {
			return nil, err
		}
		if err := h.refresh(); err != nil { // this client may have a former directory of holds cached
			return nil, h.explainDeleting(err)
		}
	}
	return nil, busy("the record of %s %s is being changed", h.entry.kind, h.entry.key)
}

// lockIn takes the lock in an open directory of holds; nil if that was just removed, or if it has
// just removed the lock of a dead process.
func (h holds) lockIn(holds beneath.Dir) (*updateLock, error) {
	h.entry.step("lock the record")
	err := holds.Mkdir(changeName, 0o700)
	if is(err, unix.EEXIST) {
		return nil, h.breakLock(holds)
	}
	if err != nil {
		return nil, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	d, err := holds.Resolve(changeName)
	if err != nil {
		return nil, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	u := &updateLock{h.entry, holds, d}
	if err := h.checkUnsealed(holds, u.drop); err != nil {
		d.Close()
		return nil, err
	}
	return u, nil
}

// breakLock removes a lock that is older than Options.Lease. ErrBusy: it is younger, and its process
// may still be alive.
func (h holds) breakLock(holds beneath.Dir) error {
	d, err := holds.Resolve(changeName)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer d.Close()
	st, err := d.StatSelf()
	if err != nil {
		return ignore(err, unix.ESTALE)
	}
	age, err := h.entry.age(st.Mtim)
	if err != nil {
		return err
	}
	if age <= h.entry.opt.Lease {
		return busy("the record of %s %s is being changed", h.entry.kind, h.entry.key)
	}
	h.entry.step("break the lock of the record")
	if err := ignore(d.Unlink(recordFile), unix.ENOENT); err != nil {
		return err
	}
	return ignore(holds.Rmdir(changeName), unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// readChangeable reads the record of an entry if it may be changed. ErrNotFound: the volume is being
// created or deleted. ErrPrecondition: the record requires what this program does not know.
func (e *entry) readChangeable() (*volume.Record, error) {
	data, _, err := e.dir.Read(recordFile, maxRecord)
	if isMissing(err) {
		return nil, volume.Errorf(volume.ErrNotFound, "volume %s does not exist, or not yet", e.key)
	}
	if err != nil {
		return nil, err
	}
	return decodeSupported(e.key, data)
}

// update writes the changed record and renames it into place.
func (u *updateLock) update(change func(*volume.Record) error) (*volume.Record, error) {
	e := u.e
	r, err := e.readChangeable()
	if err != nil {
		return nil, err
	}
	before := *r
	if err := change(r); err != nil {
		return nil, err
	}
	if sameSettings(r, &before) {
		return r, nil
	}
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	e.step("write the changed record aside")
	if err := createFile(u.d, recordFile, data); err != nil {
		return nil, u.explainLost(err)
	}
	e.step("rename the changed record into place")
	if err := u.d.Rename(recordFile, e.dir, recordFile); err != nil {
		return nil, u.explainLost(err)
	}
	return r, nil
}

func (u *updateLock) explainLost(err error) error {
	if isMissing(err) {
		return busy("changing the record of volume %s took too long: another process has taken the lock", u.e.key)
	}
	return err
}

// drop removes the lock and its content.
func (u *updateLock) drop() {
	_ = u.d.Unlink(recordFile)
	_ = u.holds.Rmdir(changeName)
}

func (u *updateLock) unlock() {
	u.e.step("unlock the record")
	u.drop()
	u.d.Close()
	u.holds.Close()
}

// sameSettings reports whether a change has left the settings as they were.
func sameSettings(a, b *volume.Record) bool {
	return a.Capacity == b.Capacity && a.OnDelete == b.OnDelete &&
		(a.Retention == b.Retention || a.Retention != nil && b.Retention != nil && *a.Retention == *b.Retention)
}
