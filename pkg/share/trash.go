// SPDX-License-Identifier: Apache-2.0

package share

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Trash keeps the trees of deleted volumes and snapshots until they are purged or restored. An
// entry of the trash is a tree and a record. The name of the record has the time from which the
// entry may be purged, by the server's clock. That time is fixed at the deletion.
type Trash struct {
	*disk
	dir     beneath.Dir
	volumes *Volumes
}

// TrashEntry is an entry of the trash.
type TrashEntry struct {
	Name string // identifies the entry
	Key  string // of the deleted volume or snapshot
	// Deleted is when it was deleted, and Due when it may be purged, by the server's clock. They
	// are zero if it has no record.
	Deleted, Due time.Time

	nonce             string
	kind              volume.TrashKind
	hasTree, recorded bool
	purging           bool // a purger has begun with the tree, which cannot be restored any more
}

// Kind returns what an entry of the trash was: "volume", "snapshot", or "leftover" of a copy or a
// pod.
func (t TrashEntry) Kind() string {
	switch t.kind {
	case volume.TrashLeftover:
		return "leftover"
	case volume.TrashSnapshot:
		return string(volume.ObjectSnapshot)
	}
	return string(volume.ObjectVolume)
}

// Complete reports whether the entry has both its tree and its record, and is not being purged.
func (t TrashEntry) Complete() bool { return t.hasTree && t.recorded && !t.purging }

// Purging reports whether a purger has begun with the entry.
func (t TrashEntry) Purging() bool { return t.purging }

// HasRecord reports whether the entry has its record, or needs none. One without a record is from
// an interrupted deletion: it waits for a retry, and is not purged.
func (t TrashEntry) HasRecord() bool {
	return t.recorded || t.kind == volume.TrashLeftover || t.purging
}

// List lists the trash, the oldest entry first.
func (t *Trash) List(ctx context.Context) (entries []TrashEntry, err error) {
	defer t.wrapError(&err, "list the trash")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found := map[string]*TrashEntry{}
	err = t.list(t.dir, func(name string) error {
		n, ok := volume.ParseTrashName(name)
		if !ok {
			return nil
		}
		e := found[n.ID]
		if e == nil {
			e = &TrashEntry{Name: n.ID, Key: n.Key, nonce: n.Nonce, kind: n.Kind}
			found[n.ID] = e
		}
		e.add(n)
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b TrashEntry) int {
		return cmp.Or(a.Deleted.Compare(b.Deleted), cmp.Compare(a.Name, b.Name))
	})
	return entries, nil
}

// add adds what one name in the trash says about the entry. Of two records the one due later
// counts.
func (t *TrashEntry) add(n volume.TrashName) {
	if !n.Record {
		t.hasTree = true
		t.purging = t.purging || n.Purging
		return
	}
	t.recorded = true
	if n.Due.After(t.Due) {
		t.Deleted, t.Due = n.Deleted, n.Due
	}
}

// hasTree reports whether a tree is in the trash under this name.
func (t *Trash) hasTree(id string) (bool, error) {
	_, err := t.dir.Stat(id)
	if is(err, unix.ENOENT) {
		// The answer may come from this client's cache.
		if err := t.dir.Refresh(); err != nil {
			return false, err
		}
		_, err = t.dir.Stat(id)
	}
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	return true, nil
}

// moveTree moves a tree from an entry into the trash. moved is false if there is none: another
// process has moved it, or there never was one.
func (t *Trash) moveTree(e *entry, name, id string) (moved bool, err error) {
	e.step("move the tree into the trash")
	err = e.dir.Rename(name, t.dir, id)
	if isNameTaken(err) { // a second tree, which was made in the place of the first
		return false, e.leftovers().moveToTrashAsStray(name)
	}
	if isMissing(err) && e.isGone() {
		return false, busy("%s %s was deleted by another process", e.kind, e.key)
	}
	return err == nil, ignore(err, unix.ENOENT)
}

// moveRecord moves the record of a marked entry into the trash, after its tree. It returns the
// entry of the trash.
func (t *Trash) moveRecord(e *entry, from, id string, deleted time.Time, keep time.Duration) (*TrashEntry, error) {
	n, _ := volume.ParseTrashName(id)
	deleted, due := trashTimes(deleted, keep)
	e.step("move the record into the trash")
	err := e.deletionMark().withRecord(from, func(in beneath.Dir, name string) error {
		return in.Rename(name, t.dir, volume.TrashRecordName(id, deleted, due))
	})
	if err := ignore(err, unix.ENOENT, unix.ESTALE); err != nil {
		return nil, err
	}
	return &TrashEntry{
		Name: id, Key: n.Key, Deleted: deleted, Due: due,
		nonce: n.Nonce, kind: n.Kind, hasTree: true, recorded: true,
	}, nil
}

// Record reads the record of an entry, of a volume or a snapshot: one of the two results is nil.
// Both are nil if there is none. It fails with ErrDamaged if the record cannot be read.
func (t *Trash) Record(e TrashEntry) (v *volume.Record, s *volume.SnapshotRecord, err error) {
	defer t.wrapError(&err, "read the record of %s in the trash", e.Name)
	return t.record(e)
}

func (t *Trash) record(e TrashEntry) (*volume.Record, *volume.SnapshotRecord, error) {
	data, err := t.readRecord(e)
	if err != nil || data == nil {
		return nil, nil, err
	}
	if e.kind == volume.TrashSnapshot {
		r, err := volume.DecodeSnapshotRecord(e.Key, data)
		return nil, r, explainDamaged(e, err)
	}
	r, err := volume.DecodeRecord(e.Key, data)
	return r, nil, explainDamaged(e, err)
}

// explainDamaged adds to an ErrDamaged which record in the trash it is.
func explainDamaged(e TrashEntry, err error) error {
	if volume.Kind(err) != volume.ErrDamaged {
		return err
	}
	return volume.Errorf(volume.ErrDamaged, "%s in the trash is kept, as its record there, %s, cannot be read: %w", e.Name, volume.TrashRecordName(e.Name, e.Deleted, e.Due), err)
}

// readRecord reads the record of an entry; nil if there is none.
func (t *Trash) readRecord(e TrashEntry) ([]byte, error) {
	if !e.Due.IsZero() {
		data, _, err := t.dir.Read(volume.TrashRecordName(e.Name, e.Deleted, e.Due), maxRecord)
		if !isMissing(err) && !is(err, unix.EISDIR) {
			return data, err
		}
	}
	names, err := t.records(e.Name)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		data, _, err := t.dir.Read(name, maxRecord)
		if !isMissing(err) && !is(err, unix.EISDIR) {
			return data, err
		}
	}
	if len(names) > 0 {
		return nil, volume.Errorf(volume.ErrDamaged, "%s in the trash is kept, as its record there, %s, is a directory", e.Name, names[0])
	}
	return nil, nil
}

// records returns the names of the records of an entry, the current one first.
func (t *Trash) records(id string) ([]string, error) {
	var names []volume.TrashName
	err := beneath.Names(t.dir, func(name string) error {
		if !strings.HasPrefix(name, id) {
			return nil
		}
		if n, ok := volume.ParseTrashName(name); ok && n.ID == id && n.Record {
			names = append(names, n)
		}
		return nil
	})
	slices.SortFunc(names, func(a, b volume.TrashName) int { return b.Due.Compare(a.Due) })
	var all []string
	for _, n := range names {
		all = append(all, volume.TrashRecordName(n.ID, n.Deleted, n.Due))
	}
	return all, err
}

// readRestorable reads the record of an entry that is a complete volume.
func (t *Trash) readRestorable(e TrashEntry) (*volume.Record, error) {
	switch {
	case e.kind == volume.TrashSnapshot:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s is a snapshot, and only volumes can be restored", e.Name)
	case e.kind == volume.TrashLeftover:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s is an incomplete tree, and never was a volume", e.Name)
	case e.purging:
		return nil, volume.Errorf(volume.ErrNotFound, "%s is being purged: what is left of it is incomplete", e.Name)
	case !e.recorded:
		return nil, volume.Errorf(volume.ErrPrecondition, "%s has no record yet: its deletion was interrupted, and continues when the deletion of the PersistentVolume is retried", e.Name)
	}
	if err := t.dir.Refresh(); err != nil {
		return nil, err
	}
	st, err := t.dir.Stat(e.Name)
	if is(err, unix.ENOENT) {
		return nil, t.notFoundError(e.Name)
	}
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	r, _, err := t.record(e)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, t.notFoundError(e.Name)
	}
	return r, r.CheckRequires()
}

func (t *Trash) notFoundError(name string) error {
	return volume.Errorf(volume.ErrNotFound, "nothing is left of %s in the trash: it was purged or restored", name)
}

// stageTree moves the tree of an entry of the trash into the stage of the volume that it becomes
// again. ErrNotFound: a purger was first.
func (t *Trash) stageTree(id string, e *entry) error {
	stage, err := e.dir.Resolve(stageName)
	if err != nil {
		return e.explainUndone(err)
	}
	defer stage.Close()
	t.step("take the tree out of the trash")
	err = t.dir.Rename(id, stage, treeName)
	if isMissing(err) && isMissing(stage.Refresh()) {
		return e.explainUndone(err)
	}
	if !isMissing(err) {
		return err
	}
	if e.isGone() {
		return busy("the restore of volume %s was undone by another process", e.key)
	}
	return t.notFoundError(id)
}
