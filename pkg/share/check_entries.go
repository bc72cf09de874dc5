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

// recordFiles are the names that the record of an entry can have, and the states that they mean.
var recordFiles = map[string]State{
	makingFile: Making, placingFile: Making, recordFile: Ready,
	deletionName: Deleting, abortFile: Aborting, unplaceFile: Aborting,
}

// entryDirs are the directories that an entry can have, besides the directory of holds.
var entryDirs = []string{treeName, stageName, unstagedName, claimName, dataName, emptyName, copyName}

// checkEntries checks the volumes, snapshots and groups.
func (c *check) checkEntries(ctx context.Context) error {
	for _, part := range []struct {
		in string
		*table
	}{
		{"volumes", c.Volumes.table}, {"snapshots", c.Snapshots.table}, {"groups", c.Groups.table},
	} {
		keys, err := listNames(ctx, part.dir)
		if err != nil {
			return err
		}
		err = c.runAll(ctx, part.in, keys, func(key string, f *finding) error {
			l := entryCheck{check: c, finding: f, table: part.table, key: key, name: string(part.kind) + " " + key}
			return l.run()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// entryCheck is one inspection of one entry.
type entryCheck struct {
	*check
	*finding
	table      *table
	key        string
	name       string // "volume pvc-1"
	e          *entry
	names      map[string]bool // what it contains, and whether that is a directory
	lastChange time.Time       // when it last made progress

	volume   *volume.Record
	snapshot *volume.SnapshotRecord
	group    *volume.GroupRecord
}

func (l *entryCheck) run() (err error) {
	l.e, err = l.table.resolve(l.key)
	if is(err, unix.ENOTDIR, unix.ELOOP) {
		l.reportUnexpected()
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
		return l.checkRecordless()
	case 1:
		return l.checkRecorded(records[0])
	}
	l.version = strings.Join(records, " ")
	l.reportError("compare them: one of them shows the state; move the others away", "%s has several records: %s", l.name, strings.Join(records, ", "))
	return nil
}

// list reads what is in the entry, and returns the names of its records.
func (l *entryCheck) list() (records []string, err error) {
	if err := l.e.dir.Refresh(); err != nil {
		return nil, err
	}
	st, err := l.e.dir.StatSelf()
	if err != nil {
		return nil, err
	}
	l.lastChange = toTime(st.Mtim)
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
	if err != nil {
		return nil, err
	}
	if len(records) > 0 || !l.names[deletionName] {
		slices.Sort(records)
		return records, nil
	}
	if _, _, err := l.e.deletionMark().readSealed(); err != nil {
		return nil, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return []string{deletionName}, nil
}

// checkRecordless checks an entry without a record.
func (l *entryCheck) checkRecordless() error {
	if !l.isOld(l.lastChange) {
		return nil // just being removed
	}
	all := slices.Sorted(maps.Keys(l.names)) // sorted, so that the second inspection reports the same
	for _, name := range all {
		if !isKnownEntryName(name) {
			l.reportWarning(unknownRemedy, "%s has no record that this Mooring knows, but %q", l.name, name)
			return nil
		}
	}
	for _, name := range all {
		if l.names[name] && name != deletionName && name != claimName {
			l.reportError("check what is in "+l.path+"/"+name+", and move that to where it is needed; then remove "+l.path, "%s has no record, but a directory %q", l.name, name)
			return nil
		}
	}
	l.reportNote("nothing has to be done: the next one with this name removes it; or remove it", "only the entry of %s is left", l.name)
	return nil
}

// checkRecorded checks an entry that has one record.
func (l *entryCheck) checkRecorded(name string) error {
	var data []byte
	var st unix.Stat_t
	err := l.e.deletionMark().withRecord(name, func(dir beneath.Dir, record string) (err error) {
		data, st, err = dir.Read(record, maxRecord)
		return err
	})
	if err != nil {
		return err
	}
	state := recordFiles[name]
	l.version = fmt.Sprint(name, st.Ino, st.Mtim)
	limit := l.opt.Lease
	if state == Making {
		l.lastChange = toTime(st.Mtim)
		if l.table.kind == ofGroup {
			limit = max(limit, groupTimeout)
		}
	}
	if state != Ready && l.now.Sub(l.lastChange) <= limit {
		return nil // in progress
	}
	unsupported, err := l.decode(data)
	if err != nil && l.table.kind == volume.ObjectSnapshot && state == Making {
		err = nil // its maker died while it wrote the last part of it
	}
	if err != nil {
		l.reportUndecodable(err, "restore it from a backup")
		return nil
	}
	if len(unsupported) > 0 {
		l.reportUnsupported(unsupported)
		return nil
	}
	if state == Deleting && l.volume != nil {
		if kept, err := l.Trash.findRecord(volume.TrashID(volume.TrashVolume, l.key, l.volume.Nonce)); kept != nil || err != nil {
			return err // its directory waits in its place until it is purged
		}
	}
	if state != Ready {
		l.reportStalled(state)
		return nil
	}
	l.checkLeftovers()
	if err := l.checkReady(); err != nil {
		return err
	}
	return l.checkHolds()
}

// decode reads the record as what it is, and returns what it requires that this program does not know.
func (l *entryCheck) decode(data []byte) (unsupported []string, err error) {
	switch l.table.kind {
	case volume.ObjectVolume:
		if l.volume, err = volume.DecodeRecord(l.key, data); err != nil {
			return nil, err
		}
		return l.volume.Unsupported(), nil
	case volume.ObjectSnapshot:
		if l.snapshot, err = volume.DecodeSnapshotRecord(l.key, data); err != nil {
			return nil, err
		}
		return l.snapshot.Unsupported(), nil
	}
	if l.group, err = volume.DecodeGroupRecord(l.key, data); err != nil {
		return nil, err
	}
	return l.group.Unsupported(), nil
}

// reportStalled reports an operation that was begun and whose process does not exist any more.
func (l *entryCheck) reportStalled(state State) {
	next := "the next attempt to create it undoes this first"
	if l.volume != nil && l.volume.Restored != nil {
		next = "mooringctl trash restore " + l.def.Name + "/" + l.key + " undoes it, and begins again"
	}
	undo := next + "; if nobody will try, check whether there are data in its stage or tree, move those to where they are needed, and remove " + l.path + " on the server"
	switch state {
	case Making:
		l.reportWarning(undo, "the creation of %s was begun, went on until %s, and was neither finished nor undone: the process that made it is gone", l.name, formatTime(l.lastChange))
	case Aborting:
		l.reportWarning(undo, "undoing the creation of %s was begun, went on until %s, and was not finished", l.name, formatTime(l.lastChange))
	case Deleting:
		l.reportWarning("the next attempt finishes it, and the cluster makes one as long as it has the PersistentVolume or VolumeSnapshotContent, whose events say what blocks it; if it has none, see docs/check.md",
			"the deletion of %s was begun, went on until %s, and was not finished", l.name, formatTime(l.lastChange))
	}
}

// checkLeftovers finds what does not belong in the entry of something that exists.
func (l *entryCheck) checkLeftovers() {
	for name, isDir := range l.names {
		switch {
		case name == recordFile, name == deletionName && isDir, name == dataName && isDir && l.table.kind == volume.ObjectSnapshot:
		case name == treeName && isDir && l.table.kind == volume.ObjectVolume:
			l.reportError("check what is in it, and move it away: the volume's deletion would take it for the volume's directory", "%s exists, and its entry has a directory %q", l.name, name)
		case isDir && slices.Contains(entryDirs, name):
			l.reportWarning("nothing has to be done: the deletion of "+l.name+" removes it", "%s exists, and its entry still has a directory %q", l.name, name)
		default:
			l.reportWarning(unknownRemedy, "the entry of %s has %q, which does not belong there", l.name, name)
		}
	}
}

// checkReady checks something that exists.
func (l *entryCheck) checkReady() error {
	switch l.table.kind {
	case volume.ObjectVolume:
		return l.checkVolume()
	case volume.ObjectSnapshot:
		return l.checkSnapshot()
	}
	return l.checkGroup()
}

func (l *entryCheck) checkSnapshot() error {
	err := checkOpens(l.e.dir, dataName)
	if is(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP) {
		l.reportError("restore "+l.path+"/"+dataName+" from a backup, or delete the VolumeSnapshot", "%s has no tree: there is no directory %q in its entry", l.name, dataName)
	} else if err != nil {
		return err
	}
	r := l.snapshot
	if r.Group == "" {
		return nil
	}
	s, exists, err := l.readReferenced(l.Groups.table, r.Group)
	if err != nil {
		return err
	}
	if _, nonce := decodeIdentity(s.data); !exists || nonce != "" && nonce != r.GroupNonce {
		l.reportError("delete the VolumeSnapshot; if the cluster has none, move "+l.path+" away on the server once nobody needs it",
			"%s was made for the group %s, which does not exist any more", l.name, r.Group)
	}
	return nil
}

func (l *entryCheck) checkGroup() error {
	for _, m := range l.group.Members {
		key := volume.KeyFor(m.Snapshot)
		s, exists, err := l.readReferenced(l.Snapshots.table, key)
		if err != nil {
			return err
		}
		const remedy = "restore the snapshot from a backup, or delete the VolumeGroupSnapshot: it is not complete"
		if !exists || s.state == Empty {
			l.reportError(remedy, "%s has the snapshot %s, which does not exist", l.name, key)
			continue
		}
		r, err := volume.DecodeSnapshotRecord(key, s.data)
		if err != nil {
			continue // reported with the snapshot
		}
		if r.GroupNonce != l.group.Nonce {
			l.reportError(remedy, "%s has the snapshot %s, which was not made for it", l.name, key)
		} else if s.state != Ready {
			l.reportError(remedy, "%s has the snapshot %s, which is not complete, or is being deleted", l.name, key)
		}
	}
	return nil
}

// checkHolds checks who keeps a volume or snapshot from being deleted.
func (l *entryCheck) checkHolds() error {
	if !l.names[deletionName] {
		return nil
	}
	d, err := l.e.dir.Resolve(deletionName)
	if err != nil {
		return err
	}
	defer d.Close()
	where := l.path
	return beneath.Names(d, func(name string) error {
		st, err := d.Stat(name)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		l.path = where + "/" + deletionName + "/" + name
		defer func() { l.path = where }()
		return l.checkHold(name, toTime(st.Mtim))
	})
}

func (l *entryCheck) checkHold(name string, shown time.Time) error {
	if strings.HasPrefix(name, ".nfs") {
		return nil
	}
	if name == sealName {
		if l.isOld(shown) {
			l.lastChange = shown
			l.reportStalled(Deleting)
		}
		return nil
	}
	if name == changeName {
		if l.isOld(shown) {
			l.reportWarning("nothing has to be done: the next change, or the deletion, removes it", "a change of %s was begun at %s and not finished", l.name, formatTime(shown))
		}
		return nil
	}
	if id, ok := strings.CutPrefix(name, userHold); ok {
		key, nonce, ok := cutNonce(id)
		if !ok {
			l.reportWarning("remove it: "+l.name+" cannot be deleted as long as it is there", "no volume can have this hold")
			return nil
		}
		_, alive, err := l.stateOf(volume.Object{Kind: volume.ObjectVolume, Key: key}, nonce)
		if err != nil || alive {
			return err
		}
		l.reportNote("nothing has to be done: the deletion of "+l.name+" removes it", "volume %s, which was this snapshot itself, does not exist any more", key)
		return nil
	}
	id, nonce, ok := cutNonce(strings.TrimPrefix(name, copyHold))
	target, known := volume.ParseObject(id)
	if !ok || !known || !strings.HasPrefix(name, copyHold) {
		l.reportUnexpected()
		return nil
	}
	if !l.isOld(shown) {
		return nil
	}
	state, alive, err := l.stateOf(target, nonce)
	if err != nil || alive && state == Making { // reported with the target
		return err
	}
	l.reportWarning("nothing has to be done: the deletion of "+l.name+" removes it", "%s was held until %s for a copy as %s, which is not being made", l.name, formatTime(shown), target)
	return nil
}
