// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// abandonedGroup is how long a group that is not whole waits for the one who asked for it.
const abandonedGroup = time.Hour

// BeginGroup publishes the record of a group whose snapshots are then made, create-once. Where
// a record of the key is there already, that is returned.
func (s *Share) BeginGroup(ctx context.Context, r volume.GroupRecord) (*volume.GroupRecord, error) {
	what := "publish the record of the snapshot group " + r.Key
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	for range turns {
		s.step("write the group's record aside")
		aside := nonceFile(r.Key, s.nonce())
		f, err := s.staging.Write(aside, unix.O_EXCL, data)
		if err != nil {
			return nil, s.fail(what, err)
		}
		_ = f.Close() // it is synced
		s.step("link the group's record")
		err = s.staging.Link(aside, s.groups, jsonName(r.Key))
		if noLinks(err) {
			if f, err = s.groups.Write(jsonName(r.Key), unix.O_EXCL, data); err == nil {
				err = f.Close()
			}
		}
		_ = s.staging.Unlink(aside)
		if err == nil {
			return &r, nil
		}
		if !is(err, unix.EEXIST) {
			return nil, s.fail(what, err)
		}
		found, err := s.group(r.Key)
		if !is(err, unix.ENOENT) {
			return found, s.fail(what, err)
		}
	}
	return nil, s.confused(what)
}

// Group reads the record of a group. It is ErrNotFound where there is none.
func (s *Share) Group(ctx context.Context, key string) (*volume.GroupRecord, error) {
	what := "read the record of the snapshot group " + key
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	r, err := s.group(key)
	if is(err, unix.ENOENT) {
		return nil, volume.Errorf(volume.ErrNotFound, "share %s has no snapshot group %s", s.def, key)
	}
	return r, s.fail(what, err)
}

// group says ENOENT where there is none.
func (s *Share) group(key string) (*volume.GroupRecord, error) {
	if err := s.groups.Refresh(); err != nil {
		return nil, err
	}
	data, _, err := s.groups.Read(jsonName(key), maxRecord)
	if gone(err) && !s.gone() {
		return nil, pathError("open", key, unix.ENOENT)
	}
	if err != nil {
		return nil, err
	}
	r, err := volume.DecodeGroupRecord(key, data)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", s.def, err)
	}
	return r, nil
}

// CommitGroup makes the snapshots of a group, all of which are whole, ready for use: one byte
// changes, in place.
func (s *Share) CommitGroup(ctx context.Context, key string) error {
	what := "mark the snapshot group " + key + " ready"
	if err := ctx.Err(); err != nil {
		return s.fail(what, err)
	}
	f, err := s.groups.Open(jsonName(key), unix.O_RDWR)
	if err != nil {
		return s.fail(what, err)
	}
	data := make([]byte, maxRecord)
	n, _ := f.ReadAt(data, 0)
	s.step(what)
	if at := volume.ReadyAt(data[:n]); at < 0 {
		err = volume.Errorf(volume.ErrDamaged, "share %s: the record of the snapshot group %s is not as Mooring writes it: restore it from a backup", s.def, key)
	} else if _, err = f.WriteAt([]byte("1"), int64(at)); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return s.fail(what, err)
}

// RemoveGroup forgets a group, whose snapshots have to be gone.
func (s *Share) RemoveGroup(ctx context.Context, key string) error {
	what := "remove the record of the snapshot group " + key
	if err := ctx.Err(); err != nil {
		return s.fail(what, err)
	}
	s.step(what)
	return s.fail(what, ignore(s.groups.Unlink(jsonName(key)), unix.ENOENT))
}

// Unused returns ErrConflict where a volume is the snapshot itself, and ErrBusy where it is
// being copied.
func (s *Share) Unused(ctx context.Context, key string) error {
	what := "look whether snapshot " + key + " is used"
	err := ctx.Err()
	if err == nil {
		err = s.held(volume.Object{Kind: volume.OfSnapshot, Key: key})
	}
	if err == nil {
		var d beneath.Dir
		if d, err = s.snapshots.Resolve(key); err == nil {
			err = s.unused(key, d)
			d.Close()
		}
	}
	return s.fail(what, ignore(err, unix.ENOENT))
}

// AbandonedGroups returns the groups that were begun long ago and are not whole.
func (s *Share) AbandonedGroups(ctx context.Context) ([]volume.GroupRecord, error) {
	const what = "list the snapshot groups"
	var keys []string
	err := ctx.Err()
	if err == nil {
		err = s.groups.Names(func(name string) error {
			if key, ok := keyOf(name); ok {
				keys = append(keys, key)
			}
			return ctx.Err()
		})
	}
	if err != nil {
		return nil, s.fail(what, err)
	}
	var abandoned []volume.GroupRecord
	for _, key := range keys {
		r, err := s.group(key)
		if err == nil && r.Ready == 0 && time.Since(r.Created) > abandonedGroup {
			abandoned = append(abandoned, *r)
		}
	}
	return abandoned, nil
}
