// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Jobs is the index of the copies in progress. A process that starts finds there what an earlier
// one has left. The index decides nothing: the record of the target does.
type Jobs struct {
	*disk
	dir       beneath.Dir
	volumes   *table
	snapshots *Snapshots
}

// Job is a copy that is in progress, or was when its maker stopped.
type Job struct {
	Target volume.Object
	nonce  string
	name   string
}

func jobName(target volume.Object, nonce string) string { return target.FileName() + "." + nonce }

func (j *Jobs) add(e *entry, name string) error {
	j.step("note the copy")
	return ignore(j.linkOrCreate(e.dir, makingFile, j.dir, name, ""), unix.EEXIST)
}

// remove removes a copy from the index. An entry that stays there is harmless.
func (j *Jobs) remove(name string) {
	if name == "" {
		return
	}
	j.step("remove the note of the copy")
	_ = j.dir.Unlink(name)
}

// List lists the jobs in the index: the copies that are in progress, and those whose maker stopped.
func (j *Jobs) List(ctx context.Context) (jobs []Job, err error) {
	defer j.wrapError(&err, "list the copies")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = j.list(j.dir, func(name string) error {
		id, nonce, ok := cutNonce(name)
		target, known := volume.ParseObject(id)
		if ok && known {
			jobs = append(jobs, Job{target, nonce, name})
		}
		return ctx.Err()
	})
	return jobs, err
}

// tableOf returns the table that has the entry of a copy's target.
func (j *Jobs) tableOf(target volume.Object) *table {
	if target.Kind == volume.ObjectSnapshot {
		return j.snapshots.table
	}
	return j.volumes
}

// Abandoned returns the copies whose makers have stopped. It removes those from the index that have
// ended. With an error it returns the copies that it could read.
func (j *Jobs) Abandoned(ctx context.Context) (copies []volume.Copy, err error) {
	defer j.wrapError(&err, "list the copies")
	jobs, err := j.List(ctx)
	for _, job := range jobs {
		copy, abandoned, e := j.readAbandoned(job)
		err = errors.Join(err, e) // the other copies are independent
		if abandoned {
			copies = append(copies, *copy)
		}
	}
	return copies, err
}

// readAbandoned reads what a job copies. It returns nil if the copy has ended or is being undone.
// abandoned: its maker has stopped.
func (j *Jobs) readAbandoned(job Job) (copy *volume.Copy, abandoned bool, err error) {
	e, r, err := j.tableOf(job.Target).read(job.Target.Key)
	if is(err, unix.ENOENT) {
		j.remove(job.name)
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	e.close()
	if _, nonce := decodeIdentity(r.data); r.state == Ready || nonce != "" && nonce != job.nonce {
		j.remove(job.name)
		return nil, false, nil
	}
	if r.state != Making {
		return nil, false, nil
	}
	copy, maker, run, err := copyFromRecord(job.Target, j.def.Name, r.data)
	if errors.Is(err, volume.ErrDamaged) && job.Target.Kind == volume.ObjectSnapshot {
		return nil, false, j.undoDamaged(job.Target.Key)
	}
	if err != nil || copy == nil {
		return nil, false, err
	}
	abandoned, err = j.isAbandoned(maker, run, r.mtime)
	return copy, abandoned, err
}

// undoDamaged undoes a snapshot with a damaged record: its maker stopped while it wrote the final
// one.
func (j *Jobs) undoDamaged(key string) error {
	_, err := j.snapshots.undo(key, false, nil)
	if errors.Is(err, volume.ErrBusy) {
		return nil // its maker may still be writing it
	}
	return err
}

// copyFromRecord reads from the record of an unfinished volume or snapshot what is copied for it.
// copy is nil if nothing is.
func copyFromRecord(target volume.Object, on string, data []byte) (copy *volume.Copy, maker, run string, err error) {
	if target.Kind == volume.ObjectSnapshot {
		r, err := volume.DecodeSnapshotRecord(target.Key, data)
		if err != nil {
			return nil, "", "", err
		}
		source := volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: r.Volume}, Share: on}
		return &volume.Copy{Target: target, Source: source, Name: r.Name, Group: r.Group, GroupNonce: r.GroupNonce}, r.Maker, r.Run, nil
	}
	r, err := volume.DecodeRecord(target.Key, data)
	if err != nil || r.Source == nil {
		return nil, "", "", err
	}
	return &volume.Copy{Target: target, Source: *r.Source}, r.Maker, r.Run, nil
}

// Status is the state of a job.
type Status struct {
	Job
	Copy      volume.Copy
	Maker     string
	Idle      time.Duration // since the maker last renewed the record, by the local clock
	Abandoned bool
}

// Status returns the state of a job; nil if it has ended.
func (j *Jobs) Status(job Job) (st *Status, err error) {
	defer j.wrapError(&err, "read the state of the copy for %s", job.Target)
	e, r, err := j.tableOf(job.Target).read(job.Target.Key)
	if err != nil {
		return nil, ignore(err, unix.ENOENT)
	}
	e.close()
	if r.state != Making || !strings.Contains(string(r.data), job.nonce) {
		return nil, nil
	}
	copy, maker, run, err := copyFromRecord(job.Target, j.def.Name, r.data)
	if err != nil || copy == nil {
		return nil, err
	}
	abandoned, err := j.isAbandoned(maker, run, r.mtime)
	return &Status{job, *copy, maker, time.Since(time.Unix(r.mtime.Unix())), abandoned}, err
}

// ChangedAt returns the server's time of the last step of a volume or snapshot that is not
// complete: when its copy began, or when it was marked as being deleted or undone. It is zero if
// there is no entry. It says nothing about a complete one.
func (j *Jobs) ChangedAt(o volume.Object) (at time.Time, err error) {
	defer j.wrapError(&err, "read when %s last changed", o)
	e, err := j.tableOf(o).open(o.Key)
	if err != nil {
		return time.Time{}, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	defer e.close()
	at, err = e.deletedAt()
	if err != nil {
		return time.Time{}, ignore(err, unix.ESTALE)
	}
	return at, nil
}
