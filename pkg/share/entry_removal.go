// SPDX-License-Identifier: Apache-2.0

package share

import (
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// entryRemoval is the removal of an entry. handleTree is called for each directory in it; nil: each becomes a
// stray. checkUnknown is called for each unknown name before anything changes.
type entryRemoval struct {
	e                        *entry
	handleTree, checkUnknown func(name string) error
}

// remove removes an entry whose record is in the trash, or is not needed any more: first what a late
// process may have left in it, then the entry itself. It returns nil when the server has reported that the
// entry is dead. handleTree is called for each directory in it; nil: each becomes a stray.
func (e *entry) remove(handleTree func(name string) error) error {
	return entryRemoval{e, handleTree, func(string) error { return nil }}.run()
}

// removeRecordlessEntry removes an entry that was found without a record. It keeps an entry that contains
// an unknown name: that may be the record, in a state that a later Mooring has added.
func (e *entry) removeRecordlessEntry(handleTree func(name string) error) error {
	return entryRemoval{e, handleTree, func(name string) error {
		return volume.Errorf(volume.ErrPrecondition, "the entry of %s %s has %q, which this Mooring does not know: upgrade Mooring, or run mooringctl check to see what it is", e.kind, e.key, name)
	}}.run()
}

// isKnownEntryName reports whether this program, or an NFS client, uses that name in an entry.
func isKnownEntryName(name string) bool {
	_, record := recordFiles[name]
	return record || slices.Contains(entryDirs, name) || strings.HasPrefix(name, ".nfs")
}

func (n entryRemoval) run() error {
	if n.handleTree == nil {
		n.handleTree = n.e.leftovers().moveToTrashAsStray
	}
	for range retries {
		n.e.step("remove the entry")
		err := n.e.table.dir.Rmdir(n.e.key)
		if err == nil || n.e.isGone() {
			return nil
		}
		if is(err, unix.ENOENT) { // this client had cached the entry
			err = n.e.table.dir.Refresh()
		} else if is(err, unix.ENOTEMPTY, unix.EEXIST) {
			err = n.clear()
		}
		if err != nil {
			return err
		}
	}
	return busy("%s %s: its entry is not empty", n.e.kind, n.e.key)
}

// clear removes from an entry what late processes have left in it. An entry that has a record belongs to
// another process and is left alone.
func (n entryRemoval) clear() error {
	var dirs, files, strange []string
	if err := n.e.undelegate(n.e.dir); err != nil { // another controller may work on this machine, too
		return ignore(err, unix.ENOENT, unix.ESTALE)
	}
	err := beneath.Entries(n.e.dir, func(name string, isDir bool) error {
		if isDir || name == treeName || name == unstagedName || name == dataName { // or what somebody had put in its place
			dirs = append(dirs, name)
		} else {
			files = append(files, name)
		}
		if !isKnownEntryName(name) {
			strange = append(strange, name)
		}
		return nil
	})
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // another process has just removed it
	}
	for _, name := range files {
		switch name {
		case makingFile, placingFile, recordFile, deletionName, abortFile, unplaceFile:
			return busy("%s %s is being created or deleted by another process", n.e.kind, n.e.key)
		}
	}
	for _, name := range strange {
		if err := n.checkUnknown(name); err != nil {
			return err
		}
	}
	for _, name := range dirs {
		if err := n.e.leftovers().clearDir(name, n.handleTree); err != nil {
			return err
		}
	}
	for _, name := range files {
		n.e.step("clear the entry")
		if err := ignore(n.e.dir.Unlink(name), unix.ENOENT, unix.ESTALE); err != nil {
			return err
		}
	}
	return nil
}

// leftovers are the directories in an entry that will be removed.
type leftovers struct{ e *entry }

func (e *entry) leftovers() leftovers { return leftovers{e} }

// clearDir removes one of them. It calls handleTree for a tree.
func (l leftovers) clearDir(name string, handleTree func(name string) error) error {
	switch name {
	case claimName:
		l.removeUnplacedClaim()
		return nil
	case emptyName:
		return ignore(l.e.dir.Rmdir(name), unix.ENOENT, unix.ESTALE)
	case deletionName: // the holds that were taken too late
		return l.removeHolds()
	case copyName: // of what was in the stage
		return l.discard(name)
	}
	exists, err := l.e.has(name)
	if err != nil || !exists {
		return ignore(err, unix.ESTALE)
	}
	if !isKnownEntryName(name) {
		return l.moveToTrashAsStray(name)
	}
	return handleTree(name) // also for an empty tree: it may be a volume's
}

// removeHolds removes the directory of holds. A record in it belongs to another process.
func (l leftovers) removeHolds() error {
	d, err := beneath.ResolveCurrent(l.e.dir, deletionName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	defer d.Close()
	if _, err := d.Stat(recordFile); !is(err, unix.ENOENT) {
		return firstError(ignore(err, unix.ESTALE), busy("%s %s is being deleted by another process", l.e.kind, l.e.key))
	}
	if err := ignore(d.Unlink(sealName), unix.ENOENT); err != nil {
		return err
	}
	return l.discard(deletionName)
}

// moveToTrashAsStray moves a directory whose owner is not known to the trash. It stays there until somebody
// decides: without a record it never becomes due.
func (l leftovers) moveToTrashAsStray(name string) error {
	return l.toTrash(name, volume.TrashID(volume.TrashVolume, l.e.key, volume.NewNonce()))
}

// removeTree removes a directory that was moved from its place and never used. If somebody has put something
// into it, or something else in its place, it becomes a stray.
func (l leftovers) removeTree(name string) error {
	err := beneath.RmdirCurrent(l.e.dir, name)
	if !is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		return ignore(err, unix.ENOENT)
	}
	return l.moveToTrashAsStray(name)
}

// discard moves a directory of the entry to the trash, where it is purged at once.
func (l leftovers) discard(name string) error {
	l.e.step("discard " + name)
	err := beneath.RmdirCurrent(l.e.dir, name) // most are empty
	if is(err, unix.ENOTDIR) && name == deletionName {
		return nil // no holds
	}
	if !is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		return ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return l.toTrash(name, volume.TrashID(volume.TrashLeftover, l.e.key, volume.NewNonce()))
}

func (l leftovers) toTrash(name, id string) error {
	trash, err := l.e.state.Resolve("trash")
	if err != nil {
		return err
	}
	defer trash.Close()
	l.e.step("move a leftover into the trash")
	return ignore(l.e.dir.Rename(name, trash, id), unix.ENOENT, unix.ESTALE)
}

// removeUnplacedClaim removes a claim that was not renamed into its place.
//
// It renames the claim first: the process that made it may be about to rename it into its place, and after
// that nobody may touch it.
func (l leftovers) removeUnplacedClaim() {
	aside := l.e.stagingName()
	l.e.step("remove a claim that was refused")
	if l.e.dir.Rename(claimName, l.e.staging, aside) == nil {
		_ = removeTemp(l.e.disk, aside)
	}
}
