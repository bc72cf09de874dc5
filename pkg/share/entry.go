// SPDX-License-Identifier: Apache-2.0

package share

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// The names in an entry. The name of the record is its state.
const (
	makingFile   = "making.json"  // it is being created
	placingFile  = "placing.json" // the same, and the tree in "stage" is moved to its place
	recordFile   = "record.json"  // it exists
	deletionName = "deletion"     // a file: it is being deleted; a directory: holds
	sealName     = "sealed"       // among the holds: no more holds can be added, and it is being deleted
	abortFile    = "abort.json"   // its creation is being undone; no tree was moved to its place
	unplaceFile  = "unplace.json" // the same, but a tree may have been
	treeName     = "tree"         // its directory, on the way out
	stageName    = "stage"        // contains its directory, "tree", on the way in: a copy, or from the trash
	unstagedName = "unstaged"     // what was staged and must not be moved to its place any more
	claimName    = "claim"        // its claim, on the way in
	changeName   = "change"       // among the holds: the lock of an update
	dataName     = "data"         // the tree of a snapshot
)

// ofGroup is the kind of the entries in the table of groups.
const ofGroup volume.ObjectKind = "group"

// State is the state of a volume, snapshot or group.
type State int

// The states of an entry.
const (
	Empty    State = iota // no record: only the entry has to be removed
	Making                // being created
	Ready                 // exists
	Deleting              // being deleted: there is no way back
	Aborting              // its creation is being undone: there is no way back
)

// table is a directory that contains one entry for each volume, snapshot or group.
type table struct {
	*disk
	kind    volume.ObjectKind
	dir     beneath.Dir
	volumes *table // the table of those that can hold an entry of this one
}

func newTable(d *disk, kind volume.ObjectKind, volumes *table) *table {
	return &table{disk: d, kind: kind, dir: beneath.None, volumes: volumes}
}

// entry is the open directory of one volume, snapshot or group. It is prepared under a name that nobody
// else uses, and renamed into its place with the record in it. It is used for one incarnation of its key:
// after it was removed, every step through its handle fails on the server. So a process that stopped for
// an hour cannot touch what came after it.
type entry struct {
	*table
	dir    beneath.Dir
	key    string
	sealed bool // it is being deleted, and its record is among the holds: see deletionMark
}

// create makes the entry of a key with its record, create-once. prepare, if set, adds more to the entry
// before it is renamed into its place. EEXIST: the key has an entry.
func (t *table) create(key string, record []byte, prepare func(e *entry) error) (*entry, error) {
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
	if err := e.fillAndPlace(aside, record, prepare); err != nil {
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
	return e, nil
}

// fillAndPlace writes the content of a new entry, and then renames it into its place.
func (e *entry) fillAndPlace(aside string, record []byte, prepare func(e *entry) error) error {
	e.step("write the record")
	if err := writeFile(e.dir, makingFile, record); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(e); err != nil {
			return err
		}
	}
	e.step("rename the entry into place")
	return e.staging.Rename(aside, e.table.dir, e.key)
}

// decodeIdentity reads only the key and the nonce of a record. It returns "" for a damaged record.
func decodeIdentity(data []byte) (key, nonce string) {
	var r struct{ Key, Nonce string }
	if json.Unmarshal(data, &r) != nil || !volume.ValidNonce(r.Nonce) {
		return "", ""
	}
	return r.Key, r.Nonce
}

func (e *entry) close() { e.dir.Close() }

// exists asks the server whether the entry still exists. It returns false if the server does not answer. As
// long as the entry exists, its volume keeps its claim.
func (e *entry) exists() bool { return e.dir.Refresh() == nil }

// isGone asks the server whether the entry does not exist any more. It returns false if the server does not
// answer.
func (e *entry) isGone() bool { return isMissing(e.dir.Refresh()) }

// rawRecord is a record as it was read, not decoded.
type rawRecord struct {
	data  []byte
	state State
	name  string        // of its file
	mtime unix.Timespec // when it was written, or last renewed
	ctime unix.Timespec
	ino   inode
}

// read reads the record. The record's name says which state the entry has. ESTALE: the entry does not exist
// any more.
func (e *entry) read() (rawRecord, error) {
	// A record moves from name to name. Read in this order, an existing record is always found.
	for _, file := range []struct {
		name  string
		state State
	}{
		{recordFile, Ready}, {makingFile, Making}, {placingFile, Making}, {recordFile, Ready},
		{deletionName, Deleting}, {abortFile, Aborting}, {unplaceFile, Aborting},
	} {
		data, st, err := e.dir.Read(file.name, maxRecord)
		isDir := is(err, unix.EISDIR)
		if isDir { // the directory of holds
			data, st, err = e.deletionMark().readSealed()
			file.state = Deleting
		}
		switch {
		case isDir && (isMissing(err) || is(err, unix.ENOTDIR)):
		case !isDir && is(err, unix.ESTALE) && e.isGone():
			return rawRecord{}, unix.ESTALE
		case !isDir && isMissing(err):
		case err != nil:
			return rawRecord{}, err
		default:
			return rawRecord{data, file.state, file.name, st.Mtim, st.Ctim, inodeOf(st)}, nil
		}
	}
	if err := e.dir.Refresh(); err != nil {
		return rawRecord{}, err
	}
	return rawRecord{state: Empty}, nil
}

// has reports whether the entry contains a file or directory of that name.
func (e *entry) has(name string) (bool, error) {
	_, err := e.dir.Stat(name)
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	return true, nil
}

// commit makes the entry exist as a volume, snapshot or group: one rename, which fails if another process
// has begun to undo the creation.
func (e *entry) commit(from string) error {
	e.step("commit")
	return e.explainUndone(e.dir.Rename(from, e.dir, recordFile))
}

// explainUndone returns ErrBusy if a step of a creation failed because another process has undone that.
func (e *entry) explainUndone(err error) error {
	if isMissing(err) {
		return busy("the creation of %s %s was undone by another process", e.kind, e.key)
	}
	return err
}

// asNotExist returns ENOENT if err says that the entry does not exist any more.
func (e *entry) asNotExist(err error) error {
	if isMissing(err) {
		return unix.ENOENT
	}
	return err
}

// markAborted begins to undo a creation. From here on the creation cannot be committed, and no tree can be
// moved to its place that was not moved before. It returns false if the creation was committed or its entry
// is gone.
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
	_ = e.undelegate(e.dir) // this client may have cached the record's old name
	_ = e.dir.Refresh()
	s, err := e.read()
	if is(err, unix.ESTALE) {
		return false, nil
	}
	return s.state == Aborting || s.state == Empty, err
}

// rewriteRecord replaces the record of a creation in place: no other process writes it, and none reads it
// before the commit.
func (e *entry) rewriteRecord(data []byte) error {
	f, err := e.dir.Open(makingFile, unix.O_WRONLY)
	if err != nil {
		return e.explainUndone(err)
	}
	err = overwrite(f, data)
	return firstError(err, f.Close())
}

// overwrite writes data from the start of a file, which becomes no longer than that. It does not truncate
// the file first: a crash leaves the old record or the new one.
func overwrite(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Size() > int64(len(data)) {
		if err := f.Truncate(int64(len(data))); err != nil {
			return err
		}
	}
	return f.Sync() // with NFS, this call reports that the disk is full
}

// renewRecord shows that this process still works on a creation. The server sets the mtime.
func (e *entry) renewRecord() error { return e.explainUndone(utimes(e.dir, makingFile)) }

// utimes sets a file's times to the server's current time.
func utimes(d beneath.Dir, name string) error {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	err := unix.UtimesNanoAt(int(d), name, now, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("utimes %s: %w", name, err)
	}
	return nil
}

// chmod sets the mode of an open directory through its name in /proc: fchmod(2) does not accept a descriptor
// that was opened with O_PATH.
func chmod(d beneath.Dir, mode uint32) error {
	return unix.Fchmodat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", int(d)), mode, 0)
}

// age returns how long ago a record was written or renewed, by the server's clock.
func (d *disk) age(mtime unix.Timespec) (time.Duration, error) {
	now, err := d.now()
	return now.Sub(time.Unix(mtime.Unix())), err
}

// isAbandoned reports whether nobody works any more on what a process has begun: the process was an earlier
// run of this instance, or has not renewed its record within the lease.
func (d *disk) isAbandoned(maker, run string, mtime unix.Timespec) (bool, error) {
	if d.isEarlierRun(maker, run) {
		return true, nil
	}
	age, err := d.age(mtime)
	return age > d.opt.Lease, err
}
