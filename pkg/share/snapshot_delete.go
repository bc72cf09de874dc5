// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Delete moves a snapshot to the trash, and returns the entry there; nil if there is none. The
// steps are those of Volumes.Delete, with data instead of the directory and without a claim. A
// snapshot that does not exist counts as deleted. One that is not complete is undone, if its maker
// has stopped. check, if not nil, may refuse the snapshot with an error. ErrBusy: the snapshot is
// being made or copied. ErrPrecondition: a volume is the snapshot itself.
func (s *Snapshots) Delete(ctx context.Context, key string, check func(*volume.SnapshotRecord) error) (t *TrashEntry, err error) {
	defer s.wrapError(&err, "delete snapshot %s", key)
	if err := s.checkUsable(ctx); err != nil {
		return nil, err
	}
	which := ""
	for range retries {
		e, r, err := s.lookup(key)
		if errors.Is(err, volume.ErrNotFound) {
			ready, err := s.undo(key, false, check)
			if ready {
				continue
			}
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		if which != "" && r.Nonce != which { // a new one: the one to delete is gone
			e.close()
			return nil, nil
		}
		which = r.Nonce
		t, again, err := s.delete(e, r, check)
		e.close()
		if !again {
			return t, err
		}
	}
	return nil, busy("snapshot %s is made and deleted again and again", key)
}

func (s *Snapshots) delete(e *entry, r *volume.SnapshotRecord, check func(*volume.SnapshotRecord) error) (t *TrashEntry, again bool, err error) {
	if check != nil {
		if err := check(r); err != nil {
			return nil, false, err
		}
	}
	if err := r.CheckRequires(); err != nil {
		return nil, false, err
	}
	err = e.deletionMark().mark()
	var held heldError
	switch {
	case is(err, unix.ENOENT):
		return nil, true, nil
	case errors.As(err, &held):
		return nil, false, held.explain("snapshot " + e.key)
	case err != nil:
		return nil, false, err
	}
	t, err = s.moveToTrash(e, r)
	return t, false, err
}

// holderNames returns the holders as a list in words.
func (h heldError) holderNames() string { return strings.Join(h.holders, ", ") }

// explain returns the error that object, a volume or snapshot, cannot be deleted. ErrBusy: it is being
// copied. ErrPrecondition: a volume is the snapshot itself, or a hold is of a kind that is not known here.
func (h heldError) explain(object string) error {
	for _, name := range h.holders {
		if strings.HasPrefix(name, unknownHolderPrefix) {
			return volume.Errorf(volume.ErrPrecondition, "%s cannot be deleted: it is kept by %s, which this Mooring does not know: upgrade Mooring, or run mooringctl check to see what it is", object, name)
		}
		if strings.HasPrefix(name, "volume ") {
			return volume.Errorf(volume.ErrPrecondition, "%s cannot be deleted: the read-only %s is the snapshot itself (restore: shallow): delete that first", object, h.holderNames())
		}
	}
	return volume.Errorf(volume.ErrBusy, "%s is being copied, for %s: try again when that is done", object, h.holderNames())
}

// finishDeletion finishes the deletion of a marked snapshot.
func (s *Snapshots) finishDeletion(e *entry, r rawRecord) error {
	rec, err := volume.DecodeSnapshotRecord(e.key, r.data)
	if err != nil {
		return err
	}
	if err := rec.CheckRequires(); err != nil {
		return err
	}
	_, err = s.moveToTrash(e, rec)
	return err
}

// moveToTrash moves the tree and then the record of a marked snapshot into the trash, and removes
// the entry.
func (s *Snapshots) moveToTrash(e *entry, r *volume.SnapshotRecord) (*TrashEntry, error) {
	at, err := e.deletedAt()
	if err != nil {
		return nil, ignore(err, unix.ESTALE)
	}
	id := volume.TrashID(volume.TrashSnapshot, r.Key, r.Nonce)
	if _, err := s.trash.moveTree(e, dataName, id); err != nil {
		return nil, err
	}
	t, err := s.trash.moveRecord(e, deletionName, id, at, s.def.TrashRetention)
	if err != nil {
		return nil, err
	}
	return t, e.remove(e.leftovers().discard)
}

// CheckUnused returns ErrPrecondition if a volume is the snapshot itself, or if the snapshot
// requires what this program does not know, and ErrBusy if the snapshot is being copied.
func (s *Snapshots) CheckUnused(ctx context.Context, key string) (err error) {
	defer s.wrapError(&err, "check whether snapshot %s is used", key)
	if err := ctx.Err(); err != nil {
		return err
	}
	e, r, err := s.lookup(key)
	if errors.Is(err, volume.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.close()
	if err := r.CheckRequires(); err != nil {
		return err
	}
	holders, err := e.holds().holders()
	if err != nil || len(holders) == 0 {
		return err
	}
	return heldError{holders}.explain("snapshot " + key)
}
