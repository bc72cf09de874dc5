// SPDX-License-Identifier: Apache-2.0

// Package provision has the controller's use cases: to create, delete, resize, change, get and list
// volumes, snapshots and groups of snapshots, and to check the health of volumes.
//
// Each use case opens its share in the pool and works there with package share. It is idempotent.
// It is bounded in time (package bounded): when its context ends it returns ErrTimeout, and when
// the share's server stops answering, ErrUnavailable; the work may still finish. A use case that
// changes a volume, snapshot or group locks it until the work ends: a second call for it meanwhile
// returns ErrBusy at once. This lock is for this process only, and for speed. The share itself
// (package share) protects against a second controller. A copy runs outside of the lock: the call
// that waits for it has the lock, and after its ErrTimeout a retry joins the same copy (Copier).
//
// Of the use cases here only the creation of a volume lays a share out (share.Identity.LayOut).
// Until then lists of the share are empty, and use cases for one volume, snapshot or group return
// ErrPrecondition.
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

// Shares is the part of the pool that a Service uses.
type Shares interface {
	Registry() *volume.Registry
	// Open returns an open share: see pool.Pool.Open. Until the caller calls release, the work that
	// runs with ctx ([bounded.Call]) is abandoned when the share's server stops answering: a call
	// on it would only return half a minute later.
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
	// Known returns the shares whose volumes are listed: the registered ones, and those exports of
	// classes that this process has mounted.
	Known() []string
}

// Purger purges entries of the shares' trash: see jobs.Purger.
type Purger interface {
	Add(share string, e share.TrashEntry)
	Rescan(share string)
}

// Copier makes copies that outlive the call that starts them: see jobs.Copier.
type Copier interface {
	Snapshot(ctx context.Context, share string, copy volume.Copy) (*volume.SnapshotRecord, error)
	Volume(ctx context.Context, share string, copy volume.Copy, p *share.Pending, options []string) (*volume.Record, error)
	// Join waits for a running copy of this process to a target; ok is false if there is none.
	Join(ctx context.Context, share string, target volume.Object) (r *volume.Record, ok bool, err error)
}

// Service does the controller's work.
type Service struct {
	Volumes   *Volumes
	Snapshots *Snapshots
	Groups    *Groups
	Health    *Health
}

// New returns a Service on these shares. fault returns why nothing can be written to one: see
// jobs.Watcher.
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

// access opens shares for operations, and locks the objects of these.
type access struct {
	shares Shares
	locks  keylock.Set
}

// run does work under the lock of what, for example "volume pvc-1", and waits for it until ctx ends. Work
// that is still inside a call on a dead server then keeps the lock until that call ends: the controller's
// mounts ensure that it does. Until then a retry is answered ErrBusy, so that it does not work beside
// the first. The server may execute the call even later: what that cannot harm is in docs/design.md,
// "The fence". where names the share, or the shares, for errors.
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

// onVolume opens the share of a handle and does work on it, under the volume's lock.
func onVolume[T any](ctx context.Context, a *access, h volume.Handle, options []string, work func(context.Context, *share.Share) (T, error)) (T, error) {
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
