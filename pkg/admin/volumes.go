// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	Created   time.Time       `json:"created,omitzero"`
	OnDelete  volume.OnDelete `json:"onDelete,omitempty"`
	// State is "ready"; "creating", "deleting"; "undoing" if a failed creation is rolled back; or
	// "unreadable": then only the handle is known.
	State     string  `json:"state"`
	UID       *uint32 `json:"uid,omitempty"`
	GID       *uint32 `json:"gid,omitempty"`
	Mode      string  `json:"mode,omitempty"`
	Source    string  `json:"source,omitempty"`
	Retention string  `json:"trashRetention,omitempty"` // "": the share's
	Maker     string  `json:"maker,omitempty"`
	Restored  string  `json:"restoredFrom,omitempty"` // an entry of the trash
}

// stateUnreadable is the state of an object whose record cannot be read.
const stateUnreadable = "unreadable"

// states are the names of the states of volumes.
var states = map[share.State]string{
	share.Making: "creating", share.Ready: "ready", share.Deleting: "deleting", share.Aborting: "undoing",
}

func volumeOf(name string, r *share.StoredRecord) Volume {
	v := Volume{
		Handle: name + "/" + r.Key, Claim: r.PVC, Directory: r.Directory, Capacity: r.Capacity, Created: r.Created,
		OnDelete: r.OnDelete, State: states[r.State], UID: r.UID, GID: r.GID, Maker: r.Maker,
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

// Volumes calls each with each volume, share by share in the order of their keys.
func (s *Service) Volumes(ctx context.Context, f Filter, each func(Volume) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Volume]) error {
		return s.volumes(ctx, sh, f, emit)
	})
}

func (s *Service) volumes(ctx context.Context, sh *share.Share, f Filter, emit emitter[Volume]) error {
	keys, err := sh.Volumes.Keys(ctx)
	if err != nil {
		return err
	}
	name := sh.Definition().Name
	return inOrder(ctx, s, keys, emit, func(key string) (*Volume, error) {
		r, err := sh.Volumes.Lookup(ctx, key)
		if isUnreadable(err) && f.matches(nil) {
			return &Volume{Handle: name + "/" + key, State: stateUnreadable}, err
		}
		if err != nil || !f.matches(r.PVC) {
			return nil, err
		}
		v := volumeOf(name, r)
		return &v, nil
	})
}

// Snapshot is a row of the list of snapshots.
type Snapshot struct {
	Handle   string      `json:"handle"`
	Volume   string      `json:"volume"`          // its handle; it may not exist any more
	Claim    *volume.PVC `json:"claim,omitempty"` // of the volume, if that exists
	Size     int64       `json:"sizeBytes"`
	Capacity int64       `json:"capacityBytes"`
	Created  time.Time   `json:"created"`
	Group    string      `json:"group,omitempty"`
	Maker    string      `json:"maker"`
}

// Snapshots calls each with each snapshot, share by share in the order of their keys.
func (s *Service) Snapshots(ctx context.Context, f Filter, each func(Snapshot) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Snapshot]) error {
		keys, err := sh.Snapshots.Keys(ctx)
		if err != nil {
			return err
		}
		name := sh.Definition().Name
		claims := claims{sh: sh}
		return inOrder(ctx, s, keys, emit, func(key string) (*Snapshot, error) {
			r, err := sh.Snapshots.Lookup(ctx, key)
			if err != nil {
				return nil, err
			}
			pvc, err := claims.of(ctx, r.Volume)
			if err != nil || !f.matches(pvc) {
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

// claims finds the claims of the volumes of snapshots, each once.
type claims struct {
	sh    *share.Share
	known sync.Map // *volume.PVC by key
}

func (c *claims) of(ctx context.Context, key string) (*volume.PVC, error) {
	if pvc, ok := c.known.Load(key); ok {
		return pvc.(*volume.PVC), nil
	}
	var pvc *volume.PVC
	r, err := c.sh.Volumes.Lookup(ctx, key)
	switch {
	case errors.Is(err, volume.ErrNotFound), isUnreadable(err): // then it is unknown
	case err != nil:
		return nil, err
	default:
		pvc = r.PVC
	}
	c.known.Store(key, pvc)
	return pvc, nil
}

// Job is a row of the list of running copies.
type Job struct {
	Share  string `json:"share"`
	Target string `json:"target"`           // "snapshot snap-1"
	Source string `json:"source,omitempty"` // "volume nas1/pvc-1"
	// State is "copying"; "waiting" for a controller to take the job over, as its lease is not renewed
	// any more; or "unreadable".
	State string `json:"state"`
	// Began is when this attempt began, by the server's clock, and Alive when its lease was last
	// renewed, if the clocks here and there agree.
	Began time.Time `json:"began,omitzero"`
	Alive time.Time `json:"lastSignOfLife,omitzero"`
	Maker string    `json:"maker,omitempty"`
}

// Concerns reports whether the job copies from or to an object: a handle, or the key of one.
func (j Job) Concerns(ref string) bool {
	_, target, _ := strings.Cut(j.Target, " ")
	_, source, _ := strings.Cut(j.Source, " ")
	_, key := split(source)
	return ref == target || ref == j.Share+"/"+target || ref == source || ref == key
}

// Jobs calls each with each running copy.
func (s *Service) Jobs(ctx context.Context, f Filter, each func(Job) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Job]) error {
		jobs, err := sh.Jobs.List(ctx)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			row, err := s.job(sh, j)
			if err != nil {
				return err
			}
			if row == nil {
				continue
			}
			if err := emit(*row); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// job returns the state of a job; nil if it has ended.
func (s *Service) job(sh *share.Share, j share.Job) (*Job, error) {
	row := &Job{Share: sh.Definition().Name, Target: j.Target.String(), State: stateUnreadable}
	st, err := sh.Jobs.Status(j)
	if isUnreadable(err) {
		s.report(err)
		return row, nil
	}
	if err != nil || st == nil {
		return nil, err
	}
	row.State, row.Source, row.Maker = "copying", st.Copy.Source.String(), st.Maker
	row.Alive = time.Now().Add(-max(st.Idle, 0)).UTC()
	if st.Abandoned {
		row.State = "waiting"
	}
	began, err := sh.Jobs.ChangedAt(j.Target)
	row.Began = began.UTC()
	return row, err
}
