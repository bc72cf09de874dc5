// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// DeletedRecord returns the record of a deleted volume, or of one that was restored already, and its
// share.
func (s *Service) DeletedRecord(ctx context.Context, f Filter, ref string) (string, *volume.Record, error) {
	return s.withDeleted(ctx, f, ref, func(ctx context.Context, sh *share.Share, ref string) (*volume.Record, error) {
		e, err := restorable(ctx, sh, ref)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return restoredRecord(ctx, sh, ref)
		}
		r, _, err := sh.Trash.Record(*e)
		if err != nil {
			return nil, err
		}
		if r == nil {
			return nil, volume.Errorf(volume.ErrPrecondition, "%s is not a deleted volume with its record, and cannot be restored", ref)
		}
		return r, nil
	})
}

func notInTrash(sh *share.Share, ref string) error {
	return volume.Errorf(volume.ErrNotFound, "share %s: %s is not in the trash: it was purged, or never was there; mooringctl trash list shows what is", sh.Definition(), ref)
}

// restorable finds the entry of a deleted volume; nil if that is not in the trash. If the entry of
// that name has no tree, the tree may be in another entry: its restore was interrupted, and undone.
func restorable(ctx context.Context, sh *share.Share, ref string) (*share.TrashEntry, error) {
	e, err := find(ctx, sh, ref, func(e share.TrashEntry) bool { return wholeVolume(e) || inPlace(ctx, sh, e) })
	if err != nil || e != nil && stateOf(*e) != stateEmpty {
		return e, err
	}
	again, err := findRenamed(ctx, sh, ref)
	if again != nil || err != nil {
		return again, err
	}
	return e, nil
}

// inPlace reports whether the directory of an entry stays in its place. Later work on the entry reports
// an error of this check.
func inPlace(ctx context.Context, sh *share.Share, e share.TrashEntry) bool {
	in, err := sh.Trash.IsInPlace(ctx, e)
	return err == nil && in
}

func wholeVolume(e share.TrashEntry) bool { return e.Complete() && e.Kind() == "volume" }

// findRenamed finds the entry that has the tree of the entry of that name, by its record. nil: there is
// none.
func findRenamed(ctx context.Context, sh *share.Share, name string) (*share.TrashEntry, error) {
	n, ok := volume.ParseTrashName(name)
	if !ok {
		return nil, nil
	}
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Key != n.Key || !wholeVolume(e) {
			continue
		}
		r, _, err := sh.Trash.Record(e)
		if isUnreadable(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if r != nil && r.Restored != nil && r.Restored.Entry == n.ID {
			return &e, nil
		}
	}
	return nil, nil
}

// restoredRecord reads the record of a volume that was restored, or is being restored. ref is its key,
// or the entry that it had in the trash.
func restoredRecord(ctx context.Context, sh *share.Share, ref string) (*volume.Record, error) {
	entry := ""
	r, err := sh.Volumes.Lookup(ctx, ref)
	if n, ok := volume.ParseTrashName(ref); ok && errors.Is(err, volume.ErrNotFound) {
		entry = n.ID
		r, err = sh.Volumes.Lookup(ctx, n.Key)
	}
	if errors.Is(err, volume.ErrNotFound) {
		return nil, notInTrash(sh, ref)
	}
	if err != nil {
		return nil, err
	}
	if r.Restored == nil || entry != "" && r.Restored.Entry != entry {
		return nil, notInTrash(sh, ref)
	}
	return &r.Record, nil
}

// retryInterval is how often a restore is retried while another process works on the volume.
const retryInterval = 200 * time.Millisecond

// Restore restores a deleted volume to its old directory, or to another one if that is not "". It waits
// while another process may work on the volume, for example one that was killed a moment ago, and then
// undoes the work of that process.
func (s *Service) Restore(ctx context.Context, f Filter, ref, directory string) (string, *volume.Record, error) {
	return s.withDeleted(ctx, f, ref, func(ctx context.Context, sh *share.Share, ref string) (*volume.Record, error) {
		deadline := time.Now().Add(2 * sh.Lease())
		for {
			// Find it again each time: an undone restore has another name in the trash.
			r, entry, err := restore(ctx, sh, ref, directory)
			if !errors.Is(err, volume.ErrBusy) || time.Now().After(deadline) {
				return r, err
			}
			ref = cmp.Or(entry, ref)
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(retryInterval):
			}
		}
	})
}

// restore tries once to restore a volume. entry is its entry in the trash.
func restore(ctx context.Context, sh *share.Share, ref, directory string) (r *volume.Record, entry string, err error) {
	e, err := restorable(ctx, sh, ref)
	if err != nil {
		return nil, "", err
	}
	if e != nil {
		r, err = sh.Volumes.Restore(ctx, *e, directory)
		return r, e.Name, err
	}
	r, err = restoredRecord(ctx, sh, ref)
	if err != nil {
		return nil, "", err
	}
	r, err = sh.Volumes.LookupRestored(ctx, r.Key)
	if errors.Is(err, volume.ErrNotFound) {
		err = notInTrash(sh, ref)
	}
	return r, "", err
}

// withDeleted does work on the deleted volume of a reference. do gets the reference without the share.
func (s *Service) withDeleted(ctx context.Context, f Filter, ref string, do func(ctx context.Context, sh *share.Share, ref string) (*volume.Record, error)) (name string, r *volume.Record, err error) {
	f, rest, err := s.shareOf(f, ref)
	if err != nil {
		return "", nil, err
	}
	name = f.Shares[0]
	err = workOn(ctx, s, <-s.open(ctx, name), name, func(got *volume.Record) error { r = got; return nil },
		func(ctx context.Context, sh *share.Share, emit emitter[*volume.Record]) error {
			got, err := do(ctx, sh, rest)
			if err != nil {
				return err
			}
			return emit(got)
		})
	return name, r, err
}
