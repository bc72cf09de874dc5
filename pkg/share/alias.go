// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"io/fs"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A server may open one directory by several names: short ones as of Windows (MOORIN~1), ones in
// another case, ones that are composed otherwise. volume.CheckDirectory and the claims compare
// spellings. What counts is which directory a name has opened.

// checkNotStateDir refuses a directory that is .mooring, by whatever name it was opened. It asks the server
// nothing, unless the nodes are equal: another directory may have that node too, and has no format.
func checkNotStateDir(d *disk, found beneath.Dir, directory string) error {
	if d.state == beneath.None {
		return nil
	}
	own, err := beneath.NodeOf(d.state)
	if err != nil {
		return err
	}
	node, err := beneath.NodeOf(found)
	if err != nil || node != own {
		return err
	}
	if _, err := found.Stat(formatFile); err != nil {
		return ignore(err, unix.ENOENT)
	}
	return volume.Errorf(volume.ErrInvalid, "the directory %q is another name of %s on the server, which is Mooring's own: choose another", directory, volume.StateDir)
}

// checkListed refuses the name by which found was opened in at, where at does not list that name but lists
// found by another one: the claims know the directory by that, if a volume has it. Before it is refused
// at is listed as the server has it now: another controller on this machine may just have made the
// directory. Where at does not list found at all, another controller has just moved it away, or tidied.
func checkListed(d *disk, at, found beneath.Dir, name, directory string) error {
	for _, list := range []func(beneath.Dir, func(string) error) error{beneath.Names, d.list} {
		err := list(at, func(listed string) error {
			if listed == name {
				return fs.ErrExist
			}
			return nil
		})
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	other, err := listedName(at, found)
	if err != nil {
		return err
	}
	if other == name { // it was put back
		return nil
	}
	again := volume.Errorf(volume.ErrBusy, "the directory %q was renamed or removed meanwhile: try again", directory)
	if other == "" {
		return again
	}
	still, err := stillOpens(at, name, found)
	if err != nil {
		return err
	}
	if !still { // it was renamed in there, as an archived directory is
		return again
	}
	return volume.Errorf(volume.ErrInvalid, "the directory %q has another name on the server, of which this is one more spelling (another case, a short name): write it as the server lists it", directory)
}

// stillOpens reports whether a name still opens the directory found, as the server has it now.
func stillOpens(at beneath.Dir, name string, found beneath.Dir) (bool, error) {
	now, err := beneath.ResolveCurrent(at, name)
	if err != nil {
		return false, ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP)
	}
	defer now.Close()
	node, err := beneath.NodeOf(found)
	if err != nil {
		return false, err
	}
	other, err := beneath.NodeOf(now)
	return other == node, err
}

// listedName returns the name by which at lists the directory found. "": by none.
func listedName(at, found beneath.Dir) (name string, err error) {
	node, err := beneath.NodeOf(found)
	if err != nil {
		return "", err
	}
	err = beneath.Names(at, func(listed string) error {
		d, err := at.Resolve(listed)
		if err != nil {
			return nil // it is no directory of this share, or none any more
		}
		defer d.Close()
		if other, err := beneath.NodeOf(d); err != nil || other != node {
			return err
		}
		name = listed
		return fs.ErrExist
	})
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return name, err
}

// openListed opens a directory name by name, each as the server lists it, and none of them .mooring.
func openListed(d *disk, directory string) (beneath.Dir, error) {
	at, err := d.root.Resolve("")
	if err != nil {
		return beneath.None, err
	}
	for _, p := range prefixes(directory) {
		next, err := openLevel(d, at, p)
		at.Close()
		if err != nil {
			return beneath.None, err
		}
		at = next
	}
	return at, nil
}

// openLevel opens the directory p, which is in at, for openListed.
func openLevel(d *disk, at beneath.Dir, p string) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	found, err := at.Resolve(name)
	if err != nil {
		return beneath.None, err
	}
	if err := checkDirectoryName(d, at, found, p); err != nil {
		found.Close()
		return beneath.None, err
	}
	return found, nil
}

// checkDirectoryName refuses what was opened in at as the directory p if it is .mooring, or is known by
// another name.
func checkDirectoryName(d *disk, at, found beneath.Dir, p string) error {
	if err := checkNotStateDir(d, found, p); err != nil {
		return err
	}
	_, name := volume.SplitDirectory(p)
	return checkListed(d, at, found, name, p)
}

// checkAdoptable refuses a directory that a volume is to adopt if it is known by another name, or is a
// share.
func checkAdoptable(d *disk, at beneath.Dir, directory string) error {
	found, err := openLevel(d, at, directory)
	if err != nil {
		return err
	}
	defer found.Close()
	in, err := innerShare(found)
	if err != nil || in == noShare {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "the directory %q holds %s/%s: it is a share itself, whose volumes a volume of this share would hold: register it as one, choose another directory, or remove %s from it if it is no share any more", directory, volume.StateDir, formatFile, volume.StateDir)
}
