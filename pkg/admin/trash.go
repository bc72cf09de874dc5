// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Deleted is a row of the list of the trash.
type Deleted struct {
	Entry  string `json:"entry"`  // "nas1/pvc-1.6d8f3b0a9c2e4175"
	Handle string `json:"handle"` // that it had
	Kind   string `json:"kind"`   // "volume", "snapshot", "leftover"
	// State is "whole" if it can be restored; "purging"; "unfinished" if the deletion was interrupted;
	// "unreadable" if the record is; "in place" if the directory could not be moved into the trash;
	// "empty" if the tree was taken out; otherwise "leftover". An unfinished or unreadable entry is not
	// purged.
	State     string      `json:"state"`
	Claim     *volume.PVC `json:"claim,omitempty"`
	Directory string      `json:"directory,omitempty"` // where it was
	Capacity  int64       `json:"capacityBytes"`
	// The times are by the server's clock, and zero if there is no record.
	Deleted time.Time `json:"deleted,omitzero"`
	Due     time.Time `json:"purgedAfter,omitzero"`

	trashed share.TrashEntry
}

// Kept reports whether the entry is not purged, however old it is: whether that is safe is unknown.
func (d Deleted) Kept() bool { return d.State == stateUnfinished || d.State == stateUnreadable }

// Restorable reports whether the entry is a volume that can be restored.
func (d Deleted) Restorable() bool {
	return d.Kind == "volume" && (d.State == stateWhole || d.State == stateInPlace)
}

const (
	stateWhole      = "whole"
	stateUnfinished = "unfinished"
	stateEmpty      = "empty"
	stateInPlace    = "in place"
)

// stateOf returns the state of an entry according to its file names.
func stateOf(e share.TrashEntry) string {
	switch {
	case e.Purging():
		return "purging"
	case e.Kind() == "leftover":
		return "leftover"
	case !e.HasRecord():
		return stateUnfinished
	case e.Complete():
		return stateWhole
	}
	return stateEmpty
}

// Trash calls each with each entry of the trash, share by share, the oldest first.
func (s *Service) Trash(ctx context.Context, f Filter, each func(Deleted) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Deleted]) error {
		return s.trash(ctx, sh, f, emit)
	})
}

func (s *Service) trash(ctx context.Context, sh *share.Share, f Filter, emit emitter[Deleted]) error {
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return err
	}
	byName := make(map[string]share.TrashEntry, len(entries))
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		byName[e.Name] = e
		names = append(names, e.Name)
	}
	return inOrder(ctx, s, names, emit, func(name string) (*Deleted, error) {
		d, err := deleted(ctx, sh, byName[name])
		if d == nil || !f.matches(d.Claim) {
			return nil, err
		}
		return d, err
	})
}

// deleted returns the row of an entry of the trash; nil if the entry was removed meanwhile. If the record
// cannot be read, it returns the error and a row with what the file names contain.
func deleted(ctx context.Context, sh *share.Share, e share.TrashEntry) (*Deleted, error) {
	name := sh.Definition().Name
	d := &Deleted{
		Entry: name + "/" + e.Name, Handle: name + "/" + e.Key, Kind: e.Kind(), State: stateOf(e),
		Deleted: e.Deleted.UTC(), Due: e.Due.UTC(), trashed: e,
	}
	if e.Deleted.IsZero() { // there is no record
		return d, nil
	}
	r, snapshot, err := sh.Trash.Record(e)
	switch {
	case isUnreadable(err):
		d.State = stateUnreadable
		return d, err
	case err != nil:
		return nil, err
	case r != nil:
		d.Claim, d.Directory, d.Capacity = r.PVC, r.Directory, r.Capacity
	case snapshot != nil:
		d.Capacity = snapshot.Capacity
	default:
		return nil, nil
	}
	if d.State == stateEmpty {
		in, err := sh.Trash.IsInPlace(ctx, e)
		if err != nil {
			return nil, err
		}
		if in {
			d.State = stateInPlace
		}
	}
	return d, nil
}

// split splits an entry or a handle as a user has typed it. share is "" if it has none.
func split(ref string) (share, name string) {
	i := strings.LastIndexByte(ref, '/')
	return ref[:max(i, 0)], ref[i+1:]
}

// find returns the entry of the trash with this name, or the only wanted one with this key; nil if there is
// none.
func find(ctx context.Context, sh *share.Share, name string, wanted func(share.TrashEntry) bool) (*share.TrashEntry, error) {
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return nil, err
	}
	var found []share.TrashEntry
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
	return nil, volume.Errorf(volume.ErrPrecondition, "%s is in the trash %d times: say which one: %s", name, len(found), strings.Join(names, ", "))
}

// shareOf finds the share of a reference: the one that it names, or the only selected one.
func (s *Service) shareOf(f Filter, ref string) (Filter, string, error) {
	name, rest := split(ref)
	if name != "" {
		f = Filter{Shares: []string{name}}
	}
	names, err := s.shares(f)
	if err != nil {
		return Filter{}, "", err
	}
	if len(names) != 1 {
		return Filter{}, "", volume.Errorf(volume.ErrInvalid, "%q names no share: write <share>/%s, or add --share", ref, ref)
	}
	return Filter{Shares: names}, rest, nil
}

// purgeWorkers is how many calls remove one tree concurrently, as in the controller.
const purgeWorkers = 8

// Purged is a purged entry.
type Purged struct {
	Entry   string
	Entries int64 // files and directories
}

// Purge removes entries of the trash for good: those of refs, or all if refs is nil. It leaves unfinished
// deletions to the controller. Without refs it leaves entries with an unreadable record, too.
func (s *Service) Purge(ctx context.Context, f Filter, refs []string, each func(Purged) error) error {
	byShare := map[string][]string{}
	for _, ref := range refs {
		of, name, err := s.shareOf(f, ref)
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
		if err != nil {
			return err
		}
		for _, e := range entries {
			removal := &copytree.Removal{Workers: purgeWorkers}
			err := sh.Trash.Purge(e, func(trash int, name string) error { return removal.Remove(ctx, trash, name) })
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil { // the next may succeed
				s.report(err)
				continue
			}
			if err := emit(Purged{sh.Definition().Name + "/" + e.Name, removal.Entries.Load()}); err != nil {
				return err
			}
		}
		return nil
	})
}

// toPurge returns the entries to purge on a share.
func (s *Service) toPurge(ctx context.Context, sh *share.Share, f Filter, chosen bool, names []string) ([]share.TrashEntry, error) {
	var entries []share.TrashEntry
	if !chosen {
		err := s.trash(ctx, sh, f, func(all ...Deleted) error {
			for _, d := range all {
				if !d.Kept() {
					entries = append(entries, d.trashed)
				}
			}
			return nil
		})
		return entries, err
	}
	for _, name := range names {
		e, err := find(ctx, sh, name, func(share.TrashEntry) bool { return true })
		switch {
		case err != nil:
			return nil, err
		case e == nil:
			s.report(notInTrash(sh, fmt.Sprintf("%s/%s", sh.Definition().Name, name)))
		case !e.HasRecord():
			s.report(volume.Errorf(volume.ErrPrecondition, "%s/%s is not purged: its deletion was interrupted, and continues when the deletion of the PersistentVolume is retried", sh.Definition().Name, e.Name))
		default:
			entries = append(entries, *e)
		}
	}
	return entries, nil
}
