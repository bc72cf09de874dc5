// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// checkVolume checks that a volume has its claim and its directory.
func (l *entryCheck) checkVolume() error {
	if l.volume.Shallow {
		return l.checkShallow()
	}
	if err := l.checkClaim(); err != nil {
		return err
	}
	return l.checkDirectory()
}

// checkShallow checks a volume that is a snapshot itself.
func (l *entryCheck) checkShallow() error {
	key := l.volume.Source.Key
	e, _, err := l.Snapshots.lookup(key)
	if errors.Is(err, volume.ErrNotFound) {
		l.reportError("restore the snapshot from a backup, or delete the PersistentVolumeClaim", "%s is the snapshot %s itself, which does not exist", l.name, key)
		return nil
	}
	if volume.Kind(err) != nil || is(err, unix.ENOTDIR) {
		return nil // reported with the snapshot
	}
	if err != nil {
		return err
	}
	defer e.close()
	held, sealed, err := findHold(e, userHoldName(l.volume))
	if sealed {
		l.reportError("copy its data to a new volume while they exist", "%s is the snapshot %s itself, which is being deleted", l.name, key)
		return nil
	}
	if err != nil {
		return err
	}
	if !held {
		holds := stateName("snapshots", key, deletionName)
		l.reportError(fmt.Sprintf("on the server: mkdir -p %s; touch %s/%s", holds, holds, userHoldName(l.volume)),
			"%s is the snapshot %s itself, and does not hold it: the snapshot could be deleted", l.name, key)
	}
	return nil
}

// findHold reports whether an entry has a hold of that name, and whether its holds are sealed.
func findHold(e *entry, name string) (held, sealed bool, err error) {
	d, err := e.dir.Resolve(deletionName)
	if err != nil {
		return false, false, ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer d.Close()
	_, err = d.Stat(sealName)
	sealed = err == nil
	if _, err := d.Stat(name); err != nil {
		return false, sealed, ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	return true, sealed, nil
}

// checkClaim checks that the volume has the claim on its directory.
func (l *entryCheck) checkClaim() error {
	r := l.volume
	found, err := l.claims.find(r.Directory, inode{})
	found.close()
	if err != nil {
		return l.reportClaimError(err)
	}
	if found.owner == (owner{r.Key, r.Nonce}) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.claimed[r.Directory] = true
		return nil
	}
	if found.owner.key == r.Key {
		l.reportError(claimRemedy+l.claimCommand(), "the claim on its directory %q is that of an earlier %s, with the nonce %s", r.Directory, l.name, found.owner.nonce)
		return nil
	}
	same, err := l.hasSameDirectory(found.owner)
	if err != nil {
		return err
	}
	if same {
		l.reportError(sameDirectoryRemedy, "its directory %q is also that of volume %s, which has the claim on it", r.Directory, found.owner.key)
	} else {
		l.reportError(claimRemedy+l.claimCommand(), "volume %s has the claim on its directory %q", found.owner.key, r.Directory)
	}
	return nil
}

// sameDirectoryRemedy is the remedy for two volumes with one directory, or with one inside the other.
const sameDirectoryRemedy = "move the data of one of them to a new volume, and delete it"

// claimRemedy begins the remedy for a claim that is not the volume's. The claimCommand follows.
const claimRemedy = "once it is clear which volume has the directory, "

// reportClaimError reports why the volume has no claim on its directory. It returns the errors that do not
// say so.
func (l *entryCheck) reportClaimError(err error) error {
	directory := l.volume.Directory
	switch {
	case volume.Kind(err) == volume.ErrDamaged, volume.Kind(err) == volume.ErrBusy:
		l.reportError(claimRemedy+l.claimCommand(), "the claim on its directory %q does not name its owner", directory)
	case is(err, unix.EISDIR):
		l.reportError(sameDirectoryRemedy, "volumes have claims inside its directory %q, and it has none", directory)
	case is(err, unix.ENOTDIR):
		return l.checkEnclosing()
	case isMissing(err) && !l.isStale():
		l.reportError("nobody may take the directory meanwhile: "+l.claimCommand(), "nobody has the claim on its directory %q: the volume cannot be deleted, and another could take the directory", directory)
	default:
		return err
	}
	return nil
}

// claimCommand returns the command that makes the claim by hand.
func (l *entryCheck) claimCommand() string {
	claim := stateName("claims", claimPath(l.volume.Directory))
	dir, _ := volume.SplitDirectory(claim)
	return fmt.Sprintf("on the server: mkdir -p %q; ln -f %s/%s %q", dir, l.path, recordFile, claim)
}

// hasSameDirectory reports whether that other volume exists and has the same directory.
func (l *entryCheck) hasSameDirectory(want owner) (bool, error) {
	s, exists, err := l.readReferenced(l.table, want.key)
	if err != nil || !exists {
		return false, err
	}
	r, err := volume.DecodeRecord(want.key, s.data)
	if err != nil {
		return false, nil
	}
	return s.state == Ready && r.Nonce == want.nonce && r.Directory == l.volume.Directory, nil
}

// checkEnclosing finds the volume that encloses this one's directory.
func (l *entryCheck) checkEnclosing() error {
	parent, _ := volume.SplitDirectory(l.volume.Directory)
	for _, p := range prefixes(parent) {
		holder, err := l.claims.ownerOf(p)
		if err != nil && volume.Kind(err) == nil {
			return err
		}
		if holder.key != "" {
			l.reportError(sameDirectoryRemedy, "its directory %q is inside that of volume %s, %q, and nobody has the claim on it", l.volume.Directory, holder.key, p)
			return nil
		}
	}
	l.reportError(claimRemedy+l.claimCommand(), "nobody has the claim on its directory %q, and there is something else in its place", l.volume.Directory)
	return nil
}

// checkDirectory checks that the volume's directory is a directory.
func (l *entryCheck) checkDirectory() error {
	parent, name := volume.SplitDirectory(l.volume.Directory)
	dir, err := l.root.Resolve(parent)
	if err != nil {
		return reportNoDirectory(l, err, beneath.None, name)
	}
	defer dir.Close()
	if err := dir.Refresh(); err != nil {
		return reportNoDirectory(l, err, dir, name)
	}
	if err := checkOpens(dir, name); err != nil {
		return reportNoDirectory(l, err, dir, name)
	}
	return nil
}

// reportNoDirectory reports why the volume's directory, name in parent, does not open. It returns the errors
// that do not say so.
func reportNoDirectory(l *entryCheck, err error, parent beneath.Dir, name string) error {
	const restore = "restore the directory from a backup, or delete the PersistentVolumeClaim, which forgets the volume"
	dir := l.volume.Directory
	switch {
	case is(err, unix.ENOENT):
		l.reportError(restore, "its directory %q does not exist", dir)
	case is(err, unix.EXDEV):
		l.reportError("unmount it there, or register that file system as a share of its own", "at its directory %q, or above, another file system is mounted on the server", dir)
	case is(err, unix.ENOTDIR, unix.ELOOP):
		what := "a file, or a symbolic link, is in the place of its directory %q, or above"
		if st, err := parent.Stat(name); err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
			what = "a symbolic link is in the place of its directory %q"
		}
		l.reportError("move it away on the server, and put the directory in its place again", what, dir)
	default:
		return err
	}
	return nil
}

// checkOpens returns why name does not open as a directory, if it does not.
func checkOpens(dir beneath.Dir, name string) error {
	d, err := dir.Resolve(name)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}
