// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// take claims a directory for the volume of an entry, create-once: the claim is a link to the file
// record of that entry. It fails with ErrPrecondition if another volume has the directory, one
// above it or one inside it.
func (c *claims) take(e *entry, record string, me owner, directory string) error {
	parent, name := volume.SplitDirectory(directory)
	for turn := range retries {
		if turn > 0 && e.isGone() {
			return busy("the creation of volume %s was undone by another process", e.key)
		}
		if turn > 0 && parent != "" { // this client may have directories cached that were removed
			_ = refreshPath(c.dir, claimPath(parent))
		}
		at, err := c.openParent(parent)
		if err != nil {
			if isMissing(err) {
				continue // a parent was removed in the meantime
			}
			return err
		}
		t := &claimAttempt{claims: c, e: e, record: record, me: me, directory: directory, parentDir: at, name: name}
		done, err := t.renameIntoPlace()
		at.Close()
		if done || err != nil && !isMissing(err) {
			return err
		}
	}
	return busy("the claim on the directory %q changes hands again and again", directory)
}

// claimAttempt is one attempt to rename a prepared claim into its place.
type claimAttempt struct {
	*claims
	e         *entry
	record    string
	me        owner
	directory string
	parentDir beneath.Dir
	name      string
}

// prepare makes the directory of a claim, with the claim in it, inside the entry. It is later
// renamed into its place, which fails once the entry is removed.
func (c *claims) prepare(e *entry, record string, me owner) error {
	c.step("prepare the claim")
	if err := ignore(e.dir.Mkdir(claimName, 0o700), unix.EEXIST); err != nil {
		return e.explainUndone(err)
	}
	dir, err := e.dir.Resolve(claimName)
	if err != nil {
		return e.explainUndone(err)
	}
	defer dir.Close()
	c.step("claim the directory")
	err = e.deletionMark().withRecord(record, func(in beneath.Dir, name string) error {
		return c.linkOrCreate(in, name, dir, takenName, me.key+"."+me.nonce)
	})
	return ignore(err, unix.EEXIST)
}

// renameIntoPlace renames the claim into its place. done is false if the caller must try again:
// another process has just released or removed a claim there.
func (t *claimAttempt) renameIntoPlace() (done bool, err error) {
	t.step("rename the claim into place")
	err = t.e.dir.Rename(claimName, t.parentDir, t.name)
	if isNameTaken(err) {
		return t.resolveConflict()
	}
	if isMissing(err) {
		return t.recoverMissing(err)
	}
	return err == nil, err
}

// recoverMissing handles a rename that did not find the claim or its destination. The rename may
// have succeeded before, with its answer lost.
func (t *claimAttempt) recoverMissing(err error) (done bool, _ error) {
	if t.e.isGone() {
		return false, t.e.explainUndone(err)
	}
	prepared, e := t.e.has(claimName)
	if e != nil || prepared {
		return false, e
	}
	has, e := t.ownerOf(t.directory)
	if e != nil || has == t.me {
		return has == t.me, e
	}
	return false, t.prepare(t.e, t.record, t.me)
}

// resolveConflict handles a rename that failed because the claim's directory exists already.
func (t *claimAttempt) resolveConflict() (done bool, err error) {
	dir, err := beneath.ResolveCurrent(t.parentDir, t.name)
	if err != nil {
		return false, err
	}
	found := &claim{parent: t.parentDir, dir: dir, name: t.name}
	defer dir.Close()
	found.owner, err = t.readOwner(dir)
	switch {
	case is(err, unix.EISDIR):
		if t.parents.tryRemove(t.directory) {
			return false, nil
		}
		return false, volume.Errorf(volume.ErrPrecondition, "the directory %q cannot be a volume: there are volumes inside it; choose another subDir", t.directory)
	case errors.Is(err, errBarred):
		return false, parentClaims{t.parents, t.parentDir, dir, t.directory}.removeBar()
	case isMissing(err): // left over from a claim that was released
		removeOwnerFiles(dir)
		return false, parentClaims{t.parents, t.parentDir, dir, t.directory}.removeUnclaimed()
	case err != nil:
		return false, err
	case found.owner == t.me:
		return true, nil
	}
	released, err := t.releaseIfDead(found)
	if released || err != nil {
		return false, err
	}
	return false, volume.Errorf(volume.ErrPrecondition, "the directory %q is that of volume %s: two volumes cannot share a directory; choose a subDir that differs for each PVC", t.directory, found.owner.key)
}
