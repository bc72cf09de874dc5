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

// Snapshots are the snapshots of a share, and those that are being made or deleted.
type Snapshots struct {
	*table
	trash *Trash
	jobs  *Jobs
}

// Lookup reads the record of a snapshot. ErrNotFound: there is no complete one. ErrDamaged: its
// record cannot be read.
func (s *Snapshots) Lookup(ctx context.Context, key string) (r *volume.SnapshotRecord, err error) {
	defer s.wrapError(&err, "read the record of snapshot %s", key)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, r, err := s.lookup(key)
	if err != nil {
		return nil, err
	}
	e.close()
	return r, nil
}

// lookup opens the entry of a complete snapshot and reads its record. The caller closes the entry.
func (s *Snapshots) lookup(key string) (*entry, *volume.SnapshotRecord, error) {
	e, r, err := s.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil, s.notFound(key)
	}
	if err != nil {
		return nil, nil, err
	}
	if r.state != Ready {
		e.close()
		return nil, nil, s.notFound(key)
	}
	rec, err := volume.DecodeSnapshotRecord(key, r.data)
	if err != nil {
		e.close()
		return nil, nil, err
	}
	return e, rec, nil
}

func (s *Snapshots) notFound(key string) error {
	return volume.Errorf(volume.ErrNotFound, "there is no snapshot %s", key)
}

// Keys returns the keys of all snapshots, and of those that are being made or deleted, sorted.
func (s *Snapshots) Keys(ctx context.Context) (keys []string, err error) {
	defer s.wrapError(&err, "list the snapshots")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.keys(ctx)
}

// PendingSnapshot is a snapshot that this process makes: see Pending.
type PendingSnapshot struct {
	s    *Snapshots
	e    *entry
	rec  volume.SnapshotRecord
	copy *CopyJob
	job  string
}

// Begin begins to make a snapshot, create-once: it prepares an entry in staging, with the record
// making.json, and renames it to snapshots/<key>. If the snapshot exists, Begin returns its record
// as found. It undoes an unfinished one if its maker has stopped; else it returns ErrBusy.
func (s *Snapshots) Begin(ctx context.Context, r volume.SnapshotRecord) (p *PendingSnapshot, found *volume.SnapshotRecord, err error) {
	defer s.wrapError(&err, "begin to make snapshot %s", r.Key)
	if err := s.checkUsable(ctx); err != nil {
		return nil, nil, err
	}
	r.Maker, r.Run, r.Nonce = s.opt.Maker, s.opt.Run, volume.NewNonce()
	data, err := r.Encode()
	if err != nil {
		return nil, nil, err
	}
	for range retries {
		e, err := s.create(r.Key, data, nil)
		if is(err, unix.EEXIST) {
			if found, err := s.findOrUndo(r.Key); found != nil || err != nil {
				return nil, found, err
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		return &PendingSnapshot{s: s, e: e, rec: r}, nil, nil
	}
	return nil, nil, busy("snapshot %s is made and deleted again and again", r.Key)
}

// findOrUndo returns the record of a snapshot that exists, and undoes one that was not finished.
func (s *Snapshots) findOrUndo(key string) (*volume.SnapshotRecord, error) {
	if err := s.refresh(key); err != nil {
		return nil, err
	}
	e, r, err := s.lookup(key)
	if errors.Is(err, volume.ErrNotFound) {
		_, err = s.undo(key, true, nil)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	e.close()
	return r, nil
}

// undo removes an unfinished snapshot. mine: this process has given up what it began itself. check:
// see Delete. ready: the snapshot is complete by now.
func (s *Snapshots) undo(key string, mine bool, check func(*volume.SnapshotRecord) error) (ready bool, err error) {
	e, r, err := s.read(key)
	if is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer e.close()
	switch r.state {
	case Ready:
		return true, nil
	case Making, Aborting:
		return s.abortAbandoned(e, r, mine, check)
	case Deleting:
		return false, s.finishDeletion(e, r)
	}
	return false, e.removeRecordlessEntry(e.leftovers().discard)
}

// abortAbandoned undoes a snapshot whose maker has stopped.
func (s *Snapshots) abortAbandoned(e *entry, r rawRecord, mine bool, check func(*volume.SnapshotRecord) error) (committed bool, err error) {
	rec, err := volume.DecodeSnapshotRecord(e.key, r.data)
	if errors.Is(err, volume.ErrDamaged) {
		rec, err = &volume.SnapshotRecord{Key: e.key}, nil // its maker stopped while it wrote the final record
	}
	if err != nil {
		return false, err
	}
	if err := rec.CheckRequires(); err != nil {
		return false, err
	}
	if check != nil {
		if err := check(rec); err != nil {
			return false, err
		}
	}
	mine = mine && rec.Maker == s.opt.Maker && rec.Run == s.opt.Run
	if r.state == Making && !mine {
		abandoned, err := s.isAbandoned(rec.Maker, rec.Run, r.mtime)
		if err != nil {
			return false, err
		}
		if !abandoned {
			return false, volume.Errorf(volume.ErrBusy, "snapshot %s is still being made: try again when that is done", e.key)
		}
	}
	return s.abort(e, rec)
}

// abort undoes a snapshot that is being made. committed: it was too late.
func (s *Snapshots) abort(e *entry, r *volume.SnapshotRecord) (committed bool, err error) {
	done, err := e.markAborted()
	if err != nil {
		return false, err
	}
	if !done {
		return !e.isGone(), nil
	}
	return false, s.rollback(e, r)
}

// rollback removes a marked entry with everything in it.
func (s *Snapshots) rollback(e *entry, r *volume.SnapshotRecord) error {
	for _, name := range []string{dataName, deletionName} {
		if err := e.leftovers().clearDir(name, e.leftovers().discard); err != nil {
			return err
		}
	}
	e.step("remove the record")
	if err := ignore(e.dir.Unlink(abortFile), unix.ENOENT, unix.ESTALE); err != nil {
		return err
	}
	if err := e.remove(e.leftovers().discard); err != nil {
		return err
	}
	if r.Nonce == "" {
		return nil
	}
	target := volume.Object{Kind: volume.ObjectSnapshot, Key: e.key}
	s.jobs.remove(jobName(target, r.Nonce))
	return s.volumes.removeHold(r.Volume, copyHoldName(target, r.Nonce))
}

// BeginCopy begins to copy the volume that the record names. on is the share of both.
//
//	note the copy       jobs/snapshot.<key>.<nonce>, a link to the record
//	hold the volume     volumes/<key>/deletion/copy.snapshot.<key>.<nonce>, a link to the record
//	make a directory    entry/data, for the copy
//
// The tree that is copied is the volume's directory; for a shallow volume, that of its snapshot.
// ErrNotFound: there is no such volume, or it is being created or deleted. ErrPrecondition: its
// directory is missing, or its record requires a feature that this program does not know.
func (p *PendingSnapshot) BeginCopy(ctx context.Context, on *Share) (c *CopyJob, err error) {
	job := volume.Copy{
		Target: volume.Object{Kind: volume.ObjectSnapshot, Key: p.rec.Key},
		Source: volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: p.rec.Volume}, Share: p.s.def.Name},
	}
	defer p.s.wrapError(&err, "begin to copy %s", job.Source.String())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.job = jobName(job.Target, p.rec.Nonce)
	if err := p.s.jobs.add(p.e, p.job); err != nil {
		return nil, err
	}
	p.copy = newCopyJob(job, on, p.e)
	if err := p.copy.openSource(p.rec.Nonce); err != nil {
		return nil, err
	}
	if err := p.copy.makeTargetDir(p.e.dir, dataName); err != nil {
		return nil, err
	}
	p.rec.Capacity = p.copy.volume.Capacity
	return p.copy, nil
}

// Commit makes the snapshot exist. It releases the hold, writes the properties of the copy into
// making.json, renames that to record.json, and removes the job. created is the local time at the
// start of the copy, size is in bytes; plain: see volume.SnapshotRecord. ErrBusy: the hold was
// lost, or another process has undone the snapshot.
func (p *PendingSnapshot) Commit(ctx context.Context, created time.Time, size int64, plain bool) (r *volume.SnapshotRecord, err error) {
	defer p.s.wrapError(&err, "commit snapshot %s", p.rec.Key)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.rec.Created, p.rec.Size, p.rec.Plain = created, size, plain
	data, err := p.rec.Encode()
	if err != nil {
		return nil, err
	}
	if err := p.copy.releaseHold(); err != nil {
		return nil, err
	}
	// In place: no other process writes this file, and nobody trusts it before the commit.
	p.s.step("write the snapshot's record")
	if err := p.e.rewriteRecord(data); err != nil {
		return nil, err
	}
	if err := p.e.commit(makingFile); err != nil {
		return nil, err
	}
	p.s.jobs.remove(p.job)
	p.Close()
	return &p.rec, nil
}

// Abort undoes the snapshot: it renames making.json to abort.json, moves data to the trash as a
// leftover, and removes the record, the entry, the job and the hold.
func (p *PendingSnapshot) Abort() (err error) {
	defer p.s.wrapError(&err, "undo snapshot %s", p.rec.Key)
	defer p.Close()
	if p.copy != nil {
		_ = p.copy.releaseHold()
	}
	_, err = p.s.abort(p.e, &p.rec)
	return err
}

// Close closes the descriptors. A retry undoes what is left on the share.
func (p *PendingSnapshot) Close() {
	if p.copy != nil {
		p.copy.close()
	}
	if p.e.dir != beneath.None {
		p.e.close()
		p.e.dir = beneath.None
	}
}
