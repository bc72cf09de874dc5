// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"io/fs"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A server may open one directory by several names: Windows short names (MOORIN~1), names in another case,
// names with another Unicode composition. volume.CheckDirectory and the claims compare spellings. What
// counts is which directory a name opens.

// checkNotStateDir refuses a directory that is .mooring, whatever name opened it. It asks the server only
// if the nodes are equal: another directory may have that node too, but then it has no format file.
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

// checkListed refuses name, which opened found in dir, if dir does not list it but lists found by another
// name: if a volume has the directory, its claim has that other name. Before it refuses, it lists dir
// without the client's cache: another controller on this machine may just have made the directory. If dir
// does not list found at all, another controller has just moved it away, or removed it as an idle parent.
func checkListed(d *disk, dir, found beneath.Dir, name, directory string) error {
	for _, list := range []func(beneath.Dir, func(string) error) error{beneath.Names, d.list} {
		err := list(dir, func(listed string) error {
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
	other, err := listedName(dir, found)
	if err != nil {
		return err
	}
	if other == name { // it was moved back
		return nil
	}
	again := volume.Errorf(volume.ErrBusy, "the directory %q was renamed or removed meanwhile: try again", directory)
	if other == "" {
		return again
	}
	still, err := stillOpens(dir, name, found)
	if err != nil {
		return err
	}
	if !still { // it was renamed to here, as an archived directory is
		return again
	}
	return volume.Errorf(volume.ErrInvalid, "the directory %q has another name on the server, and this is one more spelling of it (another case, a short name): write it as the server lists it", directory)
}

// stillOpens reports whether name still opens the directory found, according to the server.
func stillOpens(dir beneath.Dir, name string, found beneath.Dir) (bool, error) {
	now, err := beneath.ResolveCurrent(dir, name)
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

// listedName returns the name by which at lists the directory found, or "" if it does not list it.
func listedName(dir, found beneath.Dir) (name string, err error) {
	node, err := beneath.NodeOf(found)
	if err != nil {
		return "", err
	}
	err = beneath.Names(dir, func(listed string) error {
		d, err := dir.Resolve(listed)
		if err != nil {
			return nil // not a directory of this share, or not any more
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

// openListed opens a directory component by component. Each must have the name that the server lists, and
// none may be .mooring.
func openListed(d *disk, directory string) (beneath.Dir, error) {
	dir, err := d.root.Resolve("")
	if err != nil {
		return beneath.None, err
	}
	for _, p := range prefixes(directory) {
		next, err := openLevel(d, dir, p)
		dir.Close()
		if err != nil {
			return beneath.None, err
		}
		dir = next
	}
	return dir, nil
}

// openLevel opens the directory p, which is in dir, for openListed.
func openLevel(d *disk, dir beneath.Dir, p string) (beneath.Dir, error) {
	_, name := volume.SplitDirectory(p)
	found, err := dir.Resolve(name)
	if err != nil {
		return beneath.None, err
	}
	if err := checkDirectoryName(d, dir, found, p); err != nil {
		found.Close()
		return beneath.None, err
	}
	return found, nil
}

// checkDirectoryName refuses the directory p, opened in dir as found, if it is .mooring or if the server
// lists it by another name.
func checkDirectoryName(d *disk, dir, found beneath.Dir, p string) error {
	if err := checkNotStateDir(d, found, p); err != nil {
		return err
	}
	_, name := volume.SplitDirectory(p)
	return checkListed(d, dir, found, name, p)
}

// checkAdoptable refuses a directory that a volume wants to adopt if the server lists it by another name
// or if it is a share.
func checkAdoptable(d *disk, dir beneath.Dir, directory string) error {
	found, err := openLevel(d, dir, directory)
	if err != nil {
		return err
	}
	defer found.Close()
	in, err := innerShare(found)
	if err != nil || in == noShare {
		return err
	}
	return volume.Errorf(volume.ErrPrecondition, "the directory %q contains %s/%s: it is a share itself, and a volume of this share would contain its volumes: register it as one, choose another directory, or remove %s from it if it is no share any more", directory, volume.StateDir, formatFile, volume.StateDir)
}
