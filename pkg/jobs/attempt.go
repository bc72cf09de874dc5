// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// beats is how many signs of life there are within a lease.
const beats = 4

// progressEvery is how often a long copy says how far it is.
const progressEvery = 30 * time.Second

// attempt is one attempt to make a copy.
type attempt struct {
	c       *Copier
	copy    volume.Copy
	making  *share.Making // of the volume that is made, if it is in our hands
	options []string
	running *running

	to, from *share.Share
	copying  *share.Copying
	resumed  bool // another had begun it
}

// run makes the copy. Whatever it ends with, nothing is half there: the target is whole, or
// it is not there, or its job says that it is still to be made.
func (a *attempt) run(ctx context.Context, name string) (err error) {
	to, release, err := a.c.pool.Open(ctx, name, a.options)
	if err != nil {
		return a.giveUp(ctx, err)
	}
	defer release()
	a.to, a.from = to, to // one mount, so that the server can share blocks
	if a.copy.Source.Share != name {
		var releaseFrom func()
		if a.from, releaseFrom, err = a.c.pool.Open(ctx, a.copy.Source.Share, a.options); err != nil {
			return a.giveUp(ctx, err)
		}
		defer releaseFrom()
	}
	a.running.tree.Methods = a.c.learned(a.from, a.to)
	if a.copy.Target.Kind == volume.OfSnapshot {
		return a.snapshot(ctx)
	}
	return a.volume(ctx)
}

func (a *attempt) giveUp(ctx context.Context, err error) error {
	if a.making == nil || ctx.Err() != nil {
		return err
	}
	return a.making.GiveUp(ctx, err)
}

func (a *attempt) snapshot(ctx context.Context) (err error) {
	if a.copying, err = a.to.BeginCopy(ctx, a.copy); err != nil {
		return err
	}
	defer func() { a.end(ctx) }()
	if a.copying.Resumed { // perhaps to the end
		a.running.snapshot, err = a.to.Snapshot(ctx, a.copy.Target.Key)
		if !errors.Is(err, volume.ErrNotFound) {
			return err
		}
	}
	created := time.Now().UTC()
	if err := a.fill(ctx); err != nil {
		return err
	}
	tree := a.running.tree
	a.running.snapshot, err = a.copying.PublishSnapshot(ctx, volume.SnapshotRecord{
		Key: a.copy.Target.Key, Name: a.copy.Name, Group: a.copy.Group, Volume: a.copy.Source.Key,
		Capacity: a.copying.Volume().Capacity, Size: tree.Bytes.Load(), Plain: tree.Plain(), Created: created,
	})
	return err
}

// end gives the right to make the copy up, but not where the process is only ending.
func (a *attempt) end(ctx context.Context) {
	a.resumed = a.copying.Resumed
	if ctx.Err() != nil {
		a.copying.Leave()
	} else {
		a.copying.End()
	}
}

func (a *attempt) volume(ctx context.Context) (err error) {
	key := a.copy.Target.Key
	if a.making == nil || a.making.Late() != nil {
		if ready, err := a.resume(ctx, key); ready != nil || err != nil {
			a.running.volume = ready
			return err
		}
	}
	m := a.making
	if a.copying == nil {
		if a.copying, err = a.to.BeginCopy(ctx, a.copy); err != nil {
			m.Leave()
			return err
		}
	}
	defer func() { a.end(ctx) }()
	if err = a.fill(ctx); err == nil {
		a.running.volume, err = a.copying.PublishVolume(ctx, m)
	}
	if err != nil && ctx.Err() == nil {
		a.copying.Protect(m)
		return m.GiveUp(ctx, err)
	}
	m.Leave()
	return err
}

// resume finds out how far the making of the volume had come and does what is missing up to
// the copy. It returns the volume's record where it is ready.
func (a *attempt) resume(ctx context.Context, key string) (ready *volume.Record, err error) {
	if a.making != nil {
		a.making.Leave()
		a.making = nil
	}
	r, err := a.to.Lookup(ctx, key)
	if err != nil {
		return nil, a.moot(ctx, err)
	}
	// A job is there only once the volume's directory is.
	begun, err := a.to.Seize(ctx, a.copy.Target)
	if err != nil {
		return nil, err
	}
	a.copying = begun
	defer func() {
		if (ready != nil || err != nil) && a.copying != nil {
			a.end(ctx)
			a.copying = nil
		}
	}()
	if r.Ready == 1 {
		return &r.Record, nil
	}
	m, err := a.to.Resume(ctx, r.Record)
	if err != nil {
		return nil, err
	}
	if begun != nil {
		placed, err := a.to.Placed(ctx, &r.Record)
		if err == nil && placed {
			begun.Protect(m)
			return m.Commit(ctx)
		}
		if err != nil {
			m.Leave()
			return nil, err
		}
	} else {
		if err = m.Claim(ctx); err == nil {
			err = m.MakeDirectory(ctx)
		}
		if err != nil {
			return nil, m.GiveUp(ctx, err)
		}
	}
	a.making = m
	return nil, nil
}

// moot ends the job of a volume that is not there any more.
func (a *attempt) moot(ctx context.Context, err error) error {
	if errors.Is(err, volume.ErrNotFound) {
		if c, e := a.to.Seize(ctx, a.copy.Target); e == nil && c != nil {
			c.End()
		}
	}
	return err
}

// fill copies the tree, with signs of life meanwhile.
func (a *attempt) fill(ctx context.Context) error {
	if err := a.copying.Open(ctx, a.from); err != nil {
		return err
	}
	if err := a.suitable(ctx); err != nil {
		return err
	}
	tree := a.running.tree
	if s := a.copying.Snapshot(); s != nil {
		tree.SourceIsPlain = s.Plain
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.beat(ctx, cancel)
	}()
	source, target := a.copying.Trees()
	err := tree.Tree(ctx, source, target)
	if lost := context.Cause(ctx); lost != nil && errors.Is(lost, volume.ErrBusy) {
		err = lost
	}
	cancel(nil)
	<-stopped
	if e := (*copytree.SourceError)(nil); errors.As(err, &e) {
		return a.from.Explain("copy "+a.copy.Source.String(), err)
	}
	return a.to.Explain("copy "+a.copy.Source.String()+" for "+a.copy.Target.String(), err)
}

// suitable refuses a source that the volume cannot be made from.
func (a *attempt) suitable(ctx context.Context) error {
	if a.making == nil {
		return nil
	}
	r, source := a.making.Record(), int64(0)
	if v := a.copying.Volume(); v != nil {
		source = v.Capacity
	} else if s := a.copying.Snapshot(); s != nil {
		source = s.Size
		if s.Group != "" {
			g, err := a.from.Group(ctx, s.Group)
			if err != nil {
				return err
			}
			if g.Ready == 0 {
				return volume.Errorf(volume.ErrNotFound, "the group %s, which %s is of, is not whole", s.Group, a.copy.Source)
			}
		}
	}
	if r.Capacity < source {
		return volume.Errorf(volume.ErrOutOfRange, "share %s: volume %s with %d bytes cannot be made from %s, which has %d: ask for more", a.copy.Source.Share, r.Key, r.Capacity, a.copy.Source, source)
	}
	return nil
}

// beat gives signs of life until ctx ends, and ends it when the copy is another's.
func (a *attempt) beat(ctx context.Context, lost context.CancelCauseFunc) {
	tick := time.NewTicker(a.to.Lease() / beats)
	defer tick.Stop()
	told := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := a.copying.Beat()
		switch {
		case errors.Is(err, volume.ErrBusy):
			lost(err)
			return
		case err != nil: // the copy itself finds out what it means
			klog.FromContext(ctx).Error(err, "A sign of life could not be given")
		}
		if time.Since(told) >= progressEvery {
			told = time.Now()
			klog.FromContext(ctx).Info("Copy under way", counts(a.running.tree)...)
		}
	}
}
