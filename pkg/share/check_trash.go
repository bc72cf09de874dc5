// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// trashNames is what a list has found of an entry of the trash.
type trashNames struct {
	kind       volume.TrashKind
	key, nonce string
	records    []string
}

// checkTrash checks the trash.
func (c *check) checkTrash(ctx context.Context) error {
	all, err := listNames(ctx, c.Trash.dir)
	if err != nil {
		return err
	}
	seen := map[string]*trashNames{}
	var ids, strange []string
	for _, name := range all {
		n, ok := volume.ParseTrashName(name)
		if !ok {
			strange = append(strange, name)
			continue
		}
		t := seen[n.ID]
		if t == nil {
			t = &trashNames{kind: n.Kind, key: n.Key, nonce: n.Nonce}
			seen[n.ID] = t
			ids = append(ids, n.ID)
		}
		if n.Record {
			t.records = append(t.records, name)
		}
	}
	err = c.runAll(ctx, "trash", strange, func(name string, f *finding) error {
		if _, err := c.Trash.dir.Stat(name); err != nil {
			return err
		}
		f.reportUnexpected()
		return nil
	})
	if err != nil {
		return err
	}
	return c.runAll(ctx, "trash", ids, func(id string, f *finding) error {
		l := trashCheck{check: c, finding: f, trashNames: *seen[id], id: id}
		return l.run()
	})
}

// trashCheck is one inspection of an entry of the trash.
type trashCheck struct {
	*check
	*finding
	trashNames // after listRecords: what still exists of it
	id         string
}

func (l *trashCheck) run() error {
	if l.kind == volume.TrashLeftover {
		return nil // purged at once
	}
	st, err := l.Trash.dir.Stat(l.id)
	if ignore(err, unix.ENOENT) != nil {
		return err
	}
	tree := !is(err, unix.ENOENT)
	purging, err := l.Trash.hasTree(volume.PurgingName(l.id))
	if err != nil {
		return err
	}
	if err := l.listRecords(); err != nil {
		return err
	}
	l.version = fmt.Sprint(tree, purging, l.records)
	if tree && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		l.reportError("find out who has put it there, and move it away", "it is no directory")
	}
	if len(l.records) > 0 {
		return l.checkRecorded(tree || purging)
	}
	if tree {
		return l.checkUnrecorded()
	}
	if purging {
		l.reportNote("nothing has to be done: the next purge goes on with it", "it is being purged, or was when its purger died")
	}
	return nil
}

// listRecords finds which records of the entry still exist, or are new.
func (l *trashCheck) listRecords() (err error) {
	var existing []string
	for _, name := range l.records {
		_, err := l.Trash.dir.Stat(name)
		if is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		existing = append(existing, name)
	}
	if len(existing) > 0 {
		l.records = existing
		return nil
	}
	l.records, err = l.Trash.records(l.id)
	return err
}

// checkUnrecorded checks a tree without a record.
func (l *trashCheck) checkUnrecorded() error {
	o := volume.Object{Kind: volume.ObjectVolume, Key: l.key}
	if l.kind == volume.TrashSnapshot {
		o.Kind = volume.ObjectSnapshot
	}
	state, alive, err := l.stateOf(o, l.nonce)
	switch {
	case err != nil:
		return err
	case alive && state == Ready:
		l.reportError("compare the two, and move one of them away", "it is the tree of %s, which exists and is not deleted", o)
	case !alive:
		l.reportError("nobody purges it: check what is in it, move that to where it is needed, or remove it on the server",
			"it has no record, and %s, whose deletion would add one, does not exist any more", o)
	}
	return nil // otherwise it is being deleted
}

// checkRecorded checks an entry that has records, with its tree or without.
func (l *trashCheck) checkRecorded(tree bool) error {
	restoring := false
	var err error
	if !tree && l.kind == volume.TrashVolume {
		if restoring, err = l.isRestoring(); err != nil {
			return err
		}
		var state State
		state, tree, err = l.stateOf(volume.Object{Kind: volume.ObjectVolume, Key: l.key}, l.nonce)
		if err != nil {
			return err
		}
		tree = tree && state == Deleting // its directory is kept in its place
	}
	if !tree && !restoring {
		l.reportNote("nothing has to be done: the next purge after it is due does them", "only the record of what was deleted is left: the last steps of its deletion, its purge or its restoration were not done")
	}
	for _, name := range l.records {
		l.path = stateName("trash", name)
		if err := l.checkRecord(name); err != nil {
			return err
		}
	}
	return nil
}

func (l *trashCheck) checkRecord(name string) error {
	data, _, err := l.Trash.dir.Read(name, maxRecord)
	if is(err, unix.EISDIR) {
		l.reportWarning("move it away: what it belongs to is not purged as long as it is there", "it is a directory, and should be a record")
		return nil
	}
	if err != nil {
		return err
	}
	unsupported, err := l.unsupported(data)
	if volume.Kind(err) == volume.ErrDamaged {
		what, _, _ := cutRemedy(err)
		l.reportWarning("restore it from a backup; without it nobody purges what it belongs to: check what that is, and remove both on the server", "%s", what)
		return nil
	}
	if err != nil {
		l.reportUndecodable(err, "")
		return nil
	}
	l.reportUnsupported(unsupported)
	if _, nonce := decodeIdentity(data); nonce != l.nonce {
		l.reportWarning("compare it with the tree beside it, and move the one that is wrong away", "it is the record of another one that had this key: its nonce is %s", nonce)
	}
	return nil
}

// unsupported decodes a record and returns what it requires that this program does not know.
func (l *trashCheck) unsupported(data []byte) ([]string, error) {
	if l.kind == volume.TrashSnapshot {
		r, err := volume.DecodeSnapshotRecord(l.key, data)
		if err != nil {
			return nil, err
		}
		return r.Unsupported(), nil
	}
	r, err := volume.DecodeRecord(l.key, data)
	if err != nil {
		return nil, err
	}
	return r.Unsupported(), nil
}

// isRestoring reports whether the entry is just being restored.
func (l *trashCheck) isRestoring() (bool, error) {
	s, exists, err := l.readReferenced(l.Volumes.table, l.key)
	if err != nil || !exists {
		return false, err
	}
	r, err := volume.DecodeRecord(l.key, s.data)
	if err != nil {
		return false, nil
	}
	return s.state != Ready && r.Restored != nil && r.Restored.Entry == l.id, nil
}
