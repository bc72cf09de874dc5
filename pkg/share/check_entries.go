// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// recordFiles are the names that the record of an entry can have, and what they say.
var recordFiles = map[string]State{
	makingFile: Making, placingFile: Making, recordFile: Ready,
	deletionName: Deleting, abortFile: Aborting, unplaceFile: Aborting,
}

// entryDirs are the directories that an entry can have, besides that of holds.
var entryDirs = []string{treeName, stageName, unstagedName, claimName, dataName, emptyName, copyName}

// entries checks the volumes, snapshots and groups.
func (c *check) entries(ctx context.Context) error {
	for _, part := range []struct {
		in string
		*table
	}{
		{"volumes", c.Volumes.table}, {"snapshots", c.Snapshots.table}, {"groups", c.Groups.table},
	} {
		keys, err := names(ctx, part.dir)
		if err != nil {
			return err
		}
		err = c.each(ctx, part.in, keys, func(key string, f *finding) error {
			l := entryLook{check: c, finding: f, t: part.table, key: key, what: string(part.kind) + " " + key}
			return l.run()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entryLook is one look at one entry.
type entryLook struct {
	*check
	*finding
	t     *table
	key   string
	what  string // "volume pvc-1"
	e     *entry
	names map[string]bool // what is in it, and whether that is a directory
	moved time.Time       // when it last went on

	volume   *volume.Record
	snapshot *volume.SnapshotRecord
	group    *volume.GroupRecord
}

func (l *entryLook) run() (err error) {
	l.e, err = l.t.resolve(l.key)
	if is(err, unix.ENOTDIR, unix.ELOOP) {
		l.unexpected()
		return nil
	}
	if err != nil {
		return err
	}
	defer l.e.close()
	records, err := l.list()
	if err != nil {
		return err
	}
	switch len(records) {
	case 0:
		return l.empty()
	case 1:
		return l.recorded(records[0])
	}
	l.mark = strings.Join(records, " ")
	l.broken("compare them: one of them says how far it is; move the others away", "%s has several records: %s", l.what, strings.Join(records, ", "))
	return nil
}

// list reads what is in the entry, and returns the names of its records.
func (l *entryLook) list() (records []string, err error) {
	if err := l.e.dir.Refresh(); err != nil {
		return nil, err
	}
	st, err := l.e.dir.Self()
	if err != nil {
		return nil, err
	}
	l.moved = timeOf(st.Mtim)
	l.names = map[string]bool{}
	err = beneath.Entries(l.e.dir, func(name string, isDir bool) error {
		if strings.HasPrefix(name, ".nfs") {
			return nil
		}
		l.names[name] = isDir
		if _, is := recordFiles[name]; is && !isDir {
			records = append(records, name)
		}
		return nil
	})
	if err == nil && l.names[deletionName] && len(records) == 0 {
		if _, _, sealed := l.e.marking().readSealed(); sealed == nil {
			records = append(records, deletionName)
		} else if !missing(sealed) {
			return nil, sealed
		}
	}
	slices.Sort(records)
	return records, err
}

// empty judges an entry without a record.
func (l *entryLook) empty() error {
	if !l.old(l.moved) {
		return nil // just going
	}
	all := slices.Sorted(maps.Keys(l.names)) // the second look has to tell of the same
	for _, name := range all {
		if !entryName(name) {
			l.warn(leaveToNewer, "%s has no record that this Mooring knows, but %q", l.what, name)
			return nil
		}
	}
	for _, name := range all {
		if l.names[name] && name != deletionName && name != claimName {
			l.broken("look what is in "+l.where+"/"+name+", and move that to where it is needed; then remove "+l.where, "%s has no record, but a directory %q", l.what, name)
			return nil
		}
	}
	l.note("nothing has to be done: what next has this name removes it; or remove it", "of %s nothing is left but its entry", l.what)
	return nil
}

// recorded judges an entry that has one record.
func (l *entryLook) recorded(name string) error {
	var data []byte
	var st unix.Stat_t
	err := l.e.marking().at(name, func(in beneath.Dir, record string) (err error) {
		data, st, err = in.Read(record, maxRecord)
		return err
	})
	if err != nil {
		return err
	}
	state := recordFiles[name]
	l.mark = fmt.Sprint(name, st.Ino, st.Mtim)
	limit := l.opt.Lease
	if state == Making {
		l.moved = timeOf(st.Mtim)
		if l.t.kind == ofGroup {
			limit = max(limit, abandonedGroup)
		}
	}
	if state != Ready && l.now.Sub(l.moved) <= limit {
		return nil // under way
	}
	unsupported, err := l.decode(data)
	if err != nil && l.t.kind == volume.OfSnapshot && state == Making {
		err = nil // its maker died while it wrote the last of it
	}
	if err != nil {
		l.undecodable(err, "restore it from a backup")
		return nil
	}
	if len(unsupported) > 0 {
		l.requires(unsupported)
		return nil
	}
	if state == Deleting && l.volume != nil {
		if kept, err := l.Trash.promised(volume.TrashID(volume.TrashVolume, l.key, l.volume.Nonce)); kept != nil || err != nil {
			return err // it waits in its place until it is purged
		}
	}
	if state != Ready {
		l.stalled(state)
		return nil
	}
	l.leftovers()
	if err := l.ready(); err != nil {
		return err
	}
	return l.holds()
}

// decode reads the record as what it is, and returns what it requires that we do not know.
func (l *entryLook) decode(data []byte) (unsupported []string, err error) {
	switch l.t.kind {
	case volume.OfVolume:
		if l.volume, err = volume.DecodeRecord(l.key, data); err == nil {
			unsupported = l.volume.Unsupported()
		}
	case volume.OfSnapshot:
		if l.snapshot, err = volume.DecodeSnapshotRecord(l.key, data); err == nil {
			unsupported = l.snapshot.Unsupported()
		}
	default:
		if l.group, err = volume.DecodeGroupRecord(l.key, data); err == nil {
			unsupported = l.group.Unsupported()
		}
	}
	return unsupported, err
}

// stalled says that something was begun, and its maker is gone.
func (l *entryLook) stalled(state State) {
	next := "the next attempt to create it undoes this first"
	if l.volume != nil && l.volume.Restored != nil {
		next = "mooringctl trash restore " + l.def.Name + "/" + l.key + " undoes it, and begins anew"
	}
	undo := next + "; where nobody will try, look whether there are data in its stage or tree, move those to where they are needed, and remove " + l.where + " on the server"
	switch state {
	case Making:
		l.warn(undo, "the creation of %s was begun, went on until %s, and was neither finished nor undone: whoever made it is gone", l.what, stamp(l.moved))
	case Aborting:
		l.warn(undo, "the creation of %s was to be undone, which went on until %s and was not finished", l.what, stamp(l.moved))
	case Deleting:
		l.warn("the next attempt finishes it, and the cluster makes one as long as it has the PersistentVolume or VolumeSnapshotContent, whose events say what is in the way; where it has none, see docs/check.md",
			"the deletion of %s was begun, went on until %s, and was not finished", l.what, stamp(l.moved))
	}
}

// leftovers finds what does not belong into the entry of what exists.
func (l *entryLook) leftovers() {
	for name, isDir := range l.names {
		switch {
		case name == recordFile, name == deletionName && isDir, name == dataName && isDir && l.t.kind == volume.OfSnapshot:
		case name == treeName && isDir && l.t.kind == volume.OfVolume:
			l.broken("look what is in it, and move it away: the volume's deletion would take it for the volume's directory", "%s exists, and its entry has a directory %q", l.what, name)
		case isDir && slices.Contains(entryDirs, name):
			l.warn("nothing has to be done: it goes when "+l.what+" is deleted", "%s exists, and its entry still has a directory %q", l.what, name)
		default:
			l.warn(leaveToNewer, "the entry of %s has %q, which does not belong there", l.what, name)
		}
	}
}

// ready checks what exists.
func (l *entryLook) ready() error {
	switch l.t.kind {
	case volume.OfVolume:
		return l.readyVolume()
	case volume.OfSnapshot:
		return l.readySnapshot()
	}
	return l.readyGroup()
}

func (l *entryLook) readySnapshot() error {
	d, err := l.e.dir.Resolve(dataName)
	if err == nil {
		d.Close()
	}
	if is(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP) {
		l.broken("restore "+l.where+"/"+dataName+" from a backup, or delete the VolumeSnapshot", "%s has no tree: there is no directory %q in its entry", l.what, dataName)
	} else if err != nil {
		return err
	}
	r := l.snapshot
	if r.Group == "" {
		return nil
	}
	s, there, err := l.other(l.Groups.table, r.Group)
	if err != nil {
		return err
	}
	if _, nonce := identityOf(s.data); !there || nonce != "" && nonce != r.GroupNonce {
		l.broken("delete the VolumeSnapshot; where the cluster has none, move "+l.where+" away on the server once nobody needs it",
			"%s was made for the group %s, which does not exist any more", l.what, r.Group)
	}
	return nil
}

func (l *entryLook) readyGroup() error {
	for _, m := range l.group.Members {
		key := volume.KeyFor(m.Snapshot)
		s, there, err := l.other(l.Snapshots.table, key)
		if err != nil {
			return err
		}
		const remedy = "restore the snapshot from a backup, or delete the VolumeGroupSnapshot: it is not whole"
		if !there || s.state == Empty {
			l.broken(remedy, "%s has the snapshot %s, which does not exist", l.what, key)
			continue
		}
		r, err := volume.DecodeSnapshotRecord(key, s.data)
		if err == nil && r.GroupNonce != l.group.Nonce {
			l.broken(remedy, "%s has the snapshot %s, which is another that was not made for it", l.what, key)
		} else if err == nil && s.state != Ready {
			l.broken(remedy, "%s has the snapshot %s, which is not whole, or is being deleted", l.what, key)
		}
	}
	return nil
}

// holds checks who keeps a volume or snapshot from being deleted.
func (l *entryLook) holds() error {
	if !l.names[deletionName] {
		return nil
	}
	d, err := l.e.dir.Resolve(deletionName)
	if err != nil {
		return err
	}
	defer d.Close()
	where := l.where
	return beneath.Names(d, func(name string) error {
		st, err := d.Stat(name)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		l.where = where + "/" + deletionName + "/" + name
		defer func() { l.where = where }()
		return l.lookHold(name, timeOf(st.Mtim))
	})
}

func (l *entryLook) lookHold(name string, shown time.Time) error {
	if strings.HasPrefix(name, ".nfs") {
		return nil
	}
	if name == sealName {
		if l.old(shown) {
			l.moved = shown
			l.stalled(Deleting)
		}
		return nil
	}
	if name == changeName {
		if l.old(shown) {
			l.warn("nothing has to be done: the next change, or the deletion, removes it", "a change of %s was begun at %s and not finished", l.what, stamp(shown))
		}
		return nil
	}
	if id, ok := strings.CutPrefix(name, userHold); ok {
		key, nonce, ok := cutNonce(id)
		if !ok {
			l.warn("remove it: "+l.what+" cannot be deleted as long as it is there", "no volume can have this hold")
			return nil
		}
		_, alive, err := l.standing(volume.Object{Kind: volume.OfVolume, Key: key}, nonce)
		if err == nil && !alive {
			l.note("nothing has to be done: the deletion of "+l.what+" removes it", "volume %s, which was this snapshot itself, does not exist any more", key)
		}
		return err
	}
	id, nonce, ok := cutNonce(strings.TrimPrefix(name, copyHold))
	target, known := volume.ParseObject(id)
	if !ok || !known || !strings.HasPrefix(name, copyHold) {
		l.unexpected()
		return nil
	}
	if !l.old(shown) {
		return nil
	}
	state, alive, err := l.standing(target, nonce)
	if err == nil && (!alive || state != Making) { // else that is told where it is made
		l.warn("nothing has to be done: the deletion of "+l.what+" removes it", "%s was held until %s for a copy as %s, which is not being made", l.what, stamp(shown), target)
	}
	return err
}
