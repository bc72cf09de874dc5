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

// notOwn refuses a directory that is .mooring, by whatever name it was opened.
func notOwn(d *disk, found beneath.Dir, directory string) error {
	if d.state == beneath.None {
		return nil
	}
	own, err := d.state.Self()
	if err != nil {
		return err
	}
	st, err := found.Self()
	if err != nil {
		return err
	}
	if inodeOf(st) != inodeOf(own) {
		return nil
	}
	return volume.Errorf(volume.ErrInvalid, "the directory %q is another name of %s on the server, which is Mooring's own: choose another", directory, volume.StateDir)
}

// asListed refuses the name of a directory in at by which at does not list it: the claims know the
// directory by another name, if a volume has it. A parent that lets nobody list it is let by.
func asListed(at beneath.Dir, name, directory string) error {
	err := beneath.Names(at, func(listed string) error {
		if listed == name {
			return fs.ErrExist
		}
		return nil
	})
	if errors.Is(err, fs.ErrExist) || is(err, unix.EACCES, unix.EPERM) {
		return nil
	}
	if err != nil {
		return err
	}
	return volume.Errorf(volume.ErrInvalid, "the directory %q has another name on the server, of which this is one more spelling (another case, a short name): write it as the server lists it", directory)
}

// openListed opens a directory name by name, each as the server lists it, and none of them .mooring.
func openListed(d *disk, directory string) (beneath.Dir, error) {
	at, err := d.root.Resolve("")
	for _, p := range prefixes(directory) {
		if err != nil {
			return beneath.None, err
		}
		var next beneath.Dir
		next, err = openLevel(d, at, p)
		at.Close()
		at = next
	}
	return at, err
}

func openLevel(d *disk, at beneath.Dir, p string) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	next, err := at.Resolve(name)
	if err != nil {
		return beneath.None, err
	}
	err = notOwn(d, next, p)
	if err == nil {
		err = asListed(at, name, p)
	}
	if err != nil {
		next.Close()
		return beneath.None, err
	}
	return next, nil
}

// adoptable opens a directory that a volume is to adopt, and refuses one that is known by another
// name, or is a share.
func adoptable(d *disk, at beneath.Dir, directory string) error {
	found, err := openLevel(d, at, directory)
	if err != nil {
		return err
	}
	defer found.Close()
	in, err := innerShare(found)
	if err != nil || in == noShare {
		return err
	}
	return volume.Errorf(volume.ErrConflict, "the directory %q holds %s/%s: it is a share itself, whose volumes a volume of this share would hold: register it as one, choose another directory, or remove %s from it if it is no share any more", directory, volume.StateDir, formatFile, volume.StateDir)
}
