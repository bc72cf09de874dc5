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

// takenName is the one name in a directory of claims. A file: the directory is a volume's. A
// directory: it is a parent of volumes, whose claims are in it. No name can be both, so the
// server's file system itself refuses a volume inside another, or around one.
const takenName = "taken"

// claims says which directory on the share belongs to which volume.
//
// The claim on the directory a/b is the file claims/a/taken/b/taken, a hard link to the record
// of its volume. The directory claims/a/taken/b is made by the one who claims, for this one
// claim: once the claim is released nothing is put there again.
type claims struct {
	*disk
	dir     beneath.Dir
	parents *parents
	volumes *table
}

// owner is the volume that has a claim.
type owner struct{ key, nonce string }

// claim is the claim on one directory, opened.
type claim struct {
	parent, dir beneath.Dir // the directory of the claim's, and the claim's
	name        string      // of x in at
	owner       owner
	linked      bool          // it is a link to the record whose inode was asked about
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

// inode tells files apart within one call. It is no identity: see package comment.
type inode struct{ dev, ino uint64 }

func inodeOf(st unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// releaseIfDead releases a claim whose volume does not exist any more: the process that deleted
// it stopped before it came to that. ErrBusy: the volume is just being deleted.
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
	return true, c.removeClaim(found)
}

// unlinkClaim removes a claim by the handle of its directory, in which there never was another.
func (c *claims) unlinkClaim(found *claim) error {
	c.step("release the claim")
	return ignore(found.dir.Unlink(takenName), unix.ENOENT, unix.ESTALE)
}

// removeClaim removes a claim and its directory.
func (c *claims) removeClaim(found *claim) error {
	if err := c.unlinkClaim(found); err != nil {
		return err
	}
	c.step("remove the directory of the claim")
	err := found.parent.Rmdir(found.name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		// The name of the owner, where there are no links; or a successor's claim.
		_ = found.dir.Unlink(found.owner.key + "." + found.owner.nonce)
		err = found.parent.Rmdir(found.name)
	}
	return ignore(err, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// removeOwnerFiles removes what tells whose a claim was that is not there any more, on a server
// without hard links.
func removeOwnerFiles(x beneath.Dir) {
	var owners []string
	_ = beneath.Names(x, func(name string) error {
		if _, _, ok := cutNonce(name); ok {
			owners = append(owners, name)
		}
		return nil
	})
	for _, name := range owners {
		_ = x.Unlink(name)
	}
}

// release releases the claim of a volume whose entry is dead, if it has it.
func (c *claims) release(directory string, of owner) error {
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
			_ = found.parent.Rmdir(found.name) // if nothing is in it
		}
		return nil
	}
	if err != nil || found.owner != of {
		return err
	}
	return c.removeClaim(found)
}

// isUnclaimed reports whether an error of find says that a directory is nobody's: there is no
// claim, or a volume above, or volumes below, or there just were.
func isUnclaimed(err error) bool {
	return isMissing(err) || is(err, unix.ENOTDIR, unix.EISDIR) || errors.Is(err, errBarred)
}

// find opens the claim on a directory and reads whose it is, unless it is a link to the record
// of that inode. The caller closes the claim, with an error too.
//
// What this client remembers is believed only where it says that the claim is that link.
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

// findOnce is find, once. fresh: the server is asked for every name on the way.
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

// ownerOf returns whose a directory is; none where it is nobody's.
func (c *claims) ownerOf(directory string) (owner, error) {
	found, err := c.find(directory, inode{})
	defer found.close()
	if isUnclaimed(err) && (!is(err, unix.ESTALE) || !c.isStale()) {
		return owner{}, nil
	}
	return found.owner, err
}

// readOwner reads whose the claim in x is. EISDIR: x is a parent's. errBarred: it was a parent's, and
// is just being tidied away. ENOENT: nobody's yet, or any more.
func (c *claims) readOwner(x beneath.Dir) (owner, error) {
	data, _, err := x.Read(takenName, maxRecord)
	if err != nil {
		return owner{}, err
	}
	if key, nonce := decodeIdentity(data); nonce != "" {
		return owner{key, nonce}, nil
	}
	// Where there are no links a file beside it says whose it is.
	var found owner
	err = beneath.Names(x, func(name string) error {
		if key, nonce, ok := cutNonce(name); ok {
			found = owner{key, nonce}
		}
		return nil
	})
	if err == nil && found.nonce == "" && len(data) == 0 {
		err = errBarred
	}
	if err == nil && found.nonce == "" {
		err = volume.Errorf(volume.ErrDamaged, "a claim in %s/claims on the share is damaged: it does not say which volume has it: mooringctl check tells which; remove it once it is clear whose the directory is", volume.StateDir)
	}
	return found, err
}

// claimPath returns where the claims of the directories in parent are, beneath claims.
func claimPath(parent string) string {
	if parent == "" {
		return ""
	}
	return strings.ReplaceAll(parent, "/", "/"+takenName+"/") + "/" + takenName
}

// openParent opens the directory of claims for what is in parent, and makes what is missing.
func (c *claims) openParent(parent string) (beneath.Dir, error) {
	at, err := c.dir.Resolve(claimPath(parent))
	if err == nil || parent == "" {
		return at, err
	}
	if !is(err, unix.ENOENT, unix.ENOTDIR, unix.ESTALE) {
		return at, err
	}
	if at, err = c.dir.Resolve(""); err != nil {
		return at, err
	}
	for _, p := range prefixes(parent) {
		next, err := c.openLevel(at, p)
		at.Close()
		if err != nil {
			return beneath.None, err
		}
		at = next
	}
	return at, nil
}

// openLevel opens, and makes if needed, the directory of claims for what is in the directory p.
func (c *claims) openLevel(at beneath.Dir, p string) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	if err := at.Refresh(); err != nil {
		return beneath.None, err
	}
	x, err := at.Resolve(name)
	if is(err, unix.ENOENT) {
		err = c.parents.makeClaims(at, name, p)
		if err == nil {
			x, err = at.Resolve(name)
		}
	}
	if err != nil {
		return beneath.None, err
	}
	defer x.Close()
	below, err := x.Resolve(takenName)
	if is(err, unix.ENOENT) { // of one who has ended
		return beneath.None, firstError(parentClaims{c.parents, at, x, p}.removeUnclaimed(), err)
	}
	if !is(err, unix.ENOTDIR) {
		return below, err
	}
	has, err := c.readOwner(x)
	if errors.Is(err, errBarred) {
		return beneath.None, firstError(parentClaims{c.parents, at, x, p}.removeBar(), unix.ENOENT) // again
	}
	if err != nil {
		return beneath.None, err
	}
	if released, err := c.releaseIfDead(&claim{parent: at, dir: x, name: name, owner: has}); released || err != nil {
		return beneath.None, firstError(err, unix.ENOENT) // again
	}
	return beneath.None, volume.Errorf(volume.ErrPrecondition, "the directory %q is that of volume %s, and no volume can be inside another; choose another subDir", p, has.key)
}

// prefixes returns the parents of a directory and it itself, the outermost first: "a", "a/b".
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

// checkUnowned refuses a directory that is a volume's, or lies in one's, or holds one's.
func (c *claims) checkUnowned(directory string) error {
	for _, p := range prefixes(directory) {
		has, err := c.ownerOf(p)
		if err != nil {
			return err
		}
		if has.key != "" {
			return volume.Errorf(volume.ErrRefused, "the directory %q belongs to volume %s: use that volume's claim", p, has.key)
		}
	}
	at, err := c.dir.Resolve(claimPath(directory))
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer at.Close()
	return beneath.Names(at, func(name string) error {
		return volume.Errorf(volume.ErrRefused, "the directory %q holds those of volumes, %q for one: choose one that does not", directory, path.Join(directory, name))
	})
}
