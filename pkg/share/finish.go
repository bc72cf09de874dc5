// SPDX-License-Identifier: Apache-2.0

package share

import (
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// finish removes an entry whose record is in the trash, or is not needed any more: what a late
// process may have left in it, and then the entry itself. It returns nil when the entry is
// dead, which the server has said. rescue is told of each directory in it; nil: stray.
func (e *entry) finish(rescue func(name string) error) error {
	return e.remove(rescue, func(string) error { return nil })
}

// vacate removes an entry that was found without a record. Of a name that this program does not
// know it cannot say that it is none: a later Mooring may have a state more. So that stays.
func (e *entry) vacate(rescue func(name string) error) error {
	return e.remove(rescue, func(name string) error {
		return volume.Errorf(volume.ErrConflict, "the entry of %s %s has %q, which this Mooring does not know: upgrade Mooring, or let mooringctl check tell what it is", e.kind, e.key, name)
	})
}

// entryName reports whether a name in an entry is one that this program, or an NFS client, gives.
func entryName(name string) bool {
	_, record := recordFiles[name]
	return record || slices.Contains(entryDirs, name) || strings.HasPrefix(name, ".nfs")
}

// remove is finish. other is asked about each name that is not known, before anything is changed.
func (e *entry) remove(rescue, other func(name string) error) error {
	if rescue == nil {
		rescue = e.stray
	}
	for range retries {
		e.step("remove the entry")
		err := e.table.dir.Rmdir(e.key)
		if err == nil || e.gone() {
			return nil
		}
		if is(err, unix.ENOENT) { // that was this client's memory
			err = e.table.dir.Refresh()
		} else if is(err, unix.ENOTEMPTY, unix.EEXIST) {
			err = e.clear(rescue, other)
		}
		if err != nil {
			return err
		}
	}
	return busy("%s %s: its entry is not empty", e.kind, e.key)
}

// clear takes out of an entry what late processes have left in it. An entry that has a record is
// another's business, and is left alone.
func (e *entry) clear(rescue, other func(name string) error) error {
	var dirs, files, strange []string
	err := beneath.Entries(e.dir, func(name string, isDir bool) error {
		if isDir {
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
		if !entryName(name) {
			strange = append(strange, name)
		}
		return nil
	})
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // another has just removed it
	}
	for _, name := range files {
		switch name {
		case makingFile, placingFile, recordFile, deletionName, abortFile, unplaceFile:
			return busy("%s %s is being created or deleted by another", e.kind, e.key)
		}
	}
	for _, name := range strange {
		if err := other(name); err != nil {
			return err
		}
	}
	for _, name := range dirs {
		if err := e.clearDir(name, rescue); err != nil {
			return err
		}
	}
	for _, name := range files {
		e.step("clear the entry")
		if err := ignore(e.dir.Unlink(name), unix.ENOENT, unix.ESTALE); err != nil {
			return err
		}
	}
	return nil
}

func (e *entry) clearDir(name string, rescue func(name string) error) error {
	switch name {
	case claimName:
		e.dropClaim()
		return nil
	case emptyName:
		return ignore(e.dir.Rmdir(name), unix.ENOENT, unix.ESTALE)
	case deletionName, copyName: // the holds of those who came too late; a copy of what was in the stage
		return e.discard(name)
	}
	there, err := e.has(name)
	if err != nil || !there {
		return ignore(err, unix.ESTALE)
	}
	if !entryName(name) {
		return e.stray(name)
	}
	return rescue(name) // an empty tree too: it may be a volume's
}

// stray moves a directory, of which nobody can say whose it is, to the trash, where it stays until
// somebody decides: it has no record, by which it would be due.
func (e *entry) stray(name string) error {
	return e.toTrash(name, volume.TrashID(volume.TrashVolume, e.key, volume.NewNonce()))
}

// discard moves a directory of the entry to the trash, from where it is purged at once.
func (e *entry) discard(name string) error {
	e.step("discard " + name)
	err := e.dir.Rmdir(name) // most are empty
	if !is(err, unix.ENOTEMPTY, unix.EEXIST) {
		return ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR)
	}
	return e.toTrash(name, volume.TrashID(volume.TrashLeftover, e.key, volume.NewNonce()))
}

func (e *entry) toTrash(name, id string) error {
	trash, err := e.state.Resolve("trash")
	if err != nil {
		return err
	}
	defer trash.Close()
	e.step("move a leftover into the trash")
	return ignore(e.dir.Rename(name, trash, id), unix.ENOENT, unix.ESTALE)
}

// dropClaim removes a claim that did not come into its place.
func (e *entry) dropClaim() {
	x, err := e.dir.Resolve(claimName)
	if err != nil {
		return
	}
	defer x.Close()
	var names []string
	_ = beneath.Names(x, func(name string) error {
		names = append(names, name)
		return nil
	})
	for _, name := range names {
		e.step("remove a claim that was refused")
		_ = x.Unlink(name)
	}
	_ = e.dir.Rmdir(claimName)
}
