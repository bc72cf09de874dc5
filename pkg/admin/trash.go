// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Deleted is a row of the list of what is in the trash.
type Deleted struct {
	Entry  string `json:"entry"`  // "nas1/pvc-1.1795410584443218702"
	Handle string `json:"handle"` // that it had
	Kind   string `json:"kind"`   // "volume", "snapshot", "leftover"
	// State is "whole" for what can be brought back; "purging"; "unfinished" where the deletion
	// was interrupted; "empty" where the tree was taken away; else "leftover".
	State     string      `json:"state"`
	Claim     *volume.PVC `json:"claim,omitempty"`
	Directory string      `json:"directory,omitempty"` // where it was
	Capacity  int64       `json:"capacityBytes"`
	Deleted   time.Time   `json:"deleted"`
	Due       time.Time   `json:"purgedAfter"`

	trashed share.Trashed
}

// Trash calls each for what is in the trash, share by share, the oldest first.
func (s *Service) Trash(ctx context.Context, f Filter, each func(Deleted) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Deleted]) error {
		return s.trash(ctx, sh, f, emit)
	})
}

func (s *Service) trash(ctx context.Context, sh *share.Share, f Filter, emit emitter[Deleted]) error {
	entries, err := sh.Trashed(ctx)
	if err != nil {
		return err
	}
	byName := make(map[string]share.Trashed, len(entries))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		byName[e.Name] = e
		names = append(names, e.Name)
	}
	return inOrder(ctx, s, names, emit, func(name string) (*Deleted, error) {
		d, err := deleted(sh, byName[name])
		if err != nil || !f.takes(d.Claim) {
			return nil, err
		}
		return d, nil
	})
}

func deleted(sh *share.Share, e share.Trashed) (*Deleted, error) {
	name := sh.Definition().Name
	d := &Deleted{
		Entry: name + "/" + e.Name, Handle: name + "/" + e.Key, Kind: e.Kind(), State: "empty",
		Deleted: e.Deleted.UTC(), trashed: e,
	}
	switch {
	case e.Purging():
		d.State = "purging"
	case e.Kind() == "leftover":
		d.State = "leftover"
	case !e.Recorded():
		d.State = "unfinished"
	case e.Whole():
		d.State = "whole"
	}
	due, err := sh.Due(e)
	if err != nil {
		return nil, err
	}
	d.Due = due.UTC()
	r, snapshot, err := sh.DeletedRecord(e)
	switch {
	case err != nil:
		return nil, err
	case r != nil:
		d.Claim, d.Directory, d.Capacity = r.PVC, r.Directory, r.Capacity
	case snapshot != nil:
		d.Capacity = snapshot.Capacity
	}
	return d, nil
}

// split takes what a user has typed for an entry or a handle apart: share is "" where he did
// not name one.
func split(ref string) (share, name string) {
	i := strings.LastIndexByte(ref, '/')
	return ref[:max(i, 0)], ref[i+1:]
}

// find looks a reference up on an open share: an entry of the trash, or a handle, of which
// there has to be one.
func find(ctx context.Context, sh *share.Share, name string, wanted func(share.Trashed) bool) (*share.Trashed, error) {
	entries, err := sh.Trashed(ctx)
	if err != nil {
		return nil, err
	}
	var found []share.Trashed
	for _, e := range entries {
		if e.Name == name {
			return &e, nil
		}
		if e.Key == name && wanted(e) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	var names []string
	for _, e := range found {
		names = append(names, sh.Definition().Name+"/"+e.Name)
	}
	return nil, volume.Errorf(volume.ErrConflict, "%s is in the trash %d times: say which one: %s", name, len(found), strings.Join(names, ", "))
}

// home finds the share of a reference: the one that it names, or the only one that is chosen.
func (s *Service) home(f Filter, ref string) (Filter, string, error) {
	name, rest := split(ref)
	if name != "" {
		return Filter{Shares: []string{name}}, rest, nil
	}
	names, err := s.shares(f)
	if err == nil && len(names) != 1 {
		err = volume.Errorf(volume.ErrInvalid, "%q names no share: write <share>/%s, or add --share", ref, ref)
	}
	return Filter{Shares: names}, rest, err
}

// DeletedRecord returns the record of a deleted volume, or of one that was brought back already,
// and the share that it is on.
func (s *Service) DeletedRecord(ctx context.Context, f Filter, ref string) (string, *volume.Record, error) {
	return s.one(ctx, f, ref, func(ctx context.Context, sh *share.Share, e *share.Trashed, key string) (*volume.Record, error) {
		if e == nil {
			r, err := sh.Lookup(ctx, key)
			if err == nil && r.Restored != nil {
				return &r.Record, nil
			}
			if err == nil || errors.Is(err, volume.ErrNotFound) {
				err = absent(sh, ref)
			}
			return nil, err
		}
		r, _, err := sh.DeletedRecord(*e)
		if err == nil && r == nil {
			err = volume.Errorf(volume.ErrConflict, "%s is no deleted volume with its record, and cannot be brought back", ref)
		}
		return r, err
	})
}

func absent(sh *share.Share, ref string) error {
	return volume.Errorf(volume.ErrNotFound, "share %s: %s is not in the trash: it was purged, or never was there; mooringctl trash list shows what is", sh.Definition(), ref)
}

// retryEvery is how often is tried again what another is at.
const retryEvery = 500 * time.Millisecond

// Restore brings a deleted volume back, to its old directory or, where one is named, another.
// While another may be at it, as one who was killed a moment ago, it waits.
func (s *Service) Restore(ctx context.Context, f Filter, ref, directory string) (string, *volume.Record, error) {
	return s.one(ctx, f, ref, func(ctx context.Context, sh *share.Share, e *share.Trashed, key string) (r *volume.Record, err error) {
		deadline := time.Now().Add(2 * sh.Lease())
		for {
			if e != nil {
				r, err = sh.Restore(ctx, *e, directory)
			} else if r, err = sh.Restored(ctx, key); errors.Is(err, volume.ErrNotFound) {
				err = absent(sh, ref)
			}
			if !errors.Is(err, volume.ErrBusy) || time.Now().After(deadline) {
				return r, err
			}
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(retryEvery):
			}
		}
	})
}

// one does something with the one volume that a reference is to. e is nil where nothing of it
// is in the trash.
func (s *Service) one(ctx context.Context, f Filter, ref string, do func(ctx context.Context, sh *share.Share, e *share.Trashed, key string) (*volume.Record, error)) (name string, r *volume.Record, err error) {
	f, rest, err := s.home(f, ref)
	if err == nil {
		_, err = s.shares(f)
	}
	if err != nil {
		return "", nil, err
	}
	name = f.Shares[0]
	o := <-s.open(ctx, name)
	if o.err != nil {
		return "", nil, o.err
	}
	err = on(ctx, s, o, name, func(got *volume.Record) error { r = got; return nil },
		func(ctx context.Context, sh *share.Share, emit emitter[*volume.Record]) error {
			e, err := find(ctx, sh, rest, func(e share.Trashed) bool { return e.Whole() && e.Kind() == "volume" })
			if err != nil {
				return err
			}
			key := rest
			if e != nil {
				key = e.Key
			}
			got, err := do(ctx, sh, e, key)
			if err != nil {
				return err
			}
			return emit(got)
		})
	return name, r, err
}

// purgeWorkers is how many calls remove one tree, as the controller's purger does it.
const purgeWorkers = 8

// Purged is what was removed for good.
type Purged struct {
	Entry   string
	Entries int64 // files and directories
}

// Purge removes entries of the trash for good: those that the references are to, or all where
// there are none. What is still being deleted is left to its controller.
func (s *Service) Purge(ctx context.Context, f Filter, refs []string, each func(Purged) error) error {
	byShare := map[string][]string{}
	for _, ref := range refs {
		of, name, err := s.home(f, ref)
		if err != nil {
			return err
		}
		byShare[of.Shares[0]] = append(byShare[of.Shares[0]], name)
	}
	if refs != nil {
		f.Shares = nil
		for name := range byShare {
			f.Shares = append(f.Shares, name)
		}
		slices.Sort(f.Shares)
	}
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Purged]) error {
		entries, err := s.toPurge(ctx, sh, f, refs != nil, byShare[sh.Definition().Name])
		for _, e := range entries {
			if err != nil {
				return err
			}
			removal := &copytree.Removal{Workers: purgeWorkers}
			err := sh.Purge(e, func(trash int, name string) error { return removal.Remove(ctx, trash, name) })
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the next may go well
				s.report(err)
				continue
			}
			if err := emit(Purged{sh.Definition().Name + "/" + e.Name, removal.Entries.Load()}); err != nil {
				return err
			}
		}
		return err
	})
}

// toPurge finds what is to be purged on a share.
func (s *Service) toPurge(ctx context.Context, sh *share.Share, f Filter, chosen bool, names []string) ([]share.Trashed, error) {
	var entries []share.Trashed
	if !chosen {
		err := s.trash(ctx, sh, f, func(all ...Deleted) error {
			for _, d := range all {
				if d.State != "unfinished" {
					entries = append(entries, d.trashed)
				}
			}
			return nil
		})
		return entries, err
	}
	for _, name := range names {
		e, err := find(ctx, sh, name, func(share.Trashed) bool { return true })
		switch {
		case err != nil:
			return nil, err
		case e == nil:
			s.report(absent(sh, fmt.Sprintf("%s/%s", sh.Definition().Name, name)))
		case !e.Recorded():
			s.report(volume.Errorf(volume.ErrConflict, "%s/%s is not purged: its deletion was interrupted, and goes on when the PersistentVolume's is tried again", sh.Definition().Name, e.Name))
		default:
			entries = append(entries, *e)
		}
	}
	return entries, nil
}
