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
//
// Its deletion looks whether that is so, as it is to be told then. The look may be a minute behind.
// What counts is the purge, which has the server decide: see closeInner.

// innerState is what of a share there is at the root of a volume's directory.
type innerState int

const (
	noShare     innerState = iota // a tenant's own .mooring is none: it has no format
	unusedShare                   // nothing is left in it
	usedShare
)

// contentDirs returns the names of the directories of a share in which there is what only that has:
// also what was deleted, for as long as it was promised to be kept.
func contentDirs() []string { return []string{"volumes", "snapshots", "trash", volume.InlineDir} }

// innerShare looks whether a directory is the root of a share. What cannot be looked at is a
// tenant's: a controller can read what another has laid out there.
func innerShare(d beneath.Dir) (innerState, error) {
	state, err := d.Resolve(volume.StateDir)
	if err != nil {
		return noShare, ignoreForeign(err)
	}
	defer state.Close()
	st, err := state.Stat(formatFile)
	if err != nil {
		return noShare, ignoreForeign(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return noShare, nil
	}
	for _, name := range contentDirs() {
		empty, err := isEmptyDir(state, name)
		if ignoreForeign(err) != nil {
			return unusedShare, err
		}
		if err == nil && !empty {
			return usedShare, nil
		}
	}
	return unusedShare, nil
}

// isEmptyDir reports whether there is nothing in a directory in at, or no such directory.
func isEmptyDir(at beneath.Dir, name string) (bool, error) {
	d, err := at.Resolve(name)
	if is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	return beneath.IsEmpty(d)
}

// ignoreForeign ignores errors that say that something is not there, or is nothing of Mooring's.
func ignoreForeign(err error) error {
	return ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.EPERM)
}

// hasNoSubdirs reports whether a directory of those attributes has no directory in it. Not every server
// counts them, and one that does has counted those in .mooring.
func (d *disk) hasNoSubdirs(st unix.Stat_t) bool { return d.countsSubdirs && st.Nlink == 2 }

// checkInner refuses to delete a volume in whose directory a share lies that is in use. Of a
// directory without others in it nothing is asked but what the client has to look up anyhow in order
// to rename it.
func checkInner(d *disk, r *volume.Record) error {
	if r.Shallow || r.OnDelete == volume.Retain {
		return nil
	}
	parent, name := volume.SplitDirectory(r.Directory)
	at, err := d.root.Resolve(parent)
	if err != nil {
		return ignoreForeign(err)
	}
	defer at.Close()
	st, err := at.Stat(name)
	if err != nil || d.hasNoSubdirs(st) {
		return ignoreForeign(err)
	}
	found, err := at.Resolve(name)
	if err != nil {
		return ignoreForeign(err)
	}
	defer found.Close()
	in, err := innerShare(found)
	if err != nil || in != usedShare {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "volume %s is not deleted: its directory %q, which is %s on the server, is another share, with volumes, snapshots or a trash of its own: delete and purge those first, or remove %s from the directory if that is no share any more",
		r.Key, r.Directory, path.Join(d.def.Path, r.Directory), volume.StateDir)
}

// checkInnerTree refuses to purge a deleted volume if such a share lies in its directory.
func checkInnerTree(d *disk, at beneath.Dir, directory string) error {
	found, err := at.Resolve(directory)
	if err != nil {
		return ignoreForeign(err)
	}
	defer found.Close()
	return closeInner(d, found, directory)
}

// closeInner makes sure that no share in a directory that is about to be purged is in use, now or
// later: its own directories are removed, into which whatever it gets is renamed or made. Each is
// removed only if it is empty, by the server.
func closeInner(d *disk, found beneath.Dir, directory string) error {
	if err := found.Refresh(); err != nil {
		return ignoreForeign(err)
	}
	st, err := found.StatSelf()
	if err != nil || d.hasNoSubdirs(st) {
		return ignoreForeign(err)
	}
	in, err := innerShare(found)
	if err != nil || in == noShare {
		return err
	}
	if in == usedShare {
		return errInnerInUse(directory)
	}
	state, err := found.Resolve(volume.StateDir)
	if err != nil {
		return ignoreForeign(err)
	}
	defer state.Close()
	for _, holding := range contentDirs() {
		d.step("close a share that lies in it")
		err := state.Rmdir(holding)
		if is(err, unix.ENOTEMPTY, unix.EEXIST) {
			return errInnerInUse(directory)
		}
		if err := ignoreForeign(err); err != nil {
			return err
		}
	}
	return nil
}

func errInnerInUse(directory string) error {
	return volume.Errorf(volume.ErrPrecondition, "the deleted volume in %q is not purged: it is another share, with volumes, snapshots or a trash of its own: bring it back (mooringctl trash restore) and delete and purge those first, or remove %s from it if it is no share any more", directory, volume.StateDir)
}
