// SPDX-License-Identifier: Apache-2.0

package share

import (
	"path"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// An export may lie inside another, and so a share inside a volume. Whoever removes that volume
// removes all of the share's.

// inner is what of a share there is at the root of a volume's directory.
type inner int

const (
	noShare inner = iota // a tenant's own .mooring is none: it has no format
	anyShare
	usedShare // it has volumes
)

// innerShare looks whether a directory is the root of a share. What cannot be looked at is a
// tenant's: a controller can read what another has laid out there.
func innerShare(d beneath.Dir) (inner, error) {
	state, err := d.Resolve(volume.StateDir)
	if err != nil {
		return noShare, foreign(err)
	}
	defer state.Close()
	st, err := state.Stat(formatFile)
	if err != nil {
		return noShare, foreign(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return noShare, nil
	}
	volumes, err := state.Resolve("volumes")
	if err != nil {
		return anyShare, foreign(err)
	}
	defer volumes.Close()
	empty, err := beneath.Empty(volumes)
	if err != nil || empty {
		return anyShare, foreign(err)
	}
	return usedShare, nil
}

// foreign ignores errors that say that something is not there, or is nothing of Mooring's.
func foreign(err error) error {
	return ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.EPERM)
}

// usedAt reports whether the directory of that path is the root of a share that has volumes.
func usedAt(at beneath.Dir, directory string) (bool, error) {
	d, err := at.Resolve(directory)
	if err != nil {
		return false, foreign(err)
	}
	defer d.Close()
	in, err := innerShare(d)
	return in == usedShare, err
}

// checkInner refuses to delete a volume in whose directory a share lies that has volumes.
func checkInner(d *disk, r *volume.Record) error {
	if r.Shallow || r.OnDelete == volume.Retain {
		return nil
	}
	used, err := usedAt(d.root, r.Directory)
	if err != nil || !used {
		return err
	}
	return volume.Errorf(volume.ErrConflict, "volume %s is not deleted: its directory %q, which is %s on the server, is another share, with volumes of its own: delete those first, or remove %s from the directory if that is no share any more",
		r.Key, r.Directory, path.Join(d.def.Path, r.Directory), volume.StateDir)
}

// checkInnerTree refuses to purge a deleted volume in which such a share lies.
func checkInnerTree(at beneath.Dir, names ...string) error {
	for _, name := range names {
		used, err := usedAt(at, name)
		if err != nil {
			return err
		}
		if used {
			return volume.Errorf(volume.ErrConflict, "the deleted volume in %q is not purged: it is another share, with volumes of its own: bring it back (mooringctl trash restore) and delete those first, or remove %s from it if that is no share any more", name, volume.StateDir)
		}
	}
	return nil
}
