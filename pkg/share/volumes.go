// SPDX-License-Identifier: Apache-2.0

package share

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Volumes are the volumes of a share, and those that are being created or deleted.
type Volumes struct {
	*table
	claims    *claims
	trash     *Trash
	jobs      *Jobs
	snapshots *Snapshots
}

// StoredRecord is the record of a volume as it was read from the share.
type StoredRecord struct {
	volume.Record
	State State
	mtime unix.Timespec
	ctime unix.Timespec
	ino   inode
}

// Age returns the time since the record was written, or since the volume's creation was last
// renewed (CopyJob.Renew), if the clocks of server and client agree.
func (r *StoredRecord) Age() time.Duration { return time.Since(time.Unix(r.mtime.Unix())) }

// Lookup reads the record of a volume. A volume that is being created or deleted has a record too.
// ErrNotFound: there is none. ErrDamaged: it cannot be read.
func (v *Volumes) Lookup(ctx context.Context, key string) (r *StoredRecord, err error) {
	defer v.wrapError(&err, "read the record of volume %s", key)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, r, err := v.lookup(key)
	if err != nil {
		return nil, err
	}
	e.close()
	return r, nil
}

// lookup opens the entry of a volume and reads its record. The caller closes the entry.
func (v *Volumes) lookup(key string) (*entry, *StoredRecord, error) {
	e, s, err := v.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil, v.notFound(key)
	}
	if err != nil {
		return nil, nil, err
	}
	if s.state == Empty {
		e.close()
		return nil, nil, v.notFound(key)
	}
	r, err := volume.DecodeRecord(key, s.data)
	if err != nil {
		e.close()
		return nil, nil, err
	}
	return e, &StoredRecord{Record: *r, State: s.state, mtime: s.mtime, ctime: s.ctime, ino: s.ino}, nil
}

func (v *Volumes) notFound(key string) error {
	return volume.Errorf(volume.ErrNotFound, "there is no volume %s", key)
}

// Keys returns the keys of all volumes, and of those that are being created or deleted, sorted.
func (v *Volumes) Keys(ctx context.Context) (keys []string, err error) {
	defer v.wrapError(&err, "list the volumes")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return v.keys(ctx)
}

// Update changes the record of a volume and returns the new one. It calls change with the current
// record, under a lock that excludes other changes and the deletion.
//
//	lock the record          entry/deletion/change: a directory that is made there
//	write the new record     entry/deletion/change/record.json
//	rename it into place     entry/deletion/change/record.json -> entry/record.json
//	unlock                   remove entry/deletion/change
//
// Update makes entry/deletion if it does not exist, and leaves it there. It writes no record if
// change leaves the capacity, onDelete and the retention as they were. The lock of a process that
// has stopped is removed by the next Update or Delete after Options.Lease.
//
// ErrNotFound: there is no such volume, or it is being created or deleted. ErrBusy: another process
// has the lock, or has removed this one's. ErrPrecondition: the record requires a feature that this
// program does not know, or the share has not been laid out. ErrDamaged: the record cannot be read.
// If change fails, Update returns its error.
func (v *Volumes) Update(ctx context.Context, key string, change func(*volume.Record) error) (r *volume.Record, err error) {
	defer v.wrapError(&err, "change the record of volume %s", key)
	if err := v.checkUsable(ctx); err != nil {
		return nil, err
	}
	e, err := v.openCurrent(key)
	if is(err, unix.ENOENT) {
		return nil, v.notFound(key)
	}
	if err != nil {
		return nil, err
	}
	defer e.close()
	if _, err := e.readChangeable(); err != nil { // before anything is changed
		return nil, err
	}
	lock, err := e.holds().lock()
	if err != nil {
		return nil, err
	}
	defer lock.unlock()
	return lock.update(change)
}

// Delete deletes a volume as its record says: its directory goes to the trash, stays, or is
// archived. A retry finishes an interrupted deletion. Any number of processes may work on it at
// once: a step that is already done changes nothing.
//
//	mark it                    entry/record.json -> entry/deletion, or entry/deletion/record.json
//	take the directory away    <directory>       -> entry/tree
//	move it into the trash     entry/tree        -> trash/<key>.<nonce>
//	move the record after it   entry/deletion    -> trash/<key>.<nonce>.<deleted>.<due>.json
//	remove the entry           from here on every step above fails
//	release the claim          from here on another volume may have the name
//
// The record is marked in deletion/ if that directory exists: empty, it is replaced by one with a
// file "sealed". <due> is <deleted> plus the retention of the volume or, if it has none of its own,
// of the share. An archived directory goes from entry/tree to archived-<name>, which is claimed
// first. If the directory is archived or stays, or was missing, the record in the trash is removed
// at the end. So is that of a shallow volume, which has no directory: instead of the claim, Delete
// removes its hold on the snapshot. If a project quota forbids the rename of a directory that is
// to go to the trash, it stays in its place, with its entry and claim, until Trash.Purge.
//
// Delete returns the entry in the trash; nil if there is none. A volume that does not exist counts
// as deleted. An unfinished creation is undone if its maker has stopped (AbortAbandoned).
//
// ErrBusy: the volume is being created or copied, or its record is being changed. ErrDamaged: the
// volume does not have the claim on its directory, which is then not touched. ErrPrecondition: the
// directory is another share that is in use; or the directory cannot be archived, because of a
// project quota or because the names are taken; or the record requires, or a hold is, what this
// program does not know; or the share has not been laid out.
func (v *Volumes) Delete(ctx context.Context, key string) (t *TrashEntry, err error) {
	defer v.wrapError(&err, "delete volume %s", key)
	if err := v.checkUsable(ctx); err != nil {
		return nil, err
	}
	var which string
	for range retries {
		t, again, err := v.delete(ctx, key, &which)
		if !again {
			return t, err
		}
	}
	return nil, busy("volume %s is created and deleted again and again", key)
}

// delete deletes the incarnation of a key with the nonce in which; if that is "", it takes any, and
// sets which. It keeps a later incarnation: there was a moment at which the volume did not exist.
func (v *Volumes) delete(ctx context.Context, key string, which *string) (t *TrashEntry, again bool, err error) {
	e, s, err := v.read(key)
	if is(err, unix.ENOENT) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer e.close()
	_, nonce := decodeIdentity(s.data)
	if *which != "" && nonce != "" && nonce != *which {
		return nil, false, nil
	}
	*which = cmp.Or(*which, nonce)
	switch s.state {
	case Empty:
		return nil, false, e.removeRecordlessEntry(nil)
	case Making, Aborting:
		again, err := v.abortAbandoned(e, s, false)
		return nil, again, err
	}
	r, err := decodeSupported(key, s.data)
	if err != nil {
		return nil, false, err
	}
	if s.state == Ready {
		if err := checkInner(v.disk, r); err != nil {
			return nil, false, err
		}
		err := v.markDeleted(e)
		if is(err, unix.ENOENT) {
			return nil, true, nil // another process was first
		}
		if err != nil {
			return nil, false, err
		}
		if e.sealed { // an update may have changed the record since it was read
			return nil, true, nil
		}
	}
	d := deletion{Volumes: v, e: e, rec: &StoredRecord{Record: *r, State: s.state, mtime: s.mtime, ctime: s.ctime, ino: s.ino}}
	defer d.close()
	t, err = d.run(ctx)
	return t, false, err
}

// decodeSupported decodes the record of a volume. It fails if the record requires what this program
// does not know: then the volume must not be changed.
func decodeSupported(key string, data []byte) (*volume.Record, error) {
	r, err := volume.DecodeRecord(key, data)
	if err != nil {
		return nil, err
	}
	return r, r.CheckRequires()
}

// markDeleted begins the deletion of a volume, unless another object needs it.
func (v *Volumes) markDeleted(e *entry) error {
	err := e.deletionMark().mark()
	var held heldError
	if errors.As(err, &held) {
		return held.explain("volume " + e.key)
	}
	return err
}

// abortAbandoned undoes a creation whose maker has stopped or has given up (mine), and continues
// with one that is already being undone. again: it was committed in the meantime.
func (v *Volumes) abortAbandoned(e *entry, s rawRecord, mine bool) (again bool, err error) {
	r, err := decodeSupported(e.key, s.data)
	if err != nil {
		return false, err
	}
	if s.state == Making && !mine {
		abandoned, err := v.isAbandoned(r.Maker, r.Run, s.mtime)
		if err != nil {
			return false, err
		}
		if !abandoned {
			return false, volume.Errorf(volume.ErrBusy, "volume %s is still being created: try again", e.key)
		}
	}
	return undo{v, e, r, false}.run()
}
