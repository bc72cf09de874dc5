// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Volume is a row of the list of volumes.
type Volume struct {
	Handle    string          `json:"handle"`
	Claim     *volume.PVC     `json:"claim,omitempty"`
	Directory string          `json:"directory"`
	Capacity  int64           `json:"capacityBytes"`
	Created   time.Time       `json:"created"`
	OnDelete  volume.OnDelete `json:"onDelete"`
	// State is "ready", or "creating" where the volume is being made.
	State     string  `json:"state"`
	UID       *uint32 `json:"uid,omitempty"`
	GID       *uint32 `json:"gid,omitempty"`
	Mode      string  `json:"mode,omitempty"`
	Source    string  `json:"source,omitempty"`
	Retention string  `json:"trashRetention,omitempty"` // "": the share's
	Maker     string  `json:"maker"`
	Restored  string  `json:"restoredFrom,omitempty"` // an entry of the trash
}

func volumeOf(name string, r *volume.Record) Volume {
	v := Volume{
		Handle: name + "/" + r.Key, Claim: r.PVC, Directory: r.Directory, Capacity: r.Capacity, Created: r.Created,
		OnDelete: r.OnDelete, State: "ready", UID: r.UID, GID: r.GID, Maker: r.Maker,
	}
	if r.Ready == 0 {
		v.State = "creating"
	}
	if r.Mode != nil {
		v.Mode = fmt.Sprintf("%04o", *r.Mode)
	}
	if r.Source != nil {
		v.Source = r.Source.String()
	}
	if r.Retention != nil {
		v.Retention = r.Retention.String()
	}
	if r.Restored != nil {
		v.Restored = r.Restored.Entry
	}
	return v
}

// Volumes calls each for all volumes, share by share in the order of their keys.
func (s *Service) Volumes(ctx context.Context, f Filter, each func(Volume) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Volume]) error {
		keys, err := sh.Keys(ctx)
		if err != nil {
			return err
		}
		name := sh.Definition().Name
		return inOrder(ctx, s, keys, emit, func(key string) (*Volume, error) {
			r, err := sh.Lookup(ctx, key)
			if err != nil || !f.takes(r.PVC) {
				return nil, err
			}
			v := volumeOf(name, &r.Record)
			return &v, nil
		})
	})
}

// Snapshot is a row of the list of snapshots.
type Snapshot struct {
	Handle   string      `json:"handle"`
	Volume   string      `json:"volume"`          // its handle; it need not be there any more
	Claim    *volume.PVC `json:"claim,omitempty"` // of the volume, as long as that is there
	Size     int64       `json:"sizeBytes"`
	Capacity int64       `json:"capacityBytes"`
	Created  time.Time   `json:"created"`
	Group    string      `json:"group,omitempty"`
	Maker    string      `json:"maker"`
}

// Snapshots calls each for all snapshots, share by share in the order of their keys.
func (s *Service) Snapshots(ctx context.Context, f Filter, each func(Snapshot) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Snapshot]) error {
		keys, err := sh.SnapshotKeys(ctx)
		if err != nil {
			return err
		}
		name := sh.Definition().Name
		claims := claims{sh: sh}
		return inOrder(ctx, s, keys, emit, func(key string) (*Snapshot, error) {
			r, err := sh.Snapshot(ctx, key)
			if err != nil {
				return nil, err
			}
			pvc, err := claims.of(ctx, r.Volume)
			if err != nil || !f.takes(pvc) {
				return nil, err
			}
			row := Snapshot{
				Handle: name + "/" + key, Volume: name + "/" + r.Volume, Claim: pvc,
				Size: r.Size, Capacity: r.Capacity, Created: r.Created, Maker: r.Maker,
			}
			if r.Group != "" {
				row.Group = name + "/" + r.Group
			}
			return &row, nil
		})
	})
}

// claims finds whose the volumes are that snapshots are of, each once.
type claims struct {
	sh    *share.Share
	known sync.Map // *volume.PVC by key
}

func (c *claims) of(ctx context.Context, key string) (*volume.PVC, error) {
	if pvc, ok := c.known.Load(key); ok {
		return pvc.(*volume.PVC), nil
	}
	var pvc *volume.PVC
	r, err := c.sh.Lookup(ctx, key)
	switch {
	case errors.Is(err, volume.ErrNotFound), errors.Is(err, volume.ErrDamaged), errors.Is(err, volume.ErrConflict):
	case err != nil:
		return nil, err
	default:
		pvc = r.PVC
	}
	c.known.Store(key, pvc)
	return pvc, nil
}

// Job is a row of the list of copies under way.
type Job struct {
	Share  string `json:"share"`
	Target string `json:"target"` // "snapshot snap-1"
	Source string `json:"source"` // "volume nas1/pvc-1"
	// State is "copying", or "waiting" for a controller to take the job over: whoever made the
	// copy gives no sign of life any more.
	State string     `json:"state"`
	Began *time.Time `json:"began,omitempty"` // this attempt
	// Alive is when the last sign of life was, as far as the clocks here and there agree.
	Alive time.Time `json:"lastSignOfLife"`
	Maker string    `json:"maker"`
}

// Jobs calls each for all copies under way.
func (s *Service) Jobs(ctx context.Context, f Filter, each func(Job) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Job]) error {
		jobs, err := sh.Jobs(ctx)
		for _, j := range jobs {
			if err != nil {
				return err
			}
			row := Job{
				Share: sh.Definition().Name, Target: j.Target.String(), State: "copying",
				Alive: time.Now().Add(-max(j.Quiet, 0)), Maker: j.Maker,
			}
			if j.Nonce != "" {
				row.Source = j.Source.String()
			}
			if !j.Began.IsZero() {
				row.Began = &j.Began
			}
			if j.Dead {
				row.State = "waiting"
			}
			err = emit(row)
		}
		return err
	})
}
