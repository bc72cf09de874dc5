// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"path"
	"strings"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// takenName is the one name in a directory of claims. A file: the directory is a volume. A directory: it
// is a parent of volumes and contains their claims. A name cannot be both, so the server's file system
// itself refuses a volume inside another volume, or around one.
const takenName = "taken"

// claims records which directory on the share belongs to which volume.
//
// The claim on the directory a/b is the file claims/a/taken/b/taken, a hard link to the record of its
// volume. The claiming process makes the directory claims/a/taken/b for this one claim: once the claim is
// released, nothing is put there again.
type claims struct {
	*disk
	dir     beneath.Dir
	parents *parents
	volumes *table
}

// owner is the volume that has a claim.
type owner struct{ key, nonce string }

// claim is an open claim on one directory.
type claim struct {
	parent, dir beneath.Dir // the directory that contains the claim's directory, and the claim's directory
	name        string      // of dir in parent
	owner       owner
	linked      bool          // it is a link to the record whose inode the caller passed
	ctime       unix.Timespec // of that link
}

func (c *claim) close() {
	if c.dir != beneath.None {
		c.dir.Close()
	}
	if c.parent != beneath.None {
		c.parent.Close()
	}
	c.parent, c.dir = beneath.None, beneath.None
}

// inode tells files apart within one call. It is no identity: see the package comment.
type inode struct{ dev, ino uint64 }

func inodeOf(st unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// releaseIfDead releases a claim whose volume does not exist any more: the process that deleted it stopped
// before it released the claim. It returns ErrBusy while the volume is being deleted.
func (c *claims) releaseIfDead(found *claim) (bool, error) {
	dead, leaving, err := c.volumes.incarnationState(found.owner.key, found.owner.nonce)
	if err != nil {
		return false, err
	}
	if leaving {
		return false, busy("volume %s, which has that directory, is being deleted (mooringctl trash list shows whether the directory stays until it is purged)", found.owner.key)
	}
	if !dead {
		return false, nil
	}
	return true, c.remove(found)
}

// unlinkClaim removes a claim by the handle of its directory, which never contained another claim.
func (c *claims) unlinkClaim(found *claim) error {
	c.step("release the claim")
	return ignore(found.dir.Unlink(takenName), unix.ENOENT, unix.ESTALE)
}

// remove removes a claim and its directory.
func (c *claims) remove(found *claim) error {
	if err := c.unlinkClaim(found); err != nil {
		return err
	}
	c.step("remove the directory of the claim")
	err := found.parent.Rmdir(found.name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		// The file that names the owner, if the server has no hard links. Or a successor's claim.
		_ = found.dir.Unlink(found.owner.key + "." + found.owner.nonce)
		err = found.parent.Rmdir(found.name)
	}
	return ignore(err, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// removeOwnerFiles removes the files that name the owner of a claim that does not exist any more, on a
// server without hard links.
func removeOwnerFiles(claimDir beneath.Dir) {
	var owners []string
	_ = beneath.Names(claimDir, func(name string) error {
		if _, _, ok := cutNonce(name); ok {
			owners = append(owners, name)
		}
		return nil
	})
	for _, name := range owners {
		_ = claimDir.Unlink(name)
	}
}

// release releases the claim of a volume whose entry is dead, if that volume has it.
func (c *claims) release(directory string, want owner) error {
	parent, _ := volume.SplitDirectory(directory)
	defer c.parents.recordUse(parent)
	found, err := c.find(directory, inode{})
	defer found.close()
	if isUnclaimed(err) {
		if is(err, unix.ESTALE) && c.isStale() {
			return err
		}
		if found.dir != beneath.None && isMissing(err) {
			c.step("remove the directory of the claim")
			_ = found.parent.Rmdir(found.name) // if it is empty
		}
		return nil
	}
	if err != nil || found.owner != want {
		return err
	}
	return c.remove(found)
}

// isUnclaimed reports whether an error of find says that a directory belongs to nobody: it has no claim,
// it is inside a volume, or volumes are inside it, or were a moment ago.
func isUnclaimed(err error) bool {
	return isMissing(err) || is(err, unix.ENOTDIR, unix.EISDIR) || errors.Is(err, errBarred)
}

// find opens the claim on a directory and reads its owner, unless the claim is a link to the record with
// that inode. The caller closes the claim, also after an error.
//
// find believes this client's cache only if that says that the claim is this link.
func (c *claims) find(directory string, record inode) (*claim, error) {
	if record != (inode{}) {
		found, err := c.findOnce(directory, record, false)
		if err == nil && found.linked {
			return found, nil
		}
		found.close()
	}
	return c.findOnce(directory, record, true)
}

// findOnce does one attempt of find. With fresh it asks the server for every name on the way.
func (c *claims) findOnce(directory string, record inode, fresh bool) (*claim, error) {
	parent, name := volume.SplitDirectory(directory)
	found := &claim{parent: beneath.None, dir: beneath.None, name: name}
	open := beneath.Dir.Resolve
	if fresh {
		open = beneath.ResolveCurrent
	}
	var err error
	if found.parent, err = open(c.dir, claimPath(parent)); err != nil {
		return found, err
	}
	if found.dir, err = open(found.parent, name); err != nil {
		return found, err
	}
	if record != (inode{}) {
		if fresh {
			if err := found.dir.Refresh(); err != nil {
				return found, err
			}
		}
		st, err := found.dir.Stat(takenName)
		if err != nil {
			return found, err
		}
		found.ctime = st.Ctim
		if found.linked = inodeOf(st) == record; found.linked {
			return found, nil
		}
	}
	found.owner, err = c.readOwner(found.dir)
	return found, err
}

// ownerOf returns the owner of a directory, or the zero owner if it has none.
func (c *claims) ownerOf(directory string) (owner, error) {
	found, err := c.find(directory, inode{})
	defer found.close()
	if isUnclaimed(err) && (!is(err, unix.ESTALE) || !c.isStale()) {
		return owner{}, nil
	}
	return found.owner, err
}

// readOwner reads the owner of the claim in claimDir. EISDIR: it is a parent's. errBarred: it was a
// parent's, and is just being removed as idle. ENOENT: nobody's yet, or any more.
func (c *claims) readOwner(claimDir beneath.Dir) (owner, error) {
	data, _, err := claimDir.Read(takenName, maxRecord)
	if err != nil {
		return owner{}, err
	}
	if key, nonce := decodeIdentity(data); nonce != "" {
		return owner{key, nonce}, nil
	}
	// If the server has no hard links, a file beside it names the owner.
	var found owner
	err = beneath.Names(claimDir, func(name string) error {
		if key, nonce, ok := cutNonce(name); ok {
			found = owner{key, nonce}
		}
		return nil
	})
	if err != nil || found.nonce != "" {
		return found, err
	}
	if len(data) == 0 {
		return owner{}, errBarred
	}
	return owner{}, volume.Errorf(volume.ErrDamaged, "a claim in %s/claims on the share is damaged: it does not name its volume: run mooringctl check to find it; remove it once it is clear which volume has the directory", volume.StateDir)
}

// claimPath returns the path, relative to claims, of the claims on the directories in parent.
func claimPath(parent string) string {
	if parent == "" {
		return ""
	}
	return strings.ReplaceAll(parent, "/", "/"+takenName+"/") + "/" + takenName
}

// openParent opens the directory of the claims on what is in parent, and makes what is missing.
func (c *claims) openParent(parent string) (beneath.Dir, error) {
	dir, err := c.dir.Resolve(claimPath(parent))
	if parent == "" || !is(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE) {
		return dir, err
	}
	if dir, err = c.dir.Resolve(""); err != nil {
		return dir, err
	}
	for _, p := range prefixes(parent) {
		next, err := c.openLevel(dir, p)
		dir.Close()
		if err != nil {
			return beneath.None, err
		}
		dir = next
	}
	return dir, nil
}

// openLevel opens the directory of the claims on what is in the directory p, and makes it if needed.
func (c *claims) openLevel(dir beneath.Dir, p string) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	if err := dir.Refresh(); err != nil {
		return beneath.None, err
	}
	claimDir, err := dir.Resolve(name)
	if is(err, unix.ENOENT) {
		if err := c.parents.makeClaims(dir, name, p); err != nil {
			return beneath.None, err
		}
		claimDir, err = dir.Resolve(name)
	}
	if err != nil {
		return beneath.None, err
	}
	defer claimDir.Close()
	below, err := claimDir.Resolve(takenName)
	if is(err, unix.ENOENT) { // of a claim that has ended
		return beneath.None, firstError(parentClaims{c.parents, dir, claimDir, p}.removeUnclaimed(), err)
	}
	if !is(err, unix.ENOTDIR) {
		return below, err
	}
	holder, err := c.readOwner(claimDir)
	if errors.Is(err, errBarred) {
		return beneath.None, firstError(parentClaims{c.parents, dir, claimDir, p}.removeBar(), unix.ENOENT) // again
	}
	if err != nil {
		return beneath.None, err
	}
	if released, err := c.releaseIfDead(&claim{parent: dir, dir: claimDir, name: name, owner: holder}); released || err != nil {
		return beneath.None, firstError(err, unix.ENOENT) // again
	}
	return beneath.None, volume.Errorf(volume.ErrPrecondition, "the directory %q belongs to volume %s, and no volume can be inside another; choose another subDir", p, holder.key)
}

// prefixes returns the parents of a directory and the directory itself, the outermost first: "a", "a/b".
func prefixes(directory string) []string {
	var all []string
	for i, c := range directory {
		if c == '/' {
			all = append(all, directory[:i])
		}
	}
	if directory != "" {
		all = append(all, directory)
	}
	return all
}

// checkUnowned refuses a directory that is a volume, is inside one, or contains one.
func (c *claims) checkUnowned(directory string) error {
	for _, p := range prefixes(directory) {
		holder, err := c.ownerOf(p)
		if err != nil {
			return err
		}
		if holder.key != "" {
			return volume.Errorf(volume.ErrRefused, "the directory %q belongs to volume %s: use that volume's claim", p, holder.key)
		}
	}
	dir, err := c.dir.Resolve(claimPath(directory))
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer dir.Close()
	return beneath.Names(dir, func(name string) error {
		return volume.Errorf(volume.ErrRefused, "the directory %q contains volumes, for example %q: choose one that does not", directory, path.Join(directory, name))
	})
}
