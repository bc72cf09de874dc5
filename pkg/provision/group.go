// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
)

// Groups creates, deletes and gets groups of snapshots.
type Groups struct {
	*access
	purger    Purger
	snapshots *Snapshots
}

// groupLock is the key under which a group is locked: one that neither volume nor snapshot has.
func groupLock(key string) string { return "snapshot group " + key }

// Create makes snapshots of several volumes of one share, or finds them made: all or none. No one of them is there for use before all are.
func (g *Groups) Create(ctx context.Context, name string, sources []volume.Handle) (*volume.Group, error) {
	want, on, err := g.group(name, sources)
	if err != nil {
		return nil, err
	}
	return run(ctx, g.access, groupLock(want.Key), on, func(ctx context.Context) (*volume.Group, error) {
		sh, release, err := g.open(ctx, on, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := g.begin(ctx, sh, want)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(r.Members, want.Members) {
			return nil, volume.Errorf(volume.ErrExists, "share %s: there is a snapshot group %s already, and it is of other volumes", sh.Definition(), name)
		}
		if r.State != share.Ready {
			if err := g.make(ctx, sh, on, r); err != nil {
				return nil, err
			}
		}
		made, err := groupOf(ctx, sh, on, r)
		if err != nil {
			return nil, err
		}
		spellAs(made, sources)
		return made, nil
	})
}

// spellAs names the volumes of a group as those who asked for it do: one share can have two spellings.
func spellAs(g *volume.Group, sources []volume.Handle) {
	for i := range g.Snapshots {
		for _, h := range sources {
			if h.Key == g.Snapshots[i].Volume.Key {
				g.Snapshots[i].Volume = h
			}
		}
	}
}

// group returns the record of the group that is wished for, and its share.
func (g *Groups) group(name string, sources []volume.Handle) (r volume.GroupRecord, on string, err error) {
	if name == "" || len(sources) == 0 {
		return r, "", volume.Errorf(volume.ErrInvalid, "a snapshot group needs a name and volumes")
	}
	r = volume.GroupRecord{Key: volume.KeyFor(name), Name: name, Created: time.Now().UTC()}
	on = sources[0].Share
	for _, h := range sources {
		if !g.sameShare(h.Share, on) {
			return r, "", volume.Errorf(volume.ErrPrecondition, "the snapshots of a group lie on one share, and its volumes are on the shares %s and %s: make a group for each share", on, h.Share)
		}
		r.Members = append(r.Members, volume.Member{Snapshot: name + "." + h.Key, Volume: h.Key})
	}
	slices.SortFunc(r.Members, func(a, b volume.Member) int { return cmp.Compare(a.Volume, b.Volume) })
	r.Members = slices.Compact(r.Members)
	_, err = volume.NewHandle(on, r.Key)
	return r, on, err
}

// sameShare reports whether two names are one share's.
func (g *Groups) sameShare(a, b string) bool {
	if a == b {
		return true
	}
	def, err := g.shares.Registry().Resolve(a)
	return err == nil && def.Matches(b)
}

// begin finds a group, or begins to make it, if all its volumes exist. One whose deletion has begun is
// deleted first: who began that may never go on.
func (g *Groups) begin(ctx context.Context, sh *share.Share, want volume.GroupRecord) (*share.Group, error) {
	found, err := sh.Groups.Lookup(ctx, want.Key)
	if err == nil && found.State == share.Ready {
		return found, nil
	}
	if err != nil && !errors.Is(err, volume.ErrNotFound) {
		return nil, err
	}
	if found != nil && found.State != share.Making {
		if err := g.remove(ctx, sh, want.Key, marked); err != nil {
			return nil, err
		}
		found = nil
	}
	if found == nil {
		for _, m := range want.Members {
			if _, err := ready(ctx, sh, m.Volume); err != nil {
				return nil, err
			}
		}
	}
	return sh.Groups.Begin(ctx, want)
}

// make makes the snapshots of a group and then the group ready. If one cannot be made,
// the others go again.
func (g *Groups) make(ctx context.Context, sh *share.Share, on string, r *share.Group) error {
	var work errgroup.Group
	for _, m := range r.Members {
		work.Go(func() error {
			_, err := g.snapshots.make(ctx, m.Snapshot, r, volume.Handle{Share: on, Key: m.Volume})
			return err
		})
	}
	err := work.Wait()
	if err == nil {
		err = sh.Groups.Commit(ctx, r)
	}
	if err == nil || share.IsTransient(err) {
		return err // the next try goes on
	}
	if undo := g.remove(ctx, sh, r.Key, unfinished); undo != nil {
		klog.FromContext(ctx).Error(undo, "What was made of a snapshot group stays for a retry, or for the next start after an hour")
	}
	return err
}

// groupOf answers with a group that is whole.
func groupOf(ctx context.Context, sh *share.Share, on string, r *share.Group) (*volume.Group, error) {
	g := &volume.Group{Handle: volume.Handle{Share: on, Key: r.Key}, Created: r.Created}
	for i, m := range r.Members {
		member, err := sh.Snapshots.Lookup(ctx, volume.KeyFor(m.Snapshot))
		if err != nil {
			return nil, err
		}
		g.Snapshots = append(g.Snapshots, *answerSnapshot(on, member))
		if i == 0 || member.Created.Before(g.Created) {
			g.Created = member.Created
		}
	}
	return g, nil
}

// Get returns a group. It is ErrNotFound where there is none that is whole, and
// ErrInvalid where it is of other snapshots than those given.
func (g *Groups) Get(ctx context.Context, h volume.Handle, snapshots []volume.Handle) (*volume.Group, error) {
	return call(ctx, "snapshot group "+h.Key, h.Share, func(ctx context.Context) (*volume.Group, error) {
		sh, release, err := g.open(ctx, h.Share, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := sh.Groups.Lookup(ctx, h.Key)
		if err != nil {
			return nil, err
		}
		if r.State != share.Ready {
			return nil, volume.Errorf(volume.ErrNotFound, "share %s: the snapshot group %s is still being made, or is being deleted", sh.Definition(), h.Key)
		}
		if err := matches(&r.GroupRecord, h.Share, snapshots); err != nil {
			return nil, err
		}
		return groupOf(ctx, sh, h.Share, r)
	})
}

// matches returns ErrInvalid unless the snapshots are those of the group.
func matches(r *volume.GroupRecord, on string, snapshots []volume.Handle) error {
	if snapshots == nil {
		return nil
	}
	var of []string
	for _, m := range r.Members {
		of = append(of, volume.Handle{Share: on, Key: volume.KeyFor(m.Snapshot)}.String())
	}
	var given []string
	for _, h := range snapshots {
		given = append(given, h.String())
	}
	slices.Sort(of)
	slices.Sort(given)
	if !slices.Equal(of, slices.Compact(given)) {
		return volume.Errorf(volume.ErrInvalid, "the snapshots of group %s are %v, not %v", r.Key, of, given)
	}
	return nil
}

// Delete deletes a group and its snapshots. One that is not there is deleted.
func (g *Groups) Delete(ctx context.Context, h volume.Handle, snapshots []volume.Handle) error {
	_, err := run(ctx, g.access, groupLock(h.Key), h.Share, func(ctx context.Context) (struct{}, error) {
		sh, release, err := g.open(ctx, h.Share, nil)
		if err != nil {
			return struct{}{}, err
		}
		defer release()
		return struct{}{}, g.remove(ctx, sh, h.Key, func(r *share.Group) error {
			return matches(&r.GroupRecord, h.Share, snapshots)
		})
	})
	return err
}

// marked refuses a group whose deletion has not begun: it was made anew.
func marked(r *share.Group) error {
	if r.State == share.Ready || r.State == share.Making {
		return volume.Errorf(volume.ErrBusy, "the snapshot group %s is being made again: try again", r.Key)
	}
	return nil
}

// unfinished refuses a group that is whole.
func unfinished(r *share.Group) error {
	if r.State == share.Ready {
		return volume.Errorf(volume.ErrBusy, "the snapshot group %s was just finished", r.Key)
	}
	return nil
}

// remove deletes a group with its snapshots, if all can be.
func (g *Groups) remove(ctx context.Context, sh *share.Share, key string, check func(*share.Group) error) error {
	trashed, err := sh.Groups.Delete(ctx, key, check)
	for _, t := range trashed {
		g.purger.Add(sh.Definition().Name, t)
	}
	return err
}

// Sweep deletes what is left of groups that were begun long ago and never made whole, on the
// registered shares.
func (g *Groups) Sweep(ctx context.Context) {
	for _, def := range g.shares.Registry().Shares {
		if err := g.sweep(ctx, def.Name); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Snapshot groups cannot be looked at", "share", def.Name)
		}
	}
}

func (g *Groups) sweep(ctx context.Context, on string) error {
	sh, release, err := g.shares.Open(ctx, on, nil)
	if err != nil {
		return err
	}
	defer release()
	keys, err := sh.Groups.Abandoned(ctx)
	for _, key := range keys {
		unlock, ok := g.locks.TryLock(groupLock(key))
		if !ok {
			continue
		}
		err = errors.Join(err, g.remove(ctx, sh, key, unfinished))
		unlock()
	}
	return err
}
