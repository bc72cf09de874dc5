// SPDX-License-Identifier: Apache-2.0

package share

import (
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// entryRemoval is the removal of an entry. rescue is told of each directory in it; nil: stray. other is
// asked about each name that is not known, before anything is changed.
type entryRemoval struct {
	e                    *entry
	rescue, checkUnknown func(name string) error
}

// removeEntry removes an entry whose record is in the trash, or is not needed any more: what a late
// process may have left in it, and then the entry itself. It returns nil when the entry is
// dead, which the server has said. rescue is told of each directory in it; nil: stray.
func (e *entry) removeEntry(rescue func(name string) error) error {
	return entryRemoval{e, rescue, func(string) error { return nil }}.run()
}

// removeRecordlessEntry removes an entry that was found without a record. Of a name that this program does not
// know it cannot say that it is none: a later Mooring may have a state more. So that stays.
func (e *entry) removeRecordlessEntry(rescue func(name string) error) error {
	return entryRemoval{e, rescue, func(name string) error {
		return volume.Errorf(volume.ErrPrecondition, "the entry of %s %s has %q, which this Mooring does not know: upgrade Mooring, or let mooringctl check tell what it is", e.kind, e.key, name)
	}}.run()
}

// isKnownEntryName reports whether a name in an entry is one that this program, or an NFS client, gives.
func isKnownEntryName(name string) bool {
	_, record := recordFiles[name]
	return record || slices.Contains(entryDirs, name) || strings.HasPrefix(name, ".nfs")
}

func (n entryRemoval) run() error {
	if n.rescue == nil {
		n.rescue = n.e.leftovers().moveToTrashAsStray
	}
	for range retries {
		n.e.step("remove the entry")
		err := n.e.table.dir.Rmdir(n.e.key)
		if err == nil || n.e.isGone() {
			return nil
		}
		if is(err, unix.ENOENT) { // that was this client's memory
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

// clear takes out of an entry what late processes have left in it. An entry that has a record is
// another's business, and is left alone.
func (n entryRemoval) clear() error {
	var dirs, files, strange []string
	if err := n.e.undelegate(n.e.dir); err != nil { // another may be at work on this machine, too
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
		return ignore(err, unix.ENOENT, unix.ESTALE) // another has just removed it
	}
	for _, name := range files {
		switch name {
		case makingFile, placingFile, recordFile, deletionName, abortFile, unplaceFile:
			return busy("%s %s is being created or deleted by another", n.e.kind, n.e.key)
		}
	}
	for _, name := range strange {
		if err := n.checkUnknown(name); err != nil {
			return err
		}
	}
	for _, name := range dirs {
		if err := n.e.leftovers().clearDir(name, n.rescue); err != nil {
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

// leftovers are the directories in an entry that end.
type leftovers struct{ e *entry }

func (e *entry) leftovers() leftovers { return leftovers{e} }

// clearDir gets rid of one of them; rescue is told of a tree.
func (l leftovers) clearDir(name string, rescue func(name string) error) error {
	switch name {
	case claimName:
		l.removeUnplacedClaim()
		return nil
	case emptyName:
		return ignore(l.e.dir.Rmdir(name), unix.ENOENT, unix.ESTALE)
	case deletionName: // the holds of those who came too late
		return l.removeHolds()
	case copyName: // of what was in the stage
		return l.discard(name)
	}
	there, err := l.e.has(name)
	if err != nil || !there {
		return ignore(err, unix.ESTALE)
	}
	if !isKnownEntryName(name) {
		return l.moveToTrashAsStray(name)
	}
	return rescue(name) // an empty tree too: it may be a volume's
}

// removeHolds gets rid of the directory of holds, which ends. A record in it is another's business.
func (l leftovers) removeHolds() error {
	d, err := beneath.ResolveCurrent(l.e.dir, deletionName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE)
	}
	defer d.Close()
	_, err = d.Stat(recordFile)
	if err == nil || is(err, unix.ESTALE) {
		return busy("%s %s is being deleted by another", l.e.kind, l.e.key)
	}
	if !is(err, unix.ENOENT) {
		return err
	}
	if err := ignore(d.Unlink(sealName), unix.ENOENT); err != nil {
		return err
	}
	return l.discard(deletionName)
}

// moveToTrashAsStray moves a directory, of which nobody can say whose it is, to the trash, where it stays until
// somebody decides: it has no record, by which it would be due.
func (l leftovers) moveToTrashAsStray(name string) error {
	return l.toTrash(name, volume.TrashID(volume.TrashVolume, l.e.key, volume.NewNonce()))
}

// removeTree gets rid of a directory that was taken from its place, and was never used: it is
// empty, unless somebody has put something into it, or something else in its place.
func (l leftovers) removeTree(name string) error {
	err := beneath.RmdirCurrent(l.e.dir, name)
	if !is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		return ignore(err, unix.ENOENT)
	}
	return l.moveToTrashAsStray(name)
}

// discard moves a directory of the entry to the trash, from where it is purged at once.
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

// removeUnplacedClaim removes a claim that did not come into its place.
//
// It is renamed first: the claim's maker may just be about to put it in its place, and then it is not to
// be touched.
func (l leftovers) removeUnplacedClaim() {
	aside := l.e.stagingName()
	l.e.step("remove a claim that was refused")
	if l.e.dir.Rename(claimName, l.e.staging, aside) == nil {
		_ = removeTemp(l.e.disk, aside)
	}
}
