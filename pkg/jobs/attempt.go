// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// renewals is how often a creation is renewed within a lease.
const renewals = 4

// progressInterval is how often a long copy logs its progress.
const progressInterval = 30 * time.Second

// attempt is one attempt to make a copy.
type attempt struct {
	c       *Copier
	copy    volume.Copy
	pending *share.Pending // of the volume, if this process creates it
	options []string
	running *running

	to, from *share.Share
	copying  *share.CopyJob
}

// run makes the copy. Afterwards the target is complete, or it does not exist, or a retry undoes the
// incomplete target.
func (a *attempt) run(ctx context.Context, name string) (err error) {
	to, release, err := a.c.pool.Open(ctx, name, a.options)
	if err != nil {
		return a.abortPending(ctx, err)
	}
	defer release()
	a.to, a.from = to, to // one mount, so that the server can share blocks
	if !to.Definition().Matches(a.copy.Source.Share) {
		var releaseFrom func()
		if a.from, releaseFrom, err = a.c.pool.Open(ctx, a.copy.Source.Share, a.options); err != nil {
			return a.abortPending(ctx, err)
		}
		defer releaseFrom()
	}
	a.running.tree.Methods = a.c.methodsFor(a.from, a.to)
	if a.copy.Target.Kind == volume.ObjectSnapshot {
		return a.snapshot(ctx)
	}
	return a.volume(ctx)
}

func (a *attempt) abortPending(ctx context.Context, err error) error {
	if a.pending == nil {
		return err
	}
	return a.abort(ctx, a.pending, err)
}

// abortable is the creation of a volume or a snapshot.
type abortable interface {
	Abort() error
	Close()
}

// abort undoes a creation that has failed with err, and returns err: a retry cannot use an incomplete
// copy. If the process is only stopping, the next run finds the copy.
func (a *attempt) abort(ctx context.Context, p abortable, err error) error {
	if ctx.Err() == nil {
		if undo := p.Abort(); undo != nil {
			klog.FromContext(ctx).Error(undo, "What was made of a copy stays for a retry to undo")
		}
	}
	p.Close()
	return err
}

func (a *attempt) snapshot(ctx context.Context) error {
	p, found, err := a.to.Snapshots.Begin(ctx, volume.SnapshotRecord{
		Key: a.copy.Target.Key, Name: a.copy.Name, Volume: a.copy.Source.Key,
		Group: a.copy.Group, GroupNonce: a.copy.GroupNonce,
	})
	if err != nil || found != nil {
		a.running.snapshot = found
		return err
	}
	created := time.Now().UTC()
	if a.copying, err = p.BeginCopy(ctx, a.to); err != nil {
		return a.abort(ctx, p, err)
	}
	tree := a.running.tree
	if err := a.fill(ctx, tree); err != nil {
		return a.abort(ctx, p, err)
	}
	if a.running.snapshot, err = p.Commit(ctx, created, tree.Bytes.Load(), tree.IsPlain()); err != nil {
		return a.abort(ctx, p, err)
	}
	return nil
}

func (a *attempt) volume(ctx context.Context) (err error) {
	if a.pending == nil {
		if a.running.volume, err = a.restart(ctx); err != nil || a.pending == nil {
			return err
		}
	}
	p := a.pending
	if a.copying, err = p.BeginCopy(ctx, a.from); err != nil {
		return a.abort(ctx, p, err)
	}
	if err := a.checkSource(ctx); err != nil {
		return a.abort(ctx, p, err)
	}
	tree := a.running.tree
	for {
		if err := a.fill(ctx, tree); err != nil {
			return a.abort(ctx, p, err)
		}
		var again *share.CopyJob
		if a.running.volume, again, err = p.CommitCopy(ctx); err != nil {
			return a.abort(ctx, p, err)
		}
		if again == nil {
			return nil
		}
		klog.FromContext(ctx).Info("The copy cannot be renamed into its place, because of a project quota there: it is copied again, into the volume's directory")
		a.copying = again
		// The counters of the first copy are those of the source.
		tree = &copytree.Copy{Workers: tree.Workers, Methods: tree.Methods, Step: tree.Step}
	}
}

// restart undoes the creation of a volume that was interrupted, and begins it again. It returns the
// volume's record if the volume exists by now.
func (a *attempt) restart(ctx context.Context) (*volume.Record, error) {
	found, err := a.to.Volumes.Lookup(ctx, a.copy.Target.Key)
	if err != nil {
		return nil, err
	}
	if found.State == share.Ready {
		return &found.Record, nil
	}
	if err := a.to.Volumes.AbortAbandoned(ctx, found); err != nil {
		return nil, err
	}
	p, again, err := a.to.Volumes.Begin(ctx, found.Record)
	if err != nil {
		return nil, err
	}
	if again != nil {
		return nil, volume.Errorf(volume.ErrBusy, "volume %s is being created by another controller: try again", a.copy.Target.Key)
	}
	if err := p.MakeDirectory(ctx); err != nil {
		return nil, a.abort(ctx, p, err)
	}
	a.pending = p
	return nil, nil
}

// fill copies the tree, and renews the lease of the creation meanwhile.
func (a *attempt) fill(ctx context.Context, tree *copytree.Copy) error {
	if s := a.copying.Snapshot(); s != nil {
		tree.SourceIsPlain = s.Plain
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.renew(ctx, cancel)
	}()
	source, target := a.copying.Trees()
	err := tree.Run(ctx, source, target)
	if err == nil && (a.from.Interrupted.Load() || a.to.Interrupted.Load()) {
		err = unix.ETIMEDOUT // it may have taken an EIO for "no such attribute"
	}
	if lost := context.Cause(ctx); lost != nil && errors.Is(lost, volume.ErrBusy) {
		err = lost
	}
	cancel(nil)
	<-stopped
	if e := (*copytree.OwnerError)(nil); errors.As(err, &e) {
		err = volume.Errorf(volume.ErrPrecondition, "copy %s: %w: give the owner and the group names on the server, and on each node and the controller's, or give the file to who has one (docs/kerberos.md)", a.copy.Source.String(), err)
	}
	if e := (*copytree.SourceError)(nil); errors.As(err, &e) {
		return a.from.WrapError("copy "+a.copy.Source.String(), err)
	}
	return a.to.WrapError("copy "+a.copy.Source.String()+" for "+a.copy.Target.String(), err)
}

// checkSource returns an error if the volume cannot be created from its source.
func (a *attempt) checkSource(ctx context.Context) error {
	r, source := a.pending.Record(), int64(0)
	if v := a.copying.Volume(); v != nil {
		source = v.Capacity
	} else if s := a.copying.Snapshot(); s != nil {
		source = s.RestoreSize()
		if s.Group != "" {
			g, err := a.from.Groups.Lookup(ctx, s.Group)
			if err != nil {
				return err
			}
			if g.State != share.Ready {
				return volume.Errorf(volume.ErrNotFound, "the group %s, which %s is of, is not whole", s.Group, a.copy.Source)
			}
		}
	}
	if r.Capacity < source {
		return volume.Errorf(volume.ErrOutOfRange, "share %s: volume %s with %d bytes cannot be made from %s, which has %d: ask for more", a.copy.Source.Share, r.Key, r.Capacity, a.copy.Source, source)
	}
	return nil
}

// renew renews the lease of the copy until ctx ends, and ends ctx when another controller has undone the copy.
func (a *attempt) renew(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(a.to.Lease() / renewals)
	defer tick.Stop()
	logged := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := a.copying.Renew()
		switch {
		case errors.Is(err, volume.ErrBusy):
			lost(err)
			return
		case err != nil: // the copy itself fails then
			klog.FromContext(ctx).Error(err, "The creation could not be renewed")
		}
		if time.Since(logged) >= progressInterval {
			logged = time.Now()
			klog.FromContext(ctx).Info("Copy under way", logValues(a.running.tree)...)
		}
	}
}
