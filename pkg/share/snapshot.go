// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// recordFile is the name of a snapshot's record in its directory, and usersDir that of the
// directory which names the volumes that are the snapshot itself.
const (
	recordFile = "record.json"
	usersDir   = "users"
)

// Snapshot reads the record of a snapshot. It is ErrNotFound where there is none, and
// ErrDamaged where it cannot be believed.
func (s *Share) Snapshot(ctx context.Context, key string) (*volume.SnapshotRecord, error) {
	what := "read the record of snapshot " + key
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	r, d, err := s.snapshot(key)
	if err != nil {
		return nil, s.fail(what, err)
	}
	d.Close()
	return r, nil
}

// snapshot opens a snapshot's directory and reads its record.
func (s *Share) snapshot(key string) (*volume.SnapshotRecord, beneath.Dir, error) {
	notFound := func() error { return volume.Errorf(volume.ErrNotFound, "share %s has no snapshot %s", s.def, key) }
	if err := s.snapshots.Refresh(); err != nil {
		return nil, beneath.None, err
	}
	d, err := s.snapshots.Resolve(key)
	if is(err, unix.ENOENT) {
		return nil, beneath.None, notFound()
	}
	if err != nil {
		return nil, beneath.None, err
	}
	data, _, err := d.Read(recordFile, maxRecord)
	var r *volume.SnapshotRecord
	switch {
	case err == nil:
		if r, err = volume.DecodeSnapshotRecord(key, data); err != nil {
			err = fmt.Errorf("share %s: %w", s.def, err)
		}
	case is(err, unix.ESTALE) && !s.gone():
		err = notFound()
	case is(err, unix.ENOENT):
		err = volume.Errorf(volume.ErrDamaged, "share %s: the record of snapshot %s is missing: restore %s/snapshots/%s/%s on the share from a backup", s.def, key, volume.StateDir, key, recordFile)
	}
	if err != nil {
		d.Close()
		return nil, beneath.None, err
	}
	return r, d, nil
}

// SnapshotKeys returns the keys of all snapshots, sorted.
func (s *Share) SnapshotKeys(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, s.fail("list the snapshots", err)
	}
	var keys []string
	err := s.snapshots.Names(func(name string) error {
		keys = append(keys, name)
		return ctx.Err()
	})
	slices.Sort(keys)
	return keys, s.fail("list the snapshots", err)
}

// TrashSnapshot moves a snapshot to the trash: one rename, whatever is in it. It returns the
// entry there and when that is to be purged. ErrBusy: it is being restored. ErrConflict: a
// volume is the snapshot itself.
func (s *Share) TrashSnapshot(ctx context.Context, key string, now time.Time) (e Trashed, due time.Time, err error) {
	what := "delete snapshot " + key
	if err = ctx.Err(); err == nil {
		err = s.held(volume.Object{Kind: volume.OfSnapshot, Key: key})
	}
	if err != nil {
		return Trashed{}, time.Time{}, s.fail(what, err)
	}
	d, err := s.snapshots.Resolve(key)
	if err != nil {
		return Trashed{}, time.Time{}, s.fail(what, ignore(err, unix.ENOENT))
	}
	defer d.Close()
	if err = s.unused(key, d); err != nil {
		return Trashed{}, time.Time{}, s.fail(what, err)
	}
	e = Trashed{Name: trashName(key, now) + snapshotSuffix, Key: key, Deleted: now, data: true}
	s.step("rename the snapshot into the trash")
	err = s.snapshots.Rename(key, s.trash, e.Name)
	if is(err, unix.ENOENT) {
		return Trashed{}, time.Time{}, nil
	}
	if err == nil {
		// A volume that came meanwhile looks, after it said so, whether the snapshot is there.
		if err = s.unused(key, d); err != nil {
			s.step("rename the snapshot back")
			err = errors.Join(err, s.trash.Rename(e.Name, s.snapshots, key))
		}
	}
	return e, now.Add(s.def.TrashRetention), s.fail(what, err)
}

// unused returns ErrConflict where a volume is the snapshot itself. d is its directory.
func (s *Share) unused(key string, d beneath.Dir) error {
	users, err := d.Resolve(usersDir)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer users.Close()
	var names []string
	if err := users.Names(func(name string) error { names = append(names, name); return nil }); err != nil {
		return err
	}
	var inUse []string
	for _, name := range names {
		r, _, err := s.record(name)
		switch {
		case errors.Is(err, volume.ErrNotFound), err == nil && !isThe(r, key):
			s.step("remove the mark of a volume that is gone")
			_ = users.Unlink(name)
		case err != nil:
			return err
		default:
			inUse = append(inUse, name)
		}
	}
	if inUse == nil {
		return nil
	}
	return volume.Errorf(volume.ErrConflict, "share %s: snapshot %s cannot be deleted: the read-only volume %s is the snapshot itself (restore: shallow): delete that first", s.def, key, strings.Join(inUse, ", "))
}

// UseSnapshot makes the volume the snapshot itself, which cannot be deleted from then on.
func (m *Making) UseSnapshot(ctx context.Context) error {
	s, key := m.s, m.rec.Source.Key
	what := fmt.Sprintf("make volume %s of snapshot %s itself", m.rec.Key, key)
	err := m.allowed(ctx)
	var d beneath.Dir
	if err == nil {
		_, d, err = s.snapshot(key)
	}
	if err != nil {
		return s.fail(what, err)
	}
	defer d.Close()
	if err = s.markUser(d, m.rec.Key); err == nil {
		// Who deletes renames first and looks for users then.
		var now beneath.Dir
		if err = s.snapshots.Refresh(); err == nil {
			now, err = s.snapshots.Resolve(key)
		}
		if err == nil {
			defer now.Close()
			var same bool
			if same, err = sameDir(d, now); err == nil && !same {
				err = unix.ENOENT
			}
		}
		if is(err, unix.ENOENT) {
			err = volume.Errorf(volume.ErrNotFound, "share %s has no snapshot %s: it is just being deleted", s.def, key)
		}
	}
	return s.fail(what, err)
}

func (s *Share) markUser(d beneath.Dir, key string) error {
	users, err := d.Resolve(usersDir)
	if is(err, unix.ENOENT) {
		s.step("make the directory of users")
		if err = ignore(d.Mkdir(usersDir, 0o700), unix.EEXIST); err == nil {
			users, err = d.Resolve(usersDir)
		}
	}
	if err != nil {
		return err
	}
	defer users.Close()
	s.step("mark the snapshot as used")
	f, err := users.Open(key, unix.O_CREAT|unix.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

func sameDir(a, b beneath.Dir) (bool, error) {
	st, err := a.Self()
	if err != nil {
		return false, err
	}
	other, err := b.Self()
	return st.Ino == other.Ino && st.Dev == other.Dev, err
}

// releaseShallow forgets a volume that is a snapshot itself.
func (s *Share) releaseShallow(ctx context.Context, r *volume.Record) error {
	err := ctx.Err()
	if err == nil {
		s.step("remove the record")
		err = ignore(s.volumes.Unlink(jsonName(r.Key)), unix.ENOENT)
	}
	if err == nil {
		err = s.unmarkUser(r)
	}
	return s.fail("delete volume "+r.Key, err)
}

// unmarkUser lets go of the snapshot. It comes after the record: a mark without one is none.
func (s *Share) unmarkUser(r *volume.Record) error {
	d, err := s.snapshots.Resolve(r.Source.Key)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer d.Close()
	users, err := d.Resolve(usersDir)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer users.Close()
	s.step("remove the mark of use")
	return ignore(users.Unlink(r.Key), unix.ENOENT)
}

// purgeable refuses to destroy what is being copied from, or used, after all: those who began
// that found it before it was renamed.
func (s *Share) purgeable(e Trashed) error {
	switch {
	case e.passing(), e.purging:
		return nil
	case !e.snapshot():
		return s.held(volume.Object{Kind: volume.OfVolume, Key: e.Key})
	}
	if err := s.held(volume.Object{Kind: volume.OfSnapshot, Key: e.Key}); err != nil {
		return err
	}
	d, err := s.trash.Resolve(e.Name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer d.Close()
	err = s.unused(e.Key, d)
	if errors.Is(err, volume.ErrConflict) {
		s.step("rename the snapshot back")
		if e := s.trash.Rename(e.Name, s.snapshots, e.Key); e != nil {
			return errors.Join(err, e)
		}
	}
	return err
}

// isThe reports whether the volume of a record is the snapshot key itself.
func isThe(r *volume.Record, key string) bool { return r.Shallow && r.Source.Key == key }
