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
		return nil // that is told of the snapshot
	}
	if err != nil {
		return err
	}
	defer e.close()
	d, err := e.dir.Resolve(deletionName)
	if err == nil {
		_, err = d.Stat(userHoldName(l.volume))
		_, sealed := d.Stat(sealName)
		d.Close()
		if sealed == nil {
			l.reportError("copy its data to a new volume while they are there", "%s is the snapshot %s itself, which is being deleted", l.name, key)
			return nil
		}
	}
	if is(err, unix.ENOENT, unix.ENOTDIR) {
		holds := stateName("snapshots", key, deletionName)
		l.reportError(fmt.Sprintf("on the server: mkdir -p %s; touch %s/%s", holds, holds, userHoldName(l.volume)),
			"%s is the snapshot %s itself, and does not hold it: that could be deleted", l.name, key)
		return nil
	}
	return err
}

// checkClaim checks that the volume has the claim on its directory.
func (l *entryCheck) checkClaim() error {
	r := l.volume
	found, err := l.claims.find(r.Directory, inode{})
	found.close()
	me := owner{r.Key, r.Nonce}
	if err == nil && found.owner == me {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.claimed[r.Directory] = true
		return nil
	}
	mend := "once it is clear whose the directory is, " + l.claimCommand()
	const apart = "move the data of one of them to a new volume, and delete it"
	switch {
	case err == nil && found.owner.key == r.Key:
		l.reportError(mend, "the claim on its directory %q is that of an earlier %s, with the nonce %s", r.Directory, l.name, found.owner.nonce)
	case err == nil:
		same, err := l.hasSameDirectory(found.owner)
		if err != nil {
			return err
		}
		if same {
			l.reportError(apart, "its directory %q is that of volume %s too, which has the claim on it", r.Directory, found.owner.key)
		} else {
			l.reportError(mend, "volume %s has the claim on its directory %q", found.owner.key, r.Directory)
		}
	case volume.Kind(err) == volume.ErrDamaged, volume.Kind(err) == volume.ErrBusy:
		l.reportError(mend, "the claim on its directory %q does not say whose it is", r.Directory)
	case is(err, unix.EISDIR):
		l.reportError(apart, "volumes have claims inside its directory %q, and it has none", r.Directory)
	case is(err, unix.ENOTDIR):
		return l.checkEnclosing(apart, mend)
	case isMissing(err) && !l.isStale():
		l.reportError("nobody may take the directory meanwhile: "+l.claimCommand(), "nobody has the claim on its directory %q: the volume cannot be deleted, and another could take the directory", r.Directory)
	default:
		return err
	}
	return nil
}

// claimCommand says how a claim is made by hand.
func (l *entryCheck) claimCommand() string {
	x := stateName("claims", claimPath(l.volume.Directory))
	dir, _ := volume.SplitDirectory(x)
	return fmt.Sprintf("on the server: mkdir -p %q; ln -f %s/%s %q", dir, l.path, recordFile, x)
}

// hasSameDirectory reports whether a volume exists that has the same directory.
func (l *entryCheck) hasSameDirectory(of owner) (bool, error) {
	s, there, err := l.readReferenced(l.table, of.key)
	if err != nil || !there {
		return false, err
	}
	r, err := volume.DecodeRecord(of.key, s.data)
	return err == nil && s.state == Ready && r.Nonce == of.nonce && r.Directory == l.volume.Directory, nil
}

// checkEnclosing finds the volume in whose directory this one's is.
func (l *entryCheck) checkEnclosing(apart, mend string) error {
	parent, _ := volume.SplitDirectory(l.volume.Directory)
	for _, p := range prefixes(parent) {
		has, err := l.claims.ownerOf(p)
		if err != nil && volume.Kind(err) == nil {
			return err
		}
		if has.key != "" {
			l.reportError(apart, "its directory %q is inside that of volume %s, %q, and nobody has the claim on it", l.volume.Directory, has.key, p)
			return nil
		}
	}
	l.reportError(mend, "nobody has the claim on its directory %q, and there is something else in its place", l.volume.Directory)
	return nil
}

// checkDirectory checks that the volume's directory is one.
func (l *entryCheck) checkDirectory() error {
	const restore = "restore the directory from a backup, or delete the PersistentVolumeClaim, which forgets the volume"
	dir := l.volume.Directory
	parent, name := volume.SplitDirectory(dir)
	at, err := l.root.Resolve(parent)
	if err == nil {
		defer at.Close()
		if err = at.Refresh(); err == nil {
			err = checkOpens(at, name)
		}
	}
	switch {
	case err == nil:
	case is(err, unix.ENOENT):
		l.reportError(restore, "its directory %q does not exist", dir)
	case is(err, unix.EXDEV):
		l.reportError("unmount it there, or register that file system as a share of its own", "at its directory %q, or above, another file system is mounted on the server", dir)
	case is(err, unix.ENOTDIR, unix.ELOOP):
		what := "a file, or a symbolic link, is in the place of its directory %q, or above"
		if at >= 0 {
			if st, e := at.Stat(name); e == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
				what = "a symbolic link is in the place of its directory %q"
			}
		}
		l.reportError("move it away on the server, and put the directory in its place again", what, dir)
	default:
		return err
	}
	return nil
}

// checkOpens returns why a name is no directory, if it is none.
func checkOpens(at beneath.Dir, name string) error {
	d, err := at.Resolve(name)
	if err == nil {
		d.Close()
	}
	return err
}
