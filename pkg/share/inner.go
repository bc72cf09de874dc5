// SPDX-License-Identifier: Apache-2.0

package share

import (
	"path"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// An export may lie inside another one, and so a share may lie inside a volume. The deletion of that volume
// deletes the whole share.
//
// The deletion checks for such a share, so that it can report it. This check may be a minute old. The check
// that counts is that of the purge, where the server decides: see closeInner.

// innerState says whether a share lies at the root of a volume's directory.
type innerState int

const (
	noShare     innerState = iota // a .mooring that a tenant has made is no share: it has no format
	unusedShare                   // it contains nothing
	usedShare
)

// contentDirs returns the names of a share's directories whose content would be lost with it. That includes
// what was deleted, as long as it must be kept.
func contentDirs() []string { return []string{"volumes", "snapshots", "trash", volume.InlineDir} }

// innerShare checks whether a directory is the root of a share. What cannot be read belongs to a tenant: a
// controller can read what another one has laid out there.
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

// isEmptyDir reports whether a directory in dir is empty, or does not exist.
func isEmptyDir(dir beneath.Dir, name string) (bool, error) {
	d, err := dir.Resolve(name)
	if is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	return beneath.IsEmpty(d)
}

// ignoreForeign ignores the errors that say that something does not exist, or is not Mooring's.
func ignoreForeign(err error) error {
	return ignore(err, unix.ENOENT, unix.ESTALE, unix.ENOTDIR, unix.ELOOP, unix.EXDEV, unix.EACCES, unix.EPERM)
}

// hasNoSubdirs reports whether a directory with these attributes has no subdirectories. Not every server
// counts those as links. One that does has also counted those in .mooring.
func (d *disk) hasNoSubdirs(st unix.Stat_t) bool { return d.countsSubdirs && st.Nlink == 2 }

// checkInner returns ErrPrecondition if the directory of a volume to delete is a share in use. If it has no
// subdirectories, this costs only what the client must look up anyway for the rename.
func checkInner(d *disk, r *volume.Record) error {
	if r.Shallow || r.OnDelete == volume.Retain {
		return nil
	}
	parent, name := volume.SplitDirectory(r.Directory)
	dir, err := d.root.Resolve(parent)
	if err != nil {
		return ignoreForeign(err)
	}
	defer dir.Close()
	st, err := dir.Stat(name)
	if err != nil || d.hasNoSubdirs(st) {
		return ignoreForeign(err)
	}
	found, err := dir.Resolve(name)
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

// checkInnerTree returns ErrPrecondition if the directory of a volume to purge is such a share.
func checkInnerTree(d *disk, dir beneath.Dir, directory string) error {
	found, err := dir.Resolve(directory)
	if err != nil {
		return ignoreForeign(err)
	}
	defer found.Close()
	return closeInner(d, found, directory)
}

// closeInner makes sure that a share in a directory that will be purged is not in use, now or later. It
// removes the share's own directories, into which all content is renamed or made. The server removes each
// of them only if it is empty.
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
	return volume.Errorf(volume.ErrPrecondition, "the deleted volume in %q is not purged: it is another share, with volumes, snapshots or a trash of its own: restore it (mooringctl trash restore) and delete and purge those first, or remove %s from it if it is no share any more", directory, volume.StateDir)
}
