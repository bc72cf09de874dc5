// SPDX-License-Identifier: Apache-2.0

// Package provision has the controller's use cases: to create, delete, resize, change, get
// and list volumes, each idempotent, each under a lock of its volume, each bounded in time.
//
// What keeps two controllers apart is on the share (package share); the lock here is for this
// process alone, and for speed.
package provision

import (
	"context"
	"errors"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/keylock"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Shares is what is needed of the pool of shares.
type Shares interface {
	Registry() *volume.Registry
	// Open returns an open share. Until release, the work that ctx is of ([bounded.Call]) is abandoned when
	// the share's server stops answering: a call on it would only return half a minute later.
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
	// Known are the shares whose volumes are listed: those registered, and those of classes that
	// name server and path, as far as this process has come to know them.
	Known() []string
}

// Purger is told what is new in a share's trash, or that something may be.
type Purger interface {
	Add(share string, e share.TrashEntry)
	Rescan(share string)
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
	Volumes   *Volumes
	Snapshots *Snapshots
	Groups    *Groups
	Health    *Health
}

// New returns a Service on these shares. fault says why nothing can be written to one, as far as is
// known: see jobs.Watcher.
func New(shares Shares, purger Purger, copier Copier, fault func(share string) volume.Condition) *Service {
	a := &access{shares: shares}
	snapshots := &Snapshots{access: a, purger: purger, copier: copier}
	return &Service{
		Volumes:   &Volumes{access: a, purger: purger, copier: copier},
		Snapshots: snapshots,
		Groups:    &Groups{access: a, purger: purger, snapshots: snapshots},
		Health:    &Health{access: a, fault: fault},
	}
}

// access is how an operation gets at shares, and keeps others from what it works on.
type access struct {
	shares Shares
	locks  keylock.Set
}

// run does work under the lock of what, for example "volume pvc-1", and waits for it until ctx ends. Work
// that is still inside a call on a dead server then keeps the lock until that call fails, which the
// controller's mounts ensure: a retry must not overtake a rename that may still happen. Until then
// a retry is answered ErrBusy. where names the share, or the shares, for errors.
func run[T any](ctx context.Context, a *access, what, where string, work func(context.Context) (T, error)) (T, error) {
	unlock, ok := a.locks.TryLock(what)
	if !ok {
		var none T
		return none, volume.Errorf(volume.ErrBusy, "an operation on %s is still under way: try again", what)
	}
	return call(ctx, what, where, func(ctx context.Context) (T, error) {
		defer unlock()
		return work(ctx)
	})
}

// call does work on the file systems of shares and waits for it until ctx ends, or the server of a
// share that the work has open stops answering. where names the share, or the shares, for an error
// that does not name them; it is "" if what does.
func call[T any](ctx context.Context, what, where string, work func(context.Context) (T, error)) (T, error) {
	value, err := bounded.Call(ctx, work, nil)
	abandoned, ok := errors.AsType[bounded.Abandoned](err)
	if !ok {
		return value, err
	}
	if volume.Kind(abandoned.Cause) == volume.ErrUnavailable { // it names the share
		return value, fmt.Errorf("%s: %w", what, abandoned.Cause)
	}
	if where != "" {
		what += " on share " + where
	}
	return value, volume.Errorf(volume.ErrTimeout, "%s: not done in time (%w): the server does not answer, or is slow; it is safe to try again", what, abandoned.Cause)
}

// on opens the share of a handle and calls work with it, under the volume's lock.
func on[T any](ctx context.Context, a *access, h volume.Handle, options []string, work func(context.Context, *share.Share) (T, error)) (T, error) {
	return run(ctx, a, "volume "+h.Key, h.Share, func(ctx context.Context) (T, error) {
		sh, release, err := a.open(ctx, h.Share, options)
		if err != nil {
			var none T
			return none, err
		}
		defer release()
		return work(ctx, sh)
	})
}
