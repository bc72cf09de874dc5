// SPDX-License-Identifier: Apache-2.0

package share

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// halfTrashed is how long what was renamed into the trash waits for its record, which a
// retry of the interrupted deletion brings.
const halfTrashed = time.Hour

// Trash moves a volume's directory and then its record into the trash. Neither depends on
// what is in the directory. A retry of an interrupted call finishes it. It returns the entry,
// and when that is to be purged; a volume whose directory had vanished has none.
func (s *Share) Trash(ctx context.Context, r *Stored, now time.Time) (e Trashed, due time.Time, err error) {
	what := fmt.Sprintf("delete volume %s", r.Key)
	if err := s.held(volume.Object{Kind: volume.OfVolume, Key: r.Key}); err != nil {
		return Trashed{}, time.Time{}, s.fail(what, err)
	}
	e = Trashed{Name: trashName(r.Key, now), Key: r.Key, Deleted: now, data: true, recorded: true}
	moved := false
	err = s.leave(ctx, r, func(d beneath.Dir, name string) error {
		s.step("rename the directory into the trash")
		err := d.Rename(name, s.trash, e.Name)
		moved = err == nil
		return err
	})
	if err == nil && !moved {
		var half Trashed
		half, err = s.halfTrashed(r.Key)
		e.Name, e.Deleted = half.Name, half.Deleted
	}
	if err != nil {
		return Trashed{}, time.Time{}, s.fail(what, err)
	}
	if e.Name == "" { // nothing is there to be brought back
		s.step("remove the record")
		err = s.volumes.Unlink(jsonName(r.Key))
		return Trashed{}, time.Time{}, s.fail(what, ignore(err, unix.ENOENT))
	}
	s.step("rename the record into the trash")
	err = s.volumes.Rename(jsonName(r.Key), s.trash, jsonName(e.Name))
	return e, e.Deleted.Add(s.retention(&r.Record)), s.fail(what, ignore(err, unix.ENOENT))
}

// retention returns for how long a volume is kept in the trash.
func (s *Share) retention(r *volume.Record) time.Duration {
	if r.Retention != nil {
		return *r.Retention
	}
	return s.def.TrashRetention
}

// Release forgets a volume and leaves its directory as it is (onDelete: retain).
func (s *Share) Release(ctx context.Context, r *Stored) error {
	if r.Shallow {
		return s.releaseShallow(ctx, &r.Record)
	}
	err := s.leave(ctx, r, nil)
	if err == nil {
		s.step("remove the record")
		err = ignore(s.volumes.Unlink(jsonName(r.Key)), unix.ENOENT)
	}
	return s.fail(fmt.Sprintf("release volume %s", r.Key), err)
}

// Archive forgets a volume and renames its directory to archived-<name>, beside where it
// was, with a suffix where that is taken.
func (s *Share) Archive(ctx context.Context, r *Stored) error {
	err := s.leave(ctx, r, func(d beneath.Dir, name string) error { return s.archive(r, d, name) })
	if err == nil {
		s.step("remove the record")
		err = ignore(s.volumes.Unlink(jsonName(r.Key)), unix.ENOENT)
	}
	return s.fail(fmt.Sprintf("archive volume %s", r.Key), err)
}

// archive renames the directory. The new name is claimed for that moment: without
// RENAME_NOREPLACE, which NFS has not, a rename would replace the empty directory of a
// volume that is just being made there.
func (s *Share) archive(r *Stored, d beneath.Dir, name string) error {
	parent, _ := volume.SplitDirectory(r.Directory)
	claims, err := s.claims.Resolve(parent)
	if err != nil {
		return err
	}
	defer claims.Close()
	sum := sha256.Sum256([]byte(r.Key))
	unique := "-" + hex.EncodeToString(sum[:4])
	done := false
	for _, suffix := range []string{"", unique, unique + "-2", unique + "-3", unique + "-4"} {
		as := volume.ArchiveName(name, suffix)
		if !done {
			s.step("claim the archived name")
			if err := ignore(s.claim(r.Record, claims, as), unix.EEXIST); err != nil {
				return err
			}
		}
		if key, err := readClaim(claims, as); err != nil || key != r.Key {
			continue
		}
		if _, err := d.Stat(as); is(err, unix.ENOENT) && !done {
			s.step("rename the directory to its archived name")
			if err := ignore(d.Rename(name, d, as), unix.ENOENT); err != nil {
				return err
			}
			done = true
		}
		// Also that which an interrupted call left: hence all names, done or not.
		s.step("remove the archived name's claim")
		if err := ignore(claims.Unlink(as), unix.ENOENT); err != nil {
			return err
		}
	}
	if _, err := d.Stat(name); err == nil {
		return volume.Errorf(volume.ErrConflict, "share %s: volume %s cannot be archived: %q and its like are taken beside it: move the older archives away", s.def, r.Key, volume.ArchiveName(name, ""))
	}
	return nil
}

// leave takes a volume out of its place: it proves that the directory is the volume's, calls
// move with the open parent and the directory's name, and removes the claim. move says
// ENOENT where the directory is not there (any more); nil is for a directory that stays.
func (s *Share) leave(ctx context.Context, r *Stored, move func(parent beneath.Dir, name string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	owner, err := s.claimant(r)
	if err != nil {
		return err
	}
	parent, name := volume.SplitDirectory(r.Directory)
	defer s.leaveParents(parent)
	if owner != r.Key {
		if owner == "" && move == nil { // the directory stays, and its claim is gone already
			return nil
		}
		return s.leftAlready(ctx, r)
	}
	if move != nil {
		d, err := s.root.Resolve(parent)
		if err == nil {
			err = move(d, name)
			d.Close()
		}
		if err := ignore(err, unix.ENOENT); err != nil {
			return err
		}
	}
	claims, err := s.claims.Resolve(parent)
	if err == nil {
		s.step("remove the claim")
		err = claims.Unlink(name)
		claims.Close()
	}
	return ignore(err, unix.ENOENT) // another controller may be at it too
}

// looks is how often, and lookPause how far apart, a record is looked into that contradicts
// what is on the share: another controller that is at it too makes it look so for a moment.
const (
	looks     = 3
	lookPause = 100 * time.Millisecond
)

// leftAlready decides about a record whose directory is not claimed for it: an interrupted
// deletion may have come past the claim, or another controller. Anything else is refused.
func (s *Share) leftAlready(ctx context.Context, r *Stored) error {
	owner := ""
	for look := range looks {
		if look > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(lookPause):
			}
		}
		var err error
		if owner, err = s.claimant(r); err != nil {
			return err
		}
		if owner == r.Key {
			return volume.Errorf(volume.ErrBusy, "share %s: volume %s was changed from elsewhere at the same time: try again", s.def, r.Key)
		}
		if left, err := s.hasLeft(ctx, r, owner); err != nil || left {
			return err
		}
	}
	if owner == "" {
		owner = "no volume"
	}
	s.doubt()
	return volume.Errorf(volume.ErrDamaged, "share %s: volume %s is not deleted: its record says that its directory is %q, but %s has the claim on that; nothing was changed: compare %s/volumes/%s.json and %s/claims on the share and mend the one that is wrong",
		s.def, r.Key, r.Directory, owner, volume.StateDir, r.Key, volume.StateDir)
}

// hasLeft reports whether there is evidence that a volume has left its directory: that is in
// the trash, or nowhere, or the record is gone.
func (s *Share) hasLeft(ctx context.Context, r *Stored, owner string) (bool, error) {
	half, err := s.halfTrashed(r.Key)
	if err != nil || half.Name != "" {
		return true, err
	}
	there, err := s.Exists(ctx, r.Directory)
	if err != nil || !there && owner == "" {
		return true, err
	}
	if err := s.volumes.Refresh(); err != nil {
		return false, err
	}
	_, _, err = s.record(r.Key)
	return errors.Is(err, volume.ErrNotFound), nil
}

// halfTrashed finds what an interrupted deletion of key has left in the trash: a directory
// without its record. It has no name where there is nothing.
func (s *Share) halfTrashed(key string) (Trashed, error) {
	entries, err := s.trashed()
	for _, e := range entries {
		if e.Key == key && e.data && !e.recorded && !e.snapshot() && !e.passing() {
			return e, err
		}
	}
	return Trashed{}, err
}

// Trashed is a deleted volume or snapshot in the trash, or what a copy has left.
type Trashed struct {
	Name    string // of its directory in the trash
	Key     string
	Deleted time.Time // by the clock of the controller that deleted it

	data, recorded bool
	// purging: a purger has taken the tree, and nobody brings it back any more.
	purging bool
}

// snapshot reports whether it is a snapshot, which has its record in its directory.
func (e Trashed) snapshot() bool { return strings.HasSuffix(e.Name, snapshotSuffix) }

// passing reports whether it never was a volume: a copy that did not get to its place, or what
// a pod had inline. Nobody brings it back.
func (e Trashed) passing() bool {
	return strings.HasSuffix(e.Name, stagingSuffix) || strings.HasSuffix(e.Name, inlineSuffix)
}

// Recorded reports whether the volume's record has followed it into the trash, where it
// says how long it is to be kept.
func (e Trashed) Recorded() bool { return e.recorded || e.snapshot() || e.passing() }

// Trashed lists the trash, the oldest first.
func (s *Share) Trashed(ctx context.Context) ([]Trashed, error) {
	err := ctx.Err()
	var entries []Trashed
	if err == nil {
		entries, err = s.trashed()
	}
	return entries, s.fail("list the trash", err)
}

func (s *Share) trashed() ([]Trashed, error) {
	found := map[string]*Trashed{}
	err := s.trash.Names(func(name string) error {
		entry, isRecord := strings.CutSuffix(name, ".json")
		entry, purging := strings.CutSuffix(entry, purgingSuffix)
		key, deleted, ok := parseTrashName(entry)
		if !ok {
			return nil
		}
		e := found[entry]
		if e == nil {
			e = &Trashed{Name: entry, Key: key, Deleted: deleted}
			found[entry] = e
		}
		e.data = e.data || !isRecord
		e.recorded = e.recorded || isRecord
		e.purging = e.purging || purging
		return nil
	})
	entries := make([]Trashed, 0, len(found))
	for _, e := range found {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b Trashed) int {
		return cmp.Or(a.Deleted.Compare(b.Deleted), cmp.Compare(a.Name, b.Name))
	})
	return entries, err
}

// Due returns when an entry of the trash is to be purged: after the retention of its record,
// or else of the share. That the record cannot be read is an error: it may ask for longer.
func (s *Share) Due(e Trashed) (time.Time, error) {
	keep := s.def.TrashRetention
	switch {
	case e.passing(), e.purging:
		return e.Deleted, nil
	case e.snapshot():
		return e.Deleted.Add(keep), nil
	case !e.recorded:
		return e.Deleted.Add(max(keep, halfTrashed)), nil
	}
	data, _, err := s.trash.Read(jsonName(e.Name), maxRecord)
	if ignore(err, unix.ENOENT) != nil {
		return time.Time{}, s.fail("read the record of "+e.Name+" in the trash", err)
	}
	// A damaged record's volume is kept for as long as the share says.
	if r, err := volume.DecodeRecord(e.Key, data); err == nil {
		keep = s.retention(r)
	}
	return e.Deleted.Add(keep), nil
}

// Purge removes an entry of the trash for good: remove is called with the descriptor of the
// trash and the name to remove there, and the record goes last. What could be brought back is
// renamed first, which one of purge and Restore wins: so none is eaten while it is brought back,
// and none is brought back half eaten.
func (s *Share) Purge(e Trashed, remove func(trash int, name string) error) error {
	what := "purge " + e.Name + " from the trash"
	if err := s.purgeable(e); err != nil {
		return s.fail(what, err)
	}
	if e.data {
		name := e.Name
		if !e.passing() {
			name += purgingSuffix
		}
		if name != e.Name && !e.purging {
			s.step("take the tree for its purge")
			// ENOENT: another purger was first, or it was brought back.
			if err := ignore(s.trash.Rename(e.Name, s.trash, name), unix.ENOENT); err != nil {
				return s.fail(what, err)
			}
		}
		s.step("purge")
		if err := remove(int(s.trash), name); err != nil {
			return s.fail(what, err)
		}
	}
	if !e.recorded {
		return nil
	}
	s.step("remove the record from the trash")
	return s.fail(what, ignore(s.trash.Unlink(jsonName(e.Name)), unix.ENOENT))
}

// The suffixes of names in the trash, of what was never in its place, of a snapshot and of an
// inline volume. A volume's name ends with its time. purgingSuffix comes after them.
const (
	stagingSuffix  = ".staging"
	snapshotSuffix = ".snapshot"
	inlineSuffix   = ".inline"
	purgingSuffix  = ".purging"
)

func trashName(key string, at time.Time) string {
	return key + "." + strconv.FormatInt(at.UnixNano(), 10)
}

func parseTrashName(name string) (key string, at time.Time, ok bool) {
	for _, suffix := range []string{stagingSuffix, snapshotSuffix, inlineSuffix} {
		name = strings.TrimSuffix(name, suffix)
	}
	i := strings.LastIndexByte(name, '.')
	if i <= 0 {
		return "", time.Time{}, false
	}
	nano, err := strconv.ParseInt(name[i+1:], 10, 64)
	return name[:i], time.Unix(0, nano), err == nil
}
