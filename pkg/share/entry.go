// SPDX-License-Identifier: Apache-2.0

package share

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// The names in an entry. The name of the record is its state.
const (
	makingFile   = "making.json"  // it is being created
	placingFile  = "placing.json" // the same, and what was made in "stage" is put in its place
	recordFile   = "record.json"  // it exists
	deletionName = "deletion"     // a file: it is being deleted; a directory: holds
	sealName     = "sealed"       // among the holds: there will be no more of them, and it is being deleted
	abortFile    = "abort.json"   // its creation is being undone; nothing was put in its place
	unplaceFile  = "unplace.json" // the same, and something may have been
	treeName     = "tree"         // its directory, on the way out
	stageName    = "stage"        // in it is its directory, "tree", on the way in: a copy, or from the trash
	unstagedName = "unstaged"     // what was staged, and is not to be put in its place any more
	claimName    = "claim"        // its claim, on the way in
	changeName   = "change"       // among the holds: the lock of an update
	dataName     = "data"         // the tree of a snapshot
)

// ofGroup is the kind of what a table of groups has.
const ofGroup volume.ObjectKind = "group"

// State is how far a volume, snapshot or group is.
type State int

// The states of an entry.
const (
	Empty    State = iota // no record: it is almost removed
	Making                // being created
	Ready                 // there
	Deleting              // being deleted: there is no way back
	Aborting              // its creation is being undone: there is no way back
)

// table is a directory that has an entry for each volume, snapshot or group.
type table struct {
	*disk
	kind    volume.ObjectKind
	dir     beneath.Dir
	volumes *table // that can hold what is in this one
}

func newTable(d *disk, kind volume.ObjectKind, volumes *table) *table {
	return &table{disk: d, kind: kind, dir: beneath.None, volumes: volumes}
}

// entry is the directory of one volume, snapshot or group, as a handle. It is prepared under a
// name that nobody else uses, and renamed into its place with the record in it. It is used for one
// incarnation of its key, and never again after it was removed: every step through its handle then
// fails, on the server. That is what keeps a process that stopped for an hour from touching
// what came after.
type entry struct {
	*table
	dir    beneath.Dir
	key    string
	sealed bool // it is being deleted, and its record is among the holds: see deletionMark
}

// createEntry makes the entry of a key with its record, create-once. prepare, if set, puts more into it
// before it comes into its place. EEXIST: there is one.
func (t *table) createEntry(key string, record []byte, prepare func(e *entry) error) (*entry, error) {
	aside := t.stagingName()
	t.step("prepare the entry")
	if err := t.staging.Mkdir(aside, 0o700); err != nil {
		return nil, err
	}
	d, err := t.staging.Resolve(aside)
	if err != nil {
		return nil, err
	}
	e := &entry{table: t, dir: d, key: key}
	err = e.writeContent(record, prepare)
	if err == nil {
		t.step("rename the entry into place")
		err = t.staging.Rename(aside, t.dir, key)
	}
	if err == nil {
		return e, nil
	}
	e.leftovers().removeUnplacedClaim()
	_ = d.Rmdir(stageName)
	_ = d.Unlink(makingFile)
	d.Close()
	_ = t.staging.Rmdir(aside)
	if isNameTaken(err) {
		return nil, unix.EEXIST
	}
	return nil, err
}

func (e *entry) writeContent(record []byte, prepare func(e *entry) error) error {
	e.step("write the record")
	if err := writeFile(e.dir, makingFile, record); err != nil || prepare == nil {
		return err
	}
	return prepare(e)
}

// decodeIdentity reads the key and the nonce of a record, and no more: "" where it is damaged.
func decodeIdentity(data []byte) (key, nonce string) {
	var r struct{ Key, Nonce string }
	if json.Unmarshal(data, &r) != nil || !volume.ValidNonce(r.Nonce) {
		return "", ""
	}
	return r.Key, r.Nonce
}

func (e *entry) close() { e.dir.Close() }

// exists asks the server whether the entry still exists, and is sure of it. As long as it does, the
// claim of its volume stands.
func (e *entry) exists() bool { return e.dir.Refresh() == nil }

// isGone asks the server whether the entry does not exist any more, and is sure of it: a server that
// does not answer has not said so.
func (e *entry) isGone() bool { return isMissing(e.dir.Refresh()) }

// rawRecord is a record as it was read.
type rawRecord struct {
	data  []byte
	state State
	name  string        // of its file
	mtime unix.Timespec // when it was written, or last shown to be worked on
	ctime unix.Timespec
	ino   inode
}

// read reads the record, and finds out by its name how far the entry is. ESTALE: the entry
// does not exist any more.
func (e *entry) read() (rawRecord, error) {
	// A record moves on from name to name: looked for in this order, one that exists is found.
	for _, at := range []struct {
		name  string
		state State
	}{
		{recordFile, Ready}, {makingFile, Making}, {placingFile, Making}, {recordFile, Ready},
		{deletionName, Deleting}, {abortFile, Aborting}, {unplaceFile, Aborting},
	} {
		data, st, err := e.dir.Read(at.name, maxRecord)
		if err == nil {
			return rawRecord{data, at.state, at.name, st.Mtim, st.Ctim, inodeOf(st)}, nil
		}
		if is(err, unix.EISDIR) { // holds
			if data, st, err = e.deletionMark().readSealed(); err == nil {
				return rawRecord{data, Deleting, at.name, st.Mtim, st.Ctim, inodeOf(st)}, nil
			}
			if isMissing(err) || is(err, unix.ENOTDIR) {
				continue
			}
			return rawRecord{}, err
		}
		if !isMissing(err) {
			return rawRecord{}, err
		}
		if is(err, unix.ESTALE) && e.isGone() {
			return rawRecord{}, unix.ESTALE
		}
	}
	if err := e.dir.Refresh(); err != nil {
		return rawRecord{}, err
	}
	return rawRecord{state: Empty}, nil
}

// has reports whether there is something of a name in the entry.
func (e *entry) has(name string) (bool, error) {
	_, err := e.dir.Stat(name)
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	return true, nil
}

// commit makes what is being created exist: one rename, which fails if another process has
// begun to undo the creation.
func (e *entry) commit(from string) error {
	e.step("commit")
	return e.explainUndone(e.dir.Rename(from, e.dir, recordFile))
}

// explainUndone explains a step of a creation that failed because another has undone it.
func (e *entry) explainUndone(err error) error {
	if isMissing(err) {
		return busy("the creation of %s %s was undone by another", e.kind, e.key)
	}
	return err
}

// asNotExist says ENOENT where an entry does not exist any more.
func (e *entry) asNotExist(err error) error {
	if isMissing(err) {
		return unix.ENOENT
	}
	return err
}

// markAborted begins to undo a creation: from here on it cannot be committed, nor, where it was
// not before, anything be put in its place. done is false where it was committed, or is gone.
func (e *entry) markAborted() (done bool, err error) {
	for _, name := range []struct{ from, to string }{
		{makingFile, abortFile}, {placingFile, unplaceFile},
	} {
		e.step("mark as being undone")
		err := e.dir.Rename(name.from, e.dir, name.to)
		if !isMissing(err) {
			return err == nil, err
		}
	}
	_ = e.undelegate(e.dir) // this client may remember the record under its old name
	_ = e.dir.Refresh()
	s, err := e.read()
	if is(err, unix.ESTALE) {
		return false, nil
	}
	return s.state == Aborting || s.state == Empty, err
}

// rewriteRecord replaces the record of what is being created, in place: nobody else writes it, and it is
// not believed before it is committed.
func (e *entry) rewriteRecord(data []byte) error {
	f, err := e.dir.Open(makingFile, unix.O_WRONLY)
	if err != nil {
		return e.explainUndone(err)
	}
	_, err = f.Write(data) // not truncated first: a crash leaves the old record, or the new one
	if info, e := f.Stat(); err == nil && e == nil && info.Size() > int64(len(data)) {
		err = f.Truncate(int64(len(data)))
	}
	if err == nil {
		err = f.Sync() // where NFS says that the disk is full
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// renewRecord shows that a creation is being worked on. mtimes are the server's.
func (e *entry) renewRecord() error { return e.explainUndone(utimes(e.dir, makingFile)) }

// utimes sets a file's times to the server's now.
func utimes(d beneath.Dir, name string) error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	err := unix.UtimesNanoAt(int(d), name, now, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("utimes %s: %w", name, err)
	}
	return nil
}

// chmod sets the mode of an open directory, by the descriptor's own name: fchmod(2) does not
// take one that was opened by O_PATH.
func chmod(d beneath.Dir, mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", int(d)), mode, 0)
}

// age returns how long ago a record was written or renewed, by the server's clock.
func (d *disk) age(mtime unix.Timespec) (time.Duration, error) {
	now, err := d.now()
	return now.Sub(time.Unix(mtime.Unix())), err
}

// isAbandoned reports whether nobody works any more on what a process has begun: that is an
// earlier run of this instance, or has not shown itself within the lease.
func (d *disk) isAbandoned(maker, run string, mtime unix.Timespec) (bool, error) {
	if d.isEarlierRun(maker, run) {
		return true, nil
	}
	age, err := d.age(mtime)
	return age > d.opt.Lease, err
}
