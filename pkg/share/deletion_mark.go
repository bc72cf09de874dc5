// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// deletionMark marks an entry as being deleted, by the name of its record. From there on there is no way back,
// and any process may finish the deletion.
//
// Where nothing has the name "deletion" the record is renamed to it. A directory of holds keeps it from
// that. It is not removed first: over NFSv4 a second process that removes it, late, would remove the record
// which has the name by then (see beneath.RmdirCurrent). It is replaced by a directory with a seal in it,
// which rename(2) does if it is empty, and then the record is renamed into that. Who takes a hold looks for
// the seal afterwards.
type deletionMark struct{ e *entry }

func (e *entry) deletionMark() deletionMark { return deletionMark{e} }

// heldError is why an entry cannot be marked: somebody needs it.
type heldError struct{ holders []string }

func (e heldError) Error() string { return fmt.Sprintf("held by %v", e.holders) }

// mark begins a deletion. ENOENT: there is no such record; another was first. An errHeld says who needs
// what is to be deleted.
func (m deletionMark) mark() error {
	e := m.e
	for range retries {
		e.step("mark as being deleted")
		err := e.dir.Rename(recordFile, e.dir, deletionName)
		if isMissing(err) {
			_ = e.dir.Refresh() // this client may remember the record under its old name
			return unix.ENOENT
		}
		if !isNameTaken(err) {
			return err
		}
		// The holds are a directory of that name, unless that is this client's memory.
		if err := e.holds().revalidate(); err != nil {
			return e.asNotExist(err)
		}
		sealed, err := m.seal()
		if err == nil && sealed {
			sealed, err = m.markUnderSeal()
		}
		if err != nil || sealed {
			return err
		}
	}
	return busy("%s %s is held again and again", e.kind, e.key)
}

// seal keeps holds from being taken, if nobody holds the entry. sealed is false where there is no
// directory of holds any more, or there is something in it again.
func (m deletionMark) seal() (sealed bool, err error) {
	e := m.e
	holders, sealed, err := e.holds().list()
	if err != nil || sealed {
		return sealed, err
	}
	if len(holders) > 0 {
		return false, heldError{holders}
	}
	aside := e.stagingName()
	e.step("prepare the seal")
	if err := e.staging.Mkdir(aside, 0o700); err != nil {
		return false, err
	}
	err = m.sealWith(aside)
	if err != nil {
		_ = e.removeSharedTemp(aside)
	}
	if isNameTaken(err) || isMissing(err) { // or the entry is gone, or the aside was swept: look again
		return false, nil
	}
	return err == nil, err
}

func (m deletionMark) sealWith(aside string) error {
	e := m.e
	d, err := e.staging.Resolve(aside)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := touch(d, sealName, 0); err != nil {
		return err
	}
	e.step("seal the holds")
	return e.staging.Rename(aside, e.dir, deletionName)
}

// markUnderSeal renames the record into the sealed directory. ENOENT: there is no such record; another was
// first. sealed is false where the directory is another one, without a seal.
func (m deletionMark) markUnderSeal() (sealed bool, err error) {
	e := m.e
	d, err := e.dir.Resolve(deletionName)
	if err == nil {
		defer d.Close()
		_, err = d.Stat(sealName)
	}
	if err != nil {
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

// revalidate has the client ask the server what has the name of the holds.
func (h holds) revalidate() error {
	return ignore(refreshPath(h.entry.dir, deletionName), unix.ENOENT, unix.ENOTDIR)
}

// withRecord calls f with the directory in which the record of an entry has a name, and what it is called there:
// the record of what was marked under the seal is among the holds.
func (m deletionMark) withRecord(record string, f func(in beneath.Dir, name string) error) error {
	e := m.e
	if record != deletionName || !e.sealed {
		return f(e.dir, record)
	}
	return m.withHolds(func(in beneath.Dir) error { return f(in, recordFile) }, unix.ENOENT, unix.ESTALE)
}

// withHolds calls f with the directory of holds. Where f ends with one of the errors in memory this client may
// remember holds that were replaced: f is called once more, with those that the server has.
func (m deletionMark) withHolds(f func(in beneath.Dir) error, memory ...unix.Errno) error {
	call := func(d beneath.Dir, err error) error {
		if err != nil {
			return err
		}
		defer d.Close()
		return f(d)
	}
	err := call(m.e.dir.Resolve(deletionName))
	if is(err, memory...) {
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

// removeRecord removes the record of an entry that was marked.
func (m deletionMark) removeRecord() error {
	err := m.withRecord(deletionName, func(in beneath.Dir, name string) error { return in.Unlink(name) })
	return ignore(err, unix.ENOENT, unix.ESTALE)
}
