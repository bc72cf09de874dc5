// SPDX-License-Identifier: Apache-2.0

// Package provision has the controller's use cases: to create, delete, resize, change, get
// and list volumes, each idempotent, each under a lock of its volume, each bounded in time.
//
// What keeps two controllers apart is on the share (package share); the lock here is for this
// process alone, and for speed.
package provision

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/keylock"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Shares is what is needed of the pool of shares.
type Shares interface {
	Registry() *volume.Registry
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
	// Known are the shares whose volumes are listed: those registered, and those of classes that
	// name server and path, as far as this process has come to know them.
	Known() []string
	// Answers is an error where the server of an open share does not answer now.
	Answers(ctx context.Context, name string) error
}

// Purger is told what is new in a share's trash.
type Purger interface {
	Add(share string, e share.Trashed)
}

// Copier makes copies that outlive the call which asks for them: see jobs.Copier.
type Copier interface {
	Snapshot(ctx context.Context, share string, copy volume.Copy) (*volume.SnapshotRecord, error)
	Volume(ctx context.Context, share string, copy volume.Copy, p *share.Pending, options []string) (*volume.Record, error)
	// Join waits for the copy to a target that this process makes; ok is false where it makes none.
	Join(ctx context.Context, share string, target volume.Object) (r *volume.Record, ok bool, err error)
}

// Service does the controller's work.
type Service struct {
	shares Shares
	purger Purger
	copier Copier
	locks  keylock.Set
	known  sync.Map // keys of the volumes of each share ([]string by name), for when it is not there
}

// New returns a Service on these shares.
func New(shares Shares, purger Purger, copier Copier) *Service {
	return &Service{shares: shares, purger: purger, copier: copier}
}

// run does work under the lock of what, "volume pvc-1", say, and waits for it until ctx ends. Work that
// is still inside a call on a dead server then keeps the lock until the call gives up, which
// the controller's mounts do by themselves: a retry must not overtake a rename that may
// still happen. Until then it is told that the operation is pending. where names the share,
// or the shares, for errors.
func run[T any](ctx context.Context, s *Service, what, where string, work func(context.Context) (T, error)) (T, error) {
	var none T
	unlock, ok := s.locks.TryLock(what)
	if !ok {
		return none, volume.Errorf(volume.ErrBusy, "an operation on %s is still under way: try again", what)
	}
	return bounded(ctx, what+" on share "+where, unlock, work)
}

const (
	// lastWords is how long work may take to say why it stopped when its time was up.
	lastWords = 200 * time.Millisecond
	// watchInterval is how often a server is asked while an operation on it is under way.
	watchInterval = 2 * time.Second
)

// giveUp is the key by which a context has the function that ends the operation under way.
type giveUp struct{}

// open opens a share for an operation, which ends when the share's server stops answering: a
// call on it would only come back half a minute later.
func (s *Service) open(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := s.shares.Open(ctx, name, options)
	end, ok := ctx.Value(giveUp{}).(context.CancelCauseFunc)
	if err != nil || !ok {
		return sh, release, err
	}
	watching, stop := context.WithCancel(ctx)
	go func() {
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		for {
			select {
			case <-watching.Done():
				return
			case <-tick.C:
			}
			if err := s.shares.Answers(watching, name); err != nil && watching.Err() == nil {
				end(err)
			}
		}
	}()
	return sh, func() { stop(); release() }, nil
}

// bounded does work on the file systems of shares and waits for it until ctx ends, or a server
// does not answer any more. after is called when the work has really ended, and before the
// result is returned.
func bounded[T any](ctx context.Context, what string, after func(), work func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	ctx = context.WithValue(ctx, giveUp{}, end)
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v: this is a bug, please report it: %s", p, debug.Stack())
			}
			after()
			done <- r
		}()
		r.value, r.err = work(ctx)
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	var none T
	cause := context.Cause(ctx)
	lost := volume.Kind(cause) == volume.ErrUnavailable
	select {
	case r := <-done:
		if !lost || r.err == nil {
			return r.value, r.err
		}
	case <-time.After(lastWords):
	}
	if lost {
		return none, fmt.Errorf("%s: %w", what, cause)
	}
	return none, volume.Errorf(volume.ErrTimeout, "%s: not done in time (%w): the server does not answer, or is slow; it is safe to try again", what, cause)
}

// on opens the share of a handle and calls work with it, under the volume's lock.
func on[T any](ctx context.Context, s *Service, h volume.Handle, options []string, work func(context.Context, *share.Share) (T, error)) (T, error) {
	return run(ctx, s, "volume "+h.Key, h.Share, func(ctx context.Context) (T, error) {
		sh, release, err := s.open(ctx, h.Share, options)
		if err != nil {
			var none T
			return none, err
		}
		defer release()
		return work(ctx, sh)
	})
}

// answer is what the controller says of the volume that a record is of.
func answer(share string, r *volume.Record) *volume.Volume {
	return &volume.Volume{
		Handle:   volume.Handle{Share: share, Key: r.Key},
		Capacity: r.Capacity,
		Location: volume.Location{Share: share, Directory: r.Directory},
		Source:   r.Source,
		Shallow:  r.Shallow,
	}
}

// ready returns the record of a volume that is there for use.
func ready(ctx context.Context, sh *share.Share, key string) (*share.Stored, error) {
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

// Get returns a volume. It is ErrNotFound where there is none.
func (s *Service) Get(ctx context.Context, h volume.Handle) (*volume.Volume, error) {
	return bounded(ctx, "volume "+h.Key+" on share "+h.Share, func() {}, func(ctx context.Context) (*volume.Volume, error) {
		sh, release, err := s.open(ctx, h.Share, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := ready(ctx, sh, h.Key)
		if err != nil {
			return nil, err
		}
		return answer(h.Share, &r.Record), nil
	})
}

// Expand makes a volume hold at least what is asked for and returns its new size. A volume
// that is large enough already stays as it is; it never shrinks. Without a quota the size is
// a number in the record.
func (s *Service) Expand(ctx context.Context, h volume.Handle, c volume.Capacity) (int64, error) {
	if err := c.Check(); err != nil {
		return 0, err
	}
	return on(ctx, s, h, nil, func(ctx context.Context, sh *share.Share) (int64, error) {
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

// Modify changes what can be changed of a live volume.
func (s *Service) Modify(ctx context.Context, h volume.Handle, m volume.Mutable) error {
	_, err := on(ctx, s, h, nil, func(ctx context.Context, sh *share.Share) (*volume.Record, error) {
		return sh.Volumes.Update(ctx, h.Key, func(r *volume.Record) error {
			r.OnDelete = cmp.Or(m.OnDelete, r.OnDelete)
			r.Retention = cmp.Or(m.Retention, r.Retention)
			return nil
		})
	})
	return err
}

// Delete deletes a volume in the way that its record says. One that is not there is deleted.
// options are for the mount of a share that is not registered.
func (s *Service) Delete(ctx context.Context, h volume.Handle, options []string) error {
	_, err := on(ctx, s, h, options, func(ctx context.Context, sh *share.Share) (struct{}, error) {
		t, err := sh.Volumes.Delete(ctx, h.Key)
		if err == nil && t != nil {
			s.purger.Add(h.Share, *t)
		}
		return struct{}{}, err
	})
	return err
}
