// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// deletionMark marks an entry as being deleted, by the name of its record. The mark cannot be
// undone, and any process may finish the deletion.
//
// If nothing has the name "deletion", the record is renamed to it. A directory of holds prevents
// that. It is not removed first: over NFSv4 a second process that removes it late would remove the
// record, which has that name by then (see beneath.RmdirCurrent). Instead a directory with a seal
// in it replaces it, which rename(2) does only if it is empty, and then the record is renamed into
// that directory. A process that takes a hold checks for the seal afterwards.
type deletionMark struct{ e *entry }

func (e *entry) deletionMark() deletionMark { return deletionMark{e} }

// heldError is the reason why an entry cannot be marked: others hold it.
type heldError struct{ holders []string }

func (e heldError) Error() string { return fmt.Sprintf("held by %v", e.holders) }

// mark begins a deletion. ENOENT: there is no such record, as another process was first. A
// heldError names the holders.
func (m deletionMark) mark() error {
	e := m.e
	for range retries {
		e.step("mark as being deleted")
		err := e.dir.Rename(recordFile, e.dir, deletionName)
		if isMissing(err) {
			_ = e.dir.Refresh() // this client may have the record cached under its old name
			return unix.ENOENT
		}
		if !isNameTaken(err) {
			return err
		}
		// The directory of holds has that name, unless the client's cache is outdated.
		if err := e.holds().refresh(); err != nil {
			return e.asNotExist(err)
		}
		sealed, err := m.seal()
		if err != nil {
			return err
		}
		if !sealed {
			continue
		}
		if sealed, err = m.markUnderSeal(); err != nil || sealed {
			return err
		}
	}
	return busy("%s %s is held again and again", e.kind, e.key)
}

// seal prevents new holds if there are none. sealed is false if the directory of holds was removed
// or is not empty any more.
func (m deletionMark) seal() (sealed bool, err error) {
	e := m.e
	holders, sealed, err := e.holds().list()
	if err != nil || sealed {
		return sealed, err
	}
	if len(holders) > 0 {
		return false, heldError{holders}
	}
	temp := e.stagingName()
	e.step("prepare the seal")
	if err := e.staging.Mkdir(temp, 0o700); err != nil {
		return false, err
	}
	if err = m.sealWith(temp); err == nil {
		return true, nil
	}
	_ = e.removeSharedTemp(temp)
	if isNameTaken(err) || isMissing(err) { // or the entry or the temporary directory was removed: again
		return false, nil
	}
	return false, err
}

func (m deletionMark) sealWith(temp string) error {
	e := m.e
	d, err := e.staging.Resolve(temp)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := touch(d, sealName, 0); err != nil {
		return err
	}
	e.step("seal the holds")
	return e.staging.Rename(temp, e.dir, deletionName)
}

// markUnderSeal renames the record into the sealed directory. ENOENT: there is no such record, as
// another process was first. sealed is false if the directory has no seal.
func (m deletionMark) markUnderSeal() (sealed bool, err error) {
	e := m.e
	d, err := e.dir.Resolve(deletionName)
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	defer d.Close()
	if _, err := d.Stat(sealName); err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	e.sealed = true
	e.step("mark as being deleted, under the seal")
	err = e.dir.Rename(recordFile, d, recordFile)
	if isMissing(err) {
		_ = e.dir.Refresh()
	}
	return true, e.asNotExist(err)
}

// refresh makes the client ask the server what has the name of the holds.
func (h holds) refresh() error {
	return ignore(refreshPath(h.entry.dir, deletionName), unix.ENOENT, unix.ENOTDIR)
}

// withRecord calls f with the directory that has the record of an entry, and the record's name
// there. The record of an entry that was marked under the seal is in the directory of holds.
func (m deletionMark) withRecord(record string, f func(in beneath.Dir, name string) error) error {
	e := m.e
	if record != deletionName || !e.sealed {
		return f(e.dir, record)
	}
	return m.withHolds(func(in beneath.Dir) error { return f(in, recordFile) }, unix.ENOENT, unix.ESTALE)
}

// withHolds calls f with the directory of holds. If f returns an error in stale, this client may
// have a directory cached that was replaced: withHolds calls f once more, with the server's.
func (m deletionMark) withHolds(f func(in beneath.Dir) error, stale ...unix.Errno) error {
	call := func(d beneath.Dir, err error) error {
		if err != nil {
			return err
		}
		defer d.Close()
		return f(d)
	}
	err := call(m.e.dir.Resolve(deletionName))
	if is(err, stale...) {
		err = call(beneath.ResolveCurrent(m.e.dir, deletionName))
	}
	return err
}

// readSealed reads the record of an entry that was marked under the seal. ENOENT: there is none.
func (m deletionMark) readSealed() (data []byte, st unix.Stat_t, err error) {
	err = m.withHolds(func(in beneath.Dir) (err error) {
		data, st, err = in.Read(recordFile, maxRecord)
		return err
	}, unix.ESTALE)
	m.e.sealed = err == nil
	return data, st, err
}

// removeRecord removes the record of a marked entry.
func (m deletionMark) removeRecord() error {
	err := m.withRecord(deletionName, func(in beneath.Dir, name string) error { return in.Unlink(name) })
	return ignore(err, unix.ENOENT, unix.ESTALE)
}
