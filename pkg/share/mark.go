// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// errHeld is why an entry cannot be marked: somebody needs it.
type errHeld struct{ holders []string }

func (e errHeld) Error() string { return fmt.Sprintf("held by %v", e.holders) }

// marking marks an entry as being deleted, by the name of its record.
//
// Over NFSv4 a process that removes the directory of holds may remove the record, to which another has
// given its name by then: there is one operation to remove either (see beneath.RmdirCurrent), and the
// network may hold it back. So the record gets a second name before: leavingFile. Once its first name
// has moved on it goes the same way, when the entry is removed: see ending.settle.
type marking struct{ e *entry }

func (e *entry) marking() marking { return marking{e} }

// mark begins a deletion: from here on there is no way back, and any process may finish it.
// ENOENT: there is no such record; another was first. An errHeld says who needs what is to be
// deleted.
func (m marking) mark() error {
	e := m.e
	for range retries {
		e.step("mark as being deleted")
		err := e.dir.Rename(recordFile, e.dir, deletionName)
		if missing(err) {
			_ = e.dir.Refresh() // this client may remember the record under its old name
			return unix.ENOENT
		}
		if !taken(err) {
			return err
		}
		// The holds are a directory of that name, unless that is this client's memory. Where there
		// are none any more it goes.
		if err := e.dir.Refresh(); err != nil {
			return e.over(err)
		}
		if err := e.holds().drop(); err != nil {
			return err
		}
	}
	return busy("%s %s is held again and again", e.kind, e.key)
}

// secure gives the record a second name, before the directory of holds is removed. ENOENT: there is no
// record; another was first.
func (m marking) secure() error {
	e := m.e
	e.step("give the record a second name")
	err := e.dir.Link(recordFile, e.dir, leavingFile)
	if err == nil || !noLinks(err) && !is(err, unix.EEXIST) {
		return e.over(err)
	}
	// A deletion that was refused has left one, perhaps of a record that was changed since.
	data, _, err := e.dir.Read(recordFile, maxRecord)
	if err != nil {
		return e.over(err)
	}
	return m.replace(leavingFile, data)
}

// replace writes a file of an entry as a whole, in the place of one that it may have.
func (m marking) replace(name string, data []byte) error {
	e := m.e
	aside := e.aside()
	if err := writeOwn(e.staging, aside, data); err != nil {
		return err
	}
	err := e.staging.Rename(aside, e.dir, name)
	if err != nil {
		_ = e.staging.Unlink(aside)
	}
	return err
}

// remark marks an entry again of whose record nothing but its second name was left: see secure.
func (m marking) remark(s *stored) error {
	e := m.e
	for range retries {
		if s.name != leavingFile {
			return nil
		}
		e.step("mark as being deleted again")
		err := m.replace(deletionName, s.data)
		if err == nil {
			s.name = deletionName
			return nil
		}
		if !taken(err) {
			return e.over(err)
		}
		if err := e.leftovers().discard(deletionName); err != nil { // the holds of those who came too late
			return err
		}
	}
	return busy("%s %s is held again and again", e.kind, e.key)
}

// renameRecord gives the record of an entry its name in the trash. In its place may be a directory of
// holds, if that is what its first name has led to: see marking.
func renameRecord(e *entry, from string, trash beneath.Dir) error {
	for range retries {
		err := e.dir.Rename(from, trash, e.moved)
		if !taken(err) {
			return err
		}
		holds, err := beneath.Current(trash, e.moved)
		if is(err, unix.ENOTDIR) {
			return nil // it is there: what has the name in the entry is a directory of holds
		}
		if err == nil {
			holds.Close()
			e.step("remove the record from the trash")
			err = removeRecord(trash, e.moved)
		}
		if err := ignore(err, unix.ENOENT); err != nil {
			return err
		}
	}
	return busy("the record of %s %s is not in the trash yet", e.kind, e.key)
}
