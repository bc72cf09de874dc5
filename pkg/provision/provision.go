// SPDX-License-Identifier: Apache-2.0

// Package provision has the controller's use cases: to create, delete, resize, change, get
// and list volumes, each idempotent, each under a lock of its volume, each bounded in time.
//
// What keeps two controllers apart is on the share (package share); the lock here is for this
// process alone, and for speed.
package provision

import (
	"context"
	"fmt"
	"runtime/debug"
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

// run does work under the lock of what, "volume pvc-1", say, and waits for it until ctx ends. Work that
// is still inside a call on a dead server then keeps the lock until the call gives up, which
// the controller's mounts do by themselves: a retry must not overtake a rename that may
// still happen. Until then it is told that the operation is pending. where names the share,
// or the shares, for errors.
func run[T any](ctx context.Context, a *access, what, where string, work func(context.Context) (T, error)) (T, error) {
	var none T
	unlock, ok := a.locks.TryLock(what)
	if !ok {
		return none, volume.Errorf(volume.ErrBusy, "an operation on %s is still under way: try again", what)
	}
	return bounded(ctx, what, where, unlock, work)
}

const (
	// lastWords is how long work may take to say why it stopped when its time was up.
	lastWords = 200 * time.Millisecond
	// watchInterval is how often a server is asked while an operation on it is under way.
	watchInterval = 2 * time.Second
)

// giveUp is the key by which a context has the function that ends the operation under way.
type giveUp struct{}

// openAny opens a share for an operation, which ends when the share's server stops answering: a
// call on it would only come back half a minute later. The share may not have been laid out.
func (a *access) openAny(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.shares.Open(ctx, name, options)
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
			if err := a.shares.Answers(watching, name); err != nil && watching.Err() == nil {
				end(err)
			}
		}
	}()
	return sh, func() { stop(); release() }, nil
}

// bounded does work on the file systems of shares and waits for it until ctx ends, or a server
// does not answer any more. after is called when the work has really ended, and before the
// result is returned. where names the share, or the shares, for an error that does not: "" where
// what does.
func bounded[T any](ctx context.Context, what, where string, after func(), work func(context.Context) (T, error)) (T, error) {
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
	if lost { // it says which share it was
		return none, fmt.Errorf("%s: %w", what, cause)
	}
	if where != "" {
		what += " on share " + where
	}
	return none, volume.Errorf(volume.ErrTimeout, "%s: not done in time (%w): the server does not answer, or is slow; it is safe to try again", what, cause)
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
