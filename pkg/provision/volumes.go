// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Volumes creates, deletes, resizes, changes, gets and lists volumes.
type Volumes struct {
	*access
	purger Purger
	copier Copier
}

// toVolume returns the volume of a record.
func toVolume(share string, r *volume.Record) *volume.Volume {
	return &volume.Volume{
		Handle:   volume.Handle{Share: share, Key: r.Key},
		Capacity: r.Capacity,
		Location: volume.Location{Share: share, Directory: r.Directory},
		Source:   r.Source,
		Shallow:  r.Shallow,
	}
}

// usableVolume returns the record of a volume that can be used. ErrNotFound: there is none, or it is
// being created or deleted.
func usableVolume(ctx context.Context, sh *share.Share, key string) (*share.StoredRecord, error) {
	r, err := sh.Volumes.Lookup(ctx, key)
	if err != nil {
		return nil, err
	}
	switch r.State {
	case share.Ready:
		return r, nil
	case share.Deleting:
		return nil, volume.Errorf(volume.ErrNotFound, "share %s: volume %s is being deleted", sh.Definition(), key)
	}
	return nil, volume.Errorf(volume.ErrNotFound, "share %s: volume %s is still being created", sh.Definition(), key)
}

// Get returns a volume. ErrNotFound: there is none.
func (v *Volumes) Get(ctx context.Context, h volume.Handle) (*volume.Volume, error) {
	return call(ctx, "volume "+h.Key, h.Share, func(ctx context.Context) (*volume.Volume, error) {
		sh, release, err := v.open(ctx, h.Share, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := usableVolume(ctx, sh, h.Key)
		if err != nil {
			return nil, err
		}
		return toVolume(h.Share, &r.Record), nil
	})
}

// Expand gives a volume at least the requested size and returns its new size, in bytes. A volume that
// is large enough stays as it is; it never shrinks. The size is only a number in the record:
// share.Volumes.Update changes it, and nothing else on the share. Expand sets no quota, and does not
// check free space.
//
// ErrInvalid: the range of sizes is not valid. ErrOutOfRange: the volume is larger than the limit.
// ErrNotFound: there is no such volume, or it is being created or deleted. ErrBusy: another call or
// process changes it. ErrPrecondition: the share is not registered or has not been laid out, or the
// record requires a feature that this program does not know.
func (v *Volumes) Expand(ctx context.Context, h volume.Handle, c volume.Capacity) (int64, error) {
	if err := c.Check(); err != nil {
		return 0, err
	}
	return onVolume(ctx, v.access, h, nil, func(ctx context.Context, sh *share.Share) (int64, error) {
		r, err := sh.Volumes.Update(ctx, h.Key, func(r *volume.Record) error {
			if c.Limit > 0 && r.Capacity > c.Limit {
				return volume.Errorf(volume.ErrOutOfRange, "volume %s has %d bytes, which is over the limit of %d, and volumes do not shrink", h, r.Capacity, c.Limit)
			}
			r.Capacity = max(r.Capacity, c.Required)
			return nil
		})
		if err != nil {
			return 0, err
		}
		return r.Capacity, nil
	})
}

// Modify changes the mutable parameters of a volume, in its record (share.Volumes.Update). Its errors
// are those of Expand, without ErrInvalid and ErrOutOfRange.
func (v *Volumes) Modify(ctx context.Context, h volume.Handle, m volume.Mutable) error {
	_, err := onVolume(ctx, v.access, h, nil, func(ctx context.Context, sh *share.Share) (*volume.Record, error) {
		return sh.Volumes.Update(ctx, h.Key, func(r *volume.Record) error {
			r.OnDelete = cmp.Or(m.OnDelete, r.OnDelete)
			r.Retention = cmp.Or(m.Retention, r.Retention)
			return nil
		})
	})
	return err
}

// Delete deletes a volume as its record says (onDelete), by share.Volumes.Delete, and passes what
// is in the trash then to the purger. It succeeds if there is no such volume. options are for the
// mount of a share that is not registered. ErrPrecondition: the share is not registered or has not
// been laid out. The other errors are those of share.Volumes.Delete.
func (v *Volumes) Delete(ctx context.Context, h volume.Handle, options []string) error {
	_, err := onVolume(ctx, v.access, h, options, func(ctx context.Context, sh *share.Share) (struct{}, error) {
		t, err := sh.Volumes.Delete(ctx, h.Key)
		if err != nil || t == nil {
			return struct{}{}, err
		}
		v.purger.Add(sh.Definition().Name, *t)
		return struct{}{}, nil
	})
	return err
}
