// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// trashSeen is what there is of an entry of the trash.
type trashSeen struct {
	kind          volume.TrashKind
	key, nonce    string
	tree, purging bool
	records       []string
}

// trashed checks the trash.
func (c *check) trashed(ctx context.Context) error {
	all, err := names(ctx, c.Trash.dir)
	if err != nil {
		return err
	}
	seen := map[string]*trashSeen{}
	var ids, strange []string
	for _, name := range all {
		n, ok := volume.ParseTrashName(name)
		if !ok {
			strange = append(strange, name)
			continue
		}
		t := seen[n.ID]
		if t == nil {
			t = &trashSeen{kind: n.Kind, key: n.Key, nonce: n.Nonce}
			seen[n.ID] = t
			ids = append(ids, n.ID)
		}
		switch {
		case n.Record:
			t.records = append(t.records, name)
		case n.Purging:
			t.purging = true
		default:
			t.tree = true
		}
	}
	err = c.each(ctx, "trash", strange, func(name string, f *finding) error {
		if _, err := c.Trash.dir.Stat(name); err != nil {
			return err
		}
		f.unexpected()
		return nil
	})
	if err != nil {
		return err
	}
	return c.each(ctx, "trash", ids, func(id string, f *finding) error { return c.lookTrashed(id, *seen[id], f) })
}

// lookTrashed looks at an entry of the trash of which a list has seen this.
func (c *check) lookTrashed(id string, t trashSeen, f *finding) error {
	if t.kind == volume.TrashLeftover {
		return nil // purged at once
	}
	st, err := c.Trash.dir.Stat(id)
	tree := err == nil
	if ignore(err, unix.ENOENT) != nil {
		return err
	}
	purging, err := c.Trash.has(volume.PurgingName(id))
	if err != nil {
		return err
	}
	if t.records, err = c.trashRecords(id, t.records); err != nil {
		return err
	}
	f.mark = fmt.Sprint(tree, purging, t.records)
	if tree && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		f.broken("find out who has put it there, and move it away", "it is no directory")
	}
	if len(t.records) > 0 {
		return c.lookTrashRecords(id, t, tree || purging, f)
	}
	if tree {
		return c.lookUnrecorded(t, f)
	}
	if purging {
		f.note("nothing has to be done: the next purge goes on with it", "it is being purged, or was when its purger died")
	}
	return nil
}

// trashRecords returns which records of an entry of the trash are still there, or have come.
func (c *check) trashRecords(id string, seen []string) (there []string, err error) {
	for _, name := range seen {
		_, err := c.Trash.dir.Stat(name)
		if err == nil {
			there = append(there, name)
		}
		if ignore(err, unix.ENOENT) != nil {
			return nil, err
		}
	}
	if len(there) > 0 {
		return there, nil
	}
	return c.Trash.records(id)
}

// lookUnrecorded looks at a tree whose record has not followed it.
func (c *check) lookUnrecorded(t trashSeen, f *finding) error {
	o := volume.Object{Kind: volume.OfVolume, Key: t.key}
	if t.kind == volume.TrashSnapshot {
		o.Kind = volume.OfSnapshot
	}
	state, alive, err := c.standing(o, t.nonce)
	switch {
	case err != nil:
		return err
	case alive && state == Ready:
		f.broken("compare the two, and move one of them away", "it is the tree of %s, which exists and is not deleted", o)
	case !alive:
		f.broken("nobody purges it: look what is in it, move that to where it is needed, or remove it on the server",
			"it has no record, and %s, whose deletion would bring that, does not exist any more", o)
	}
	return nil // else it is being deleted
}

func (c *check) lookTrashRecords(id string, t trashSeen, tree bool, f *finding) error {
	restoring := false
	var err error
	if !tree && t.kind == volume.TrashVolume {
		if restoring, err = c.restoring(id, t.key); err != nil {
			return err
		}
		var state State
		state, tree, err = c.standing(volume.Object{Kind: volume.OfVolume, Key: t.key}, t.nonce)
		if err != nil {
			return err
		}
		tree = tree && state == Deleting // it is kept in its place
	}
	if !tree && !restoring {
		f.note("nothing has to be done: the next purge after it is due does them", "of what was deleted only the record is left: the last steps of its deletion, its purge or its restoration were not done")
	}
	for _, name := range t.records {
		f.where = stateName("trash", name)
		if err := c.lookTrashRecord(name, t, f); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) lookTrashRecord(name string, t trashSeen, f *finding) error {
	data, _, err := c.Trash.dir.Read(name, maxRecord)
	if is(err, unix.EISDIR) {
		f.warn("move it away: what it belongs to is not purged as long as it is there", "it is a directory, and should be a record")
		return nil
	}
	if err != nil {
		return err
	}
	var unsupported []string
	if t.kind == volume.TrashSnapshot {
		var r *volume.SnapshotRecord
		if r, err = volume.DecodeSnapshotRecord(t.key, data); err == nil {
			unsupported = r.Unsupported()
		}
	} else {
		var r *volume.Record
		if r, err = volume.DecodeRecord(t.key, data); err == nil {
			unsupported = r.Unsupported()
		}
	}
	if volume.Kind(err) == volume.ErrDamaged {
		what, _, _ := cutRemedy(err)
		f.warn("restore it from a backup; without it nobody purges what it belongs to: look what that is, and remove both on the server", "%s", what)
		return nil
	}
	if err != nil {
		f.undecodable(err, "")
		return nil
	}
	f.requires(unsupported)
	if _, nonce := identityOf(data); nonce != t.nonce {
		f.warn("compare it with the tree beside it, and move the one that is wrong away", "it is the record of another one that had this key: its nonce is %s", nonce)
	}
	return nil
}

// restoring reports whether an entry of the trash is just being brought back.
func (c *check) restoring(id, key string) (bool, error) {
	s, there, err := c.other(c.Volumes.table, key)
	if err != nil || !there {
		return false, err
	}
	r, err := volume.DecodeRecord(key, s.data)
	return err == nil && s.state != Ready && r.Restored != nil && r.Restored.Entry == id, nil
}
