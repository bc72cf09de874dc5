// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// groupTimeout is how long an incomplete group waits for a request that completes it.
const groupTimeout = time.Hour

// Groups record which snapshots were made together. The record of a snapshot contains the nonce of its
// group, so a group's deletion deletes only what was made for that group.
type Groups struct {
	*table
	snapshots *Snapshots
}

// Group is the record of a group, as it was read.
type Group struct {
	volume.GroupRecord
	State State
}

// Lookup reads the record of a group. It returns ErrNotFound if there is none.
func (g *Groups) Lookup(ctx context.Context, key string) (r *Group, err error) {
	defer g.wrapError(&err, "read the record of the snapshot group %s", key)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, r, _, err := g.lookup(key)
	if err != nil {
		return nil, err
	}
	e.close()
	return r, nil
}

func (g *Groups) lookup(key string) (*entry, *Group, rawRecord, error) {
	e, s, err := g.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil, s, g.notFound(key)
	}
	if err != nil {
		return nil, nil, s, err
	}
	if s.state == Empty {
		e.close()
		return nil, nil, s, g.notFound(key)
	}
	r, err := volume.DecodeGroupRecord(key, s.data)
	if err != nil {
		e.close()
		return nil, nil, s, err
	}
	return e, &Group{*r, s.state}, s, nil
}

func (g *Groups) notFound(key string) error {
	return volume.Errorf(volume.ErrNotFound, "there is no snapshot group %s", key)
}

// Begin writes the record of a group, create-once, as making.json in groups/<key>. The caller makes
// the group's snapshots afterwards. If the key has a group already, Begin returns that. If that
// group is incomplete, Begin renews it.
func (g *Groups) Begin(ctx context.Context, r volume.GroupRecord) (found *Group, err error) {
	defer g.wrapError(&err, "begin to make the snapshot group %s", r.Key)
	if err := g.checkUsable(ctx); err != nil {
		return nil, err
	}
	r.Maker, r.Run, r.Nonce = g.opt.Maker, g.opt.Run, volume.NewNonce()
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	for range retries {
		e, err := g.create(r.Key, data, nil)
		if is(err, unix.EEXIST) {
			found, err := g.existing(r.Key)
			if found != nil || err != nil {
				return found, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		e.close()
		return &Group{r, Making}, nil
	}
	return nil, busy("the snapshot group %s is made and deleted again and again", r.Key)
}

func (g *Groups) existing(key string) (*Group, error) {
	if err := g.refresh(key); err != nil {
		return nil, err
	}
	e, s, err := g.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer e.close()
	if s.state == Empty {
		return nil, e.removeRecordlessEntry(nil)
	}
	r, err := volume.DecodeGroupRecord(key, s.data)
	if err != nil {
		return nil, err
	}
	switch s.state {
	case Making:
		if err := r.CheckRequires(); err != nil {
			return nil, err
		}
		if err := e.renewRecord(); err != nil {
			return nil, err
		}
	case Deleting, Aborting:
		return nil, busy("the snapshot group %s is being deleted", key)
	}
	return &Group{*r, s.state}, nil
}

// Commit makes a group exist, if all its snapshots do: it renames making.json to record.json. It
// returns ErrPrecondition if a snapshot of that name is not the group's.
func (g *Groups) Commit(ctx context.Context, r *Group) (err error) {
	defer g.wrapError(&err, "commit the snapshot group %s", r.Key)
	if err := ctx.Err(); err != nil {
		return err
	}
	e, now, _, err := g.lookup(r.Key)
	if err != nil {
		return err
	}
	defer e.close()
	if now.Nonce != r.Nonce {
		return busy("the snapshot group %s was deleted and begun again", r.Key)
	}
	if err := now.CheckRequires(); err != nil && now.State != Ready {
		return err
	}
	// They can be deleted now only after the group is marked, and then the commit fails.
	for _, m := range r.Members {
		if err := g.checkMember(r, m); err != nil {
			return err
		}
	}
	if now.State == Ready {
		return nil
	}
	return e.commit(makingFile)
}

// checkMember checks that a snapshot of a group exists.
func (g *Groups) checkMember(r *Group, m volume.Member) error {
	key := volume.KeyFor(m.Snapshot)
	e, s, err := g.snapshots.lookup(key)
	if err != nil {
		return err
	}
	e.close()
	if s.GroupNonce != r.Nonce {
		return volume.Errorf(volume.ErrPrecondition, "snapshot %s does not belong to the snapshot group %s: delete it", key, r.Key)
	}
	return nil
}

// Delete deletes a group and its snapshots, if no snapshot is in use. It succeeds if there is no such group.
// check, if not nil, may refuse the deletion of the group that it gets. Delete returns the snapshots'
// entries in the trash.
func (g *Groups) Delete(ctx context.Context, key string, check func(*Group) error) (trashed []TrashEntry, err error) {
	defer g.wrapError(&err, "delete the snapshot group %s", key)
	if err := g.checkUsable(ctx); err != nil {
		return nil, err
	}
	e, s, err := g.read(key)
	if is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer e.close()
	if s.state == Empty {
		return nil, e.removeRecordlessEntry(nil)
	}
	rec, err := volume.DecodeGroupRecord(key, s.data)
	if err != nil {
		return nil, err
	}
	r := &Group{*rec, s.state}
	if check != nil {
		if err := check(r); err != nil {
			return nil, err
		}
	}
	if err := r.CheckRequires(); err != nil {
		return nil, err
	}
	if r.State == Ready || r.State == Making {
		if err := g.markDeleted(ctx, e, r); err != nil {
			return nil, err
		}
	}
	return g.remove(ctx, e, r)
}

// markDeleted marks a group if none of its snapshots is in use.
func (g *Groups) markDeleted(ctx context.Context, e *entry, r *Group) error {
	for _, m := range r.Members {
		if err := g.snapshots.CheckUnused(ctx, volume.KeyFor(m.Snapshot)); err != nil {
			return err
		}
	}
	if r.State == Ready {
		err := e.deletionMark().mark()
		if is(err, unix.ENOENT) {
			return busy("the snapshot group %s is being deleted", r.Key)
		}
		return err
	}
	aborted, err := e.markAborted()
	if err != nil || aborted || e.isGone() {
		return err
	}
	return busy("the snapshot group %s was just finished", r.Key)
}

// remove deletes the snapshots of a marked group, and then the group.
func (g *Groups) remove(ctx context.Context, e *entry, r *Group) (trashed []TrashEntry, err error) {
	for _, m := range r.Members {
		t, err := g.snapshots.Delete(ctx, volume.KeyFor(m.Snapshot), func(s *volume.SnapshotRecord) error {
			if s.GroupNonce != r.Nonce {
				return errNotMember
			}
			return nil
		})
		if err != nil && !errors.Is(err, errNotMember) {
			return trashed, err
		}
		if t != nil {
			trashed = append(trashed, *t)
		}
	}
	g.step("remove the group's record")
	if err := e.deletionMark().removeRecord(); err != nil {
		return trashed, err
	}
	g.step("remove the group's record")
	if err := ignore(e.dir.Unlink(abortFile), unix.ENOENT, unix.ESTALE); err != nil {
		return trashed, err
	}
	return trashed, e.remove(nil)
}

// errNotMember: the snapshot has the name of a group's snapshot, but is not a member.
var errNotMember = errors.New("not a member of the group")

// Abandoned returns the groups that are incomplete and that no request has renewed for an hour, by
// the server's clock.
func (g *Groups) Abandoned(ctx context.Context) (keys []string, err error) {
	defer g.wrapError(&err, "list the snapshot groups")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	all, err := g.keys(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	now, err := g.now()
	if err != nil {
		return nil, err
	}
	for _, key := range all {
		e, r, s, err := g.lookup(key)
		if err != nil {
			continue // reported elsewhere
		}
		e.close()
		if r.State != Ready && now.Sub(time.Unix(s.mtime.Unix())) > groupTimeout {
			keys = append(keys, key)
		}
	}
	return slices.Clip(keys), nil
}

// Keys returns the keys of all groups, sorted.
func (g *Groups) Keys(ctx context.Context) (keys []string, err error) {
	defer g.wrapError(&err, "list the snapshot groups")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return g.keys(ctx)
}
