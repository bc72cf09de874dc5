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

// groupLock returns the lock key of a group. No volume and no snapshot has the same.
func groupLock(key string) string { return "snapshot group " + key }

// Create creates snapshots of several volumes of one share, or finds them: all or none. None of them can be
// used before all exist.
func (g *Groups) Create(ctx context.Context, name string, sources []volume.Handle) (*volume.Group, error) {
	want, on, err := g.newRecord(name, sources)
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
			if err := g.makeSnapshots(ctx, sh, on, r); err != nil {
				return nil, err
			}
		}
		made, err := toGroup(ctx, sh, on, r)
		if err != nil {
			return nil, err
		}
		useSpellings(made, sources)
		return made, nil
	})
}

// useSpellings gives the volumes of a group the handles of the request: one share can have two spellings.
func useSpellings(g *volume.Group, sources []volume.Handle) {
	for i := range g.Snapshots {
		for _, h := range sources {
			if h.Key == g.Snapshots[i].Volume.Key {
				g.Snapshots[i].Volume = h
			}
		}
	}
}

// newRecord returns the record of the requested group, and its share.
func (g *Groups) newRecord(name string, sources []volume.Handle) (r volume.GroupRecord, on string, err error) {
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

// sameShare reports whether two names are of one share.
func (g *Groups) sameShare(a, b string) bool {
	if a == b {
		return true
	}
	def, err := g.shares.Registry().Resolve(a)
	return err == nil && def.Matches(b)
}

// begin finds a group, or begins its creation, if all its volumes exist. It first deletes a group whose
// deletion has begun: the process that began it may never continue.
func (g *Groups) begin(ctx context.Context, sh *share.Share, want volume.GroupRecord) (*share.Group, error) {
	found, err := sh.Groups.Lookup(ctx, want.Key)
	if err != nil && !errors.Is(err, volume.ErrNotFound) {
		return nil, err
	}
	if found != nil && found.State == share.Ready {
		return found, nil
	}
	if found != nil && found.State != share.Making {
		if err := g.remove(ctx, sh, want.Key, checkNotRecreated); err != nil {
			return nil, err
		}
		found = nil
	}
	if found == nil {
		for _, m := range want.Members {
			if _, err := usableVolume(ctx, sh, m.Volume); err != nil {
				return nil, err
			}
		}
	}
	return sh.Groups.Begin(ctx, want)
}

// makeSnapshots creates the snapshots of a group and commits the group. If one of them fails, it removes
// the others.
func (g *Groups) makeSnapshots(ctx context.Context, sh *share.Share, on string, r *share.Group) error {
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
		return err // a retry continues
	}
	if undo := g.remove(ctx, sh, r.Key, checkUnfinished); undo != nil {
		klog.FromContext(ctx).Error(undo, "What was made of a snapshot group stays for a retry, or for the next start after an hour")
	}
	return err
}

// toGroup returns a complete group.
func toGroup(ctx context.Context, sh *share.Share, on string, r *share.Group) (*volume.Group, error) {
	g := &volume.Group{Handle: volume.Handle{Share: on, Key: r.Key}, Created: r.Created}
	for i, m := range r.Members {
		member, err := sh.Snapshots.Lookup(ctx, volume.KeyFor(m.Snapshot))
		if err != nil {
			return nil, err
		}
		g.Snapshots = append(g.Snapshots, *toSnapshot(on, member))
		if i == 0 || member.Created.Before(g.Created) {
			g.Created = member.Created
		}
	}
	return g, nil
}

// Get returns a group. ErrNotFound: there is no complete group. ErrInvalid: it has other snapshots than
// those given.
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
		return toGroup(ctx, sh, h.Share, r)
	})
}

// matches returns ErrInvalid unless the snapshots are those of the group.
func matches(r *volume.GroupRecord, on string, snapshots []volume.Handle) error {
	if snapshots == nil {
		return nil
	}
	var members []string
	for _, m := range r.Members {
		members = append(members, volume.Handle{Share: on, Key: volume.KeyFor(m.Snapshot)}.String())
	}
	var given []string
	for _, h := range snapshots {
		given = append(given, h.String())
	}
	slices.Sort(members)
	slices.Sort(given)
	if !slices.Equal(members, slices.Compact(given)) {
		return volume.Errorf(volume.ErrInvalid, "the snapshots of group %s are %v, not %v", r.Key, members, given)
	}
	return nil
}

// Delete deletes a group and its snapshots. It succeeds if there is no such group.
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

// checkNotRecreated returns an error if the deletion of a group has not begun: it was created again.
func checkNotRecreated(r *share.Group) error {
	if r.State == share.Ready || r.State == share.Making {
		return volume.Errorf(volume.ErrBusy, "the snapshot group %s is being made again: try again", r.Key)
	}
	return nil
}

// checkUnfinished returns an error if a group is complete.
func checkUnfinished(r *share.Group) error {
	if r.State == share.Ready {
		return volume.Errorf(volume.ErrBusy, "the snapshot group %s was just finished", r.Key)
	}
	return nil
}

// remove deletes a group with its snapshots, if all of them can be deleted.
func (g *Groups) remove(ctx context.Context, sh *share.Share, key string, check func(*share.Group) error) error {
	trashed, err := sh.Groups.Delete(ctx, key, check)
	for _, t := range trashed {
		g.purger.Add(sh.Definition().Name, t)
	}
	return err
}

// Sweep deletes abandoned, incomplete groups on the registered shares.
func (g *Groups) Sweep(ctx context.Context) {
	for _, def := range g.shares.Registry().Shares {
		if err := g.sweep(ctx, def.Name); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Abandoned snapshot groups cannot be deleted", "share", def.Name)
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
		err = errors.Join(err, g.remove(ctx, sh, key, checkUnfinished))
		unlock()
	}
	return err
}
