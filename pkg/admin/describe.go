// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Description is everything about one volume.
type Description struct {
	Handle string `json:"handle"`
	// Volume is its record; nil: the volume is deleted.
	Volume    *Volume    `json:"volume,omitempty"`
	Directory *Directory `json:"directory,omitempty"`
	Snapshots []Snapshot `json:"snapshots"`
	Jobs      []Job      `json:"jobs"`  // copies from and to the volume
	Trash     []Deleted  `json:"trash"` // entries of volumes that had this handle
	Share     Health     `json:"share"`
}

// Directory is the state of a volume's directory.
type Directory struct {
	Path   string `json:"path"`
	Exists bool   `json:"exists"`
	// ClaimedBy is the handle of the volume that has the claim on the directory; "": none has.
	ClaimedBy string `json:"claimedBy,omitempty"`
}

// Describer finds and describes single volumes.
type Describer struct{ service *Service }

// NewDescriber returns the Describer of a Service.
func NewDescriber(s *Service) Describer { return Describer{s} }

// Describe returns everything about a volume: one that exists, or one in the trash.
func (d Describer) Describe(ctx context.Context, h volume.Handle) (*Description, error) {
	s := d.service
	var all *Description
	err := workOn(ctx, s, <-s.open(ctx, h.Share), h.Share, func(got *Description) error { all = got; return nil },
		func(ctx context.Context, sh *share.Share, emit emitter[*Description]) error {
			got, err := d.volume(ctx, sh, h)
			if err != nil {
				return err
			}
			return emit(got)
		})
	if err != nil {
		return nil, err
	}
	f := Filter{Shares: []string{h.Share}}
	err = s.Snapshots(ctx, f, func(r Snapshot) error {
		if r.Volume == all.Handle {
			all.Snapshots = append(all.Snapshots, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = s.Jobs(ctx, f, func(j Job) error {
		if j.Concerns(all.Handle) {
			all.Jobs = append(all.Jobs, j)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all.Share, err = healthOf(ctx, s, h.Share, <-s.open(ctx, h.Share), false)
	return all, err
}

// volume reads the record, the directory and the trash of a volume.
func (d Describer) volume(ctx context.Context, sh *share.Share, h volume.Handle) (*Description, error) {
	all := &Description{Handle: h.String(), Snapshots: []Snapshot{}, Jobs: []Job{}, Trash: []Deleted{}}
	r, err := sh.Volumes.Lookup(ctx, h.Key)
	switch {
	case isUnreadable(err):
		d.service.report(err)
		all.Volume = &Volume{Handle: all.Handle, State: stateUnreadable}
	case err != nil && !errors.Is(err, volume.ErrNotFound):
		return nil, err
	case err == nil:
		v := volumeOf(h.Share, r)
		all.Volume = &v
		if all.Directory, err = d.directory(ctx, sh, r.Directory); err != nil {
			return nil, err
		}
	}
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Key != h.Key || e.Kind() == "snapshot" {
			continue
		}
		row, err := deleted(ctx, sh, e)
		switch {
		case row == nil && err != nil:
			return nil, err
		case err != nil:
			d.service.report(err)
		}
		if row != nil {
			all.Trash = append(all.Trash, *row)
		}
	}
	return all, nil
}

// directory returns the state of a directory.
func (d Describer) directory(ctx context.Context, sh *share.Share, path string) (*Directory, error) {
	exists, err := sh.Directories.Exists(ctx, path)
	if err != nil {
		return nil, err
	}
	state := &Directory{Path: path, Exists: exists}
	key, err := sh.Directories.Owner(ctx, path)
	switch {
	case isUnreadable(err):
		d.service.report(err)
	case err != nil:
		return nil, err
	case key != "":
		state.ClaimedBy = sh.Definition().Name + "/" + key
	}
	return state, nil
}

// match is a volume that a reference can mean. A handle counts more than a claim, and a volume that exists
// more than one in the trash.
type match struct {
	rank   int
	handle volume.Handle
}

const (
	matchHandle = iota
	matchDeletedHandle
	matchClaim
	matchDeletedClaim
)

// Find returns the handle of the volume that ref means: a handle, the name of a PersistentVolume that the
// driver created, an entry of the trash, or NAMESPACE/CLAIM. The error is ErrNotFound, or ErrInvalid if
// there are several.
func (d Describer) Find(ctx context.Context, f Filter, ref string) (volume.Handle, error) {
	s := d.service
	var found []match
	take := func(m match) error { found = append(found, m); return nil }
	home, name := split(ref)
	byKey := func(ctx context.Context, sh *share.Share, emit emitter[match]) error {
		return matchKey(ctx, sh, name, emit)
	}
	if home == "" {
		err := onShares(ctx, s, f, take, byKey)
		return choose(ref, found, err)
	}
	if def, err := s.pool.Registry().Resolve(home); err == nil {
		err := workOn(ctx, s, <-s.open(ctx, def.Name), def.Name, take, byKey)
		if err != nil || found != nil {
			return choose(ref, found, err)
		}
	}
	err := onShares(ctx, s, f, take, func(ctx context.Context, sh *share.Share, emit emitter[match]) error {
		return matchPVC(ctx, s, sh, volume.PVC{Namespace: home, Name: name}, emit)
	})
	return choose(ref, found, err)
}

// choose returns the volume with the best match, unless the search has failed with err.
func choose(ref string, found []match, err error) (volume.Handle, error) {
	if err != nil {
		return volume.Handle{}, err
	}
	if found == nil {
		return volume.Handle{}, volume.Errorf(volume.ErrNotFound, "there is no volume with the handle, PersistentVolume or claim %q, also not in the trash: mooringctl volumes and mooringctl trash list show what exists", ref)
	}
	best := slices.MinFunc(found, func(a, b match) int { return a.rank - b.rank }).rank
	var handles []string
	for _, m := range found {
		if m.rank == best && !slices.Contains(handles, m.handle.String()) {
			handles = append(handles, m.handle.String())
		}
	}
	if len(handles) > 1 {
		return volume.Handle{}, volume.Errorf(volume.ErrInvalid, "%q means %d volumes: use one of the handles %s", ref, len(handles), strings.Join(handles, ", "))
	}
	i := slices.IndexFunc(found, func(m match) bool { return m.rank == best })
	return found[i].handle, nil
}

// matchKey finds a volume of a share by its key, its CSI name, or its entry in the trash.
func matchKey(ctx context.Context, sh *share.Share, name string, emit emitter[match]) error {
	key := name
	if !volume.ValidKey(key) {
		key = volume.KeyFor(name)
	}
	home := sh.Definition().Name
	_, err := sh.Volumes.Lookup(ctx, key)
	if err == nil || isUnreadable(err) {
		return emit(match{matchHandle, volume.Handle{Share: home, Key: key}})
	}
	if !errors.Is(err, volume.ErrNotFound) {
		return err
	}
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Kind() != "snapshot" && (e.Key == key || e.Name == name) {
			return emit(match{matchDeletedHandle, volume.Handle{Share: home, Key: e.Key}})
		}
	}
	return nil
}

// matchPVC finds the volumes of a share that have or had a claim.
func matchPVC(ctx context.Context, s *Service, sh *share.Share, pvc volume.PVC, emit emitter[match]) error {
	f := Filter{Namespace: pvc.Namespace}
	err := s.volumes(ctx, sh, f, func(all ...Volume) error {
		return emitMatches(all, matchClaim, pvc, func(v Volume) (*volume.PVC, string) { return v.Claim, v.Handle }, emit)
	})
	if err != nil {
		return err
	}
	return s.trash(ctx, sh, f, func(all ...Deleted) error {
		return emitMatches(all, matchDeletedClaim, pvc, func(d Deleted) (*volume.PVC, string) { return d.Claim, d.Handle }, emit)
	})
}

// emitMatches emits the rows that have the claim.
func emitMatches[T any](rows []T, rank int, pvc volume.PVC, claimAndHandle func(T) (*volume.PVC, string), emit emitter[match]) error {
	for _, r := range rows {
		claim, handle := claimAndHandle(r)
		if claim == nil || *claim != pvc {
			continue
		}
		home, key := split(handle)
		if err := emit(match{rank, volume.Handle{Share: home, Key: key}}); err != nil {
			return err
		}
	}
	return nil
}
