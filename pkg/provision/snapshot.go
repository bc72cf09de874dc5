// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Snapshots creates, deletes, gets and lists snapshots.
type Snapshots struct {
	*access
	purger Purger
	copier Copier
}

// snapshotLock returns the lock key of a snapshot. No volume has the same.
func snapshotLock(key string) string {
	return volume.Object{Kind: volume.ObjectSnapshot, Key: key}.String()
}

// Create creates a snapshot of a volume, or finds it, under the key volume.KeyFor(name). If there is
// no such snapshot, a job makes the copy (Copier.Snapshot). Create returns when the copy is
// complete, and not before: the application may write again after that.
//
// ErrBusy: another call for this snapshot waits or works. ErrTimeout: the job is still copying; a
// retry waits for the same job. ErrExists: there is a snapshot of that name of another volume.
// ErrNotFound: there is no such volume, or it is being created or deleted. ErrInvalid: the snapshot
// has no name. ErrPrecondition: the share is not registered or has not been laid out, or the
// volume's directory is missing.
func (s *Snapshots) Create(ctx context.Context, name string, source volume.Handle) (*volume.Snapshot, error) {
	if name == "" {
		return nil, volume.Errorf(volume.ErrInvalid, "the snapshot has no name")
	}
	key := volume.KeyFor(name)
	if _, err := volume.NewHandle(source.Share, key); err != nil {
		return nil, err
	}
	return run(ctx, s.access, snapshotLock(key), source.Share, func(ctx context.Context) (*volume.Snapshot, error) {
		return s.make(ctx, name, nil, source)
	})
}

// make creates or finds a snapshot, which may be a member of a group. The caller has the lock of the
// snapshot or of the group.
func (s *Snapshots) make(ctx context.Context, name string, group *share.Group, source volume.Handle) (*volume.Snapshot, error) {
	sh, release, err := s.open(ctx, source.Share, nil)
	if err != nil {
		return nil, err
	}
	defer release()
	on := sh.Definition().Name
	copy := volume.Copy{
		Target: volume.Object{Kind: volume.ObjectSnapshot, Key: volume.KeyFor(name)}, Name: name,
		Source: volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: source.Key}, Share: on},
	}
	if group != nil {
		copy.Group, copy.GroupNonce = group.Key, group.Nonce
	}
	r, err := sh.Snapshots.Lookup(ctx, copy.Target.Key)
	if errors.Is(err, volume.ErrNotFound) {
		r, err = s.copier.Snapshot(ctx, on, copy)
	}
	if err != nil {
		return nil, err
	}
	if r.Volume != source.Key || r.Group != copy.Group || r.GroupNonce != copy.GroupNonce {
		return nil, volume.Errorf(volume.ErrExists, "share %s: there is a snapshot %s already, and it is of volume %s, not %s", sh.Definition(), name, r.Volume, source.Key)
	}
	return toSnapshot(source.Share, r), nil
}

func toSnapshot(share string, r *volume.SnapshotRecord) *volume.Snapshot {
	a := &volume.Snapshot{
		Handle: volume.Handle{Share: share, Key: r.Key}, Volume: volume.Handle{Share: share, Key: r.Volume},
		Size: r.RestoreSize(), Created: r.Created,
	}
	if r.Group != "" {
		a.Group = volume.Handle{Share: share, Key: r.Group}.String()
	}
	return a
}

// Get returns a snapshot. ErrNotFound: there is none.
func (s *Snapshots) Get(ctx context.Context, h volume.Handle) (*volume.Snapshot, error) {
	return call(ctx, "snapshot "+h.Key, h.Share, func(ctx context.Context) (*volume.Snapshot, error) {
		sh, release, err := s.open(ctx, h.Share, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := usableSnapshot(ctx, sh, h.Key)
		if err != nil {
			return nil, err
		}
		return toSnapshot(h.Share, r), nil
	})
}

// usableSnapshot returns the record of a snapshot that can be used: a member of a group can be used when
// the group is complete.
func usableSnapshot(ctx context.Context, sh *share.Share, key string) (*volume.SnapshotRecord, error) {
	r, err := sh.Snapshots.Lookup(ctx, key)
	if err != nil || r.Group == "" {
		return r, err
	}
	g, err := sh.Groups.Lookup(ctx, r.Group)
	if errors.Is(err, volume.ErrNotFound) || err == nil && (g.State != share.Ready || g.Nonce != r.GroupNonce) {
		return nil, volume.Errorf(volume.ErrNotFound, "share %s: the group %s, which snapshot %s is of, is not whole", sh.Definition(), r.Group, key)
	}
	return r, err
}

// Delete deletes a snapshot. It succeeds if there is no such snapshot. ErrBusy: it is being created or
// restored. ErrPrecondition: a volume is the snapshot itself.
func (s *Snapshots) Delete(ctx context.Context, h volume.Handle) error {
	_, err := run(ctx, s.access, snapshotLock(h.Key), h.Share, func(ctx context.Context) (struct{}, error) {
		sh, release, err := s.open(ctx, h.Share, nil)
		if err != nil {
			return struct{}{}, err
		}
		defer release()
		t, err := sh.Snapshots.Delete(ctx, h.Key, func(r *volume.SnapshotRecord) error {
			if r.Group == "" {
				return nil
			}
			g, err := sh.Groups.Lookup(ctx, r.Group)
			if errors.Is(err, volume.ErrNotFound) || err == nil && g.Nonce != r.GroupNonce {
				return nil // the group was deleted during its creation
			}
			if err != nil {
				return err
			}
			return volume.Errorf(volume.ErrInvalid, "snapshot %s is one of the group %s: delete the group", h.Key, r.Group)
		})
		if err != nil || t == nil {
			return struct{}{}, err
		}
		s.purger.Add(sh.Definition().Name, *t)
		return struct{}{}, nil
	})
	return err
}

// List returns snapshots, all or those of one volume, in pages as Volumes.List does.
func (s *Snapshots) List(ctx context.Context, p volume.Page, of *volume.Handle) ([]volume.Snapshot, string, error) {
	return list(ctx, s.access, p, listing[volume.Snapshot]{
		what: "list the snapshots", keys: func(sh *share.Share, ctx context.Context) ([]string, error) { return sh.Snapshots.Keys(ctx) },
		read: func(ctx context.Context, sh *share.Share, name, key string) (*volume.Snapshot, error) {
			r, err := usableSnapshot(ctx, sh, key)
			if err != nil {
				return nil, err
			}
			if of != nil {
				if of.Key != r.Volume || !sh.Definition().Matches(of.Share) {
					return nil, nil
				}
				name = of.Share // as its caller spells it
			}
			return toSnapshot(name, r), nil
		},
	})
}
