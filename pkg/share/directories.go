// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"os"
	"path"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Directories are the directories on a share that are volumes, or can become volumes.
type Directories struct {
	*disk
	claims *claims
}

// Exists reports whether the directory exists, with or without a claim. ErrPrecondition: a file or
// a symbolic link is there.
func (d *Directories) Exists(ctx context.Context, directory string) (there bool, err error) {
	defer d.wrapError(&err, "check whether the directory %q exists", directory)
	if err := ctx.Err(); err != nil {
		return false, err
	}
	found, err := d.find(directory)
	if isMissing(err) {
		// The answer may come from this client's cache: another client may have created it since.
		found, err = beneath.ResolveCurrent(d.root, directory)
	}
	if err != nil {
		return false, ignore(err, unix.ENOENT)
	}
	found.Close()
	return true, nil
}

// find opens a directory by its name, after a refresh of its parent.
func (d *Directories) find(directory string) (beneath.Dir, error) {
	parent, name := volume.SplitDirectory(directory)
	at, err := d.root.Resolve(parent)
	if err != nil {
		return beneath.None, err
	}
	defer at.Close()
	if err := at.Refresh(); err != nil {
		return beneath.None, err
	}
	return at.Resolve(name)
}

// Open opens a volume's directory for reading. The caller closes it. It fails with ErrPrecondition
// if the directory does not exist.
func (d *Directories) Open(ctx context.Context, directory string) (f *os.File, err error) {
	defer d.wrapError(&err, "open the directory %q", directory)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found, err := d.root.Resolve(directory)
	if is(err, unix.ENOENT) {
		return nil, volume.Errorf(volume.ErrPrecondition, "the directory %q does not exist: somebody removed it", directory)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(found), directory), nil
}

// Owner returns the key of the volume that has the claim on a directory, or "".
func (d *Directories) Owner(ctx context.Context, directory string) (key string, err error) {
	defer d.wrapError(&err, "read the claim on %q", directory)
	if err := ctx.Err(); err != nil {
		return "", err
	}
	has, err := d.claims.ownerOf(directory)
	return has.key, err
}

// PathState is the state of one path on the share: it is a directory, or claimed, or both.
type PathState struct {
	Directory string
	Exists    bool // the directory exists
	Claimed   bool
}

// Walk calls each for every claimed directory on the share, and for every other directory that
// could become a volume: it is neither Mooring's own nor a parent of volumes.
func (d *Directories) Walk(ctx context.Context, each func(PathState) error) (err error) {
	defer d.wrapError(&err, "walk the directories")
	return d.walk(ctx, d.root, d.claims.dir, "", each)
}

func (d *Directories) walk(ctx context.Context, root, claims beneath.Dir, at string, each func(PathState) error) error {
	claimed := map[string]bool{}
	err := beneath.Entries(claims, func(name string, _ bool) error {
		claimed[name] = true
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	err = beneath.Entries(root, func(name string, isDir bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !isDir || at == "" && name == volume.StateDir {
			return nil
		}
		where := path.Join(at, name)
		known := claimed[name]
		delete(claimed, name)
		if !known {
			return each(PathState{where, true, false})
		}
		return d.walkClaimed(ctx, root, claims, name, where, each)
	})
	if err != nil {
		return err
	}
	for name := range claimed {
		if err := d.walkClaimed(ctx, beneath.None, claims, name, path.Join(at, name), each); err != nil {
			return err
		}
	}
	return nil
}

// walkClaimed calls each for a claimed directory, or walks a parent of claimed directories. root is
// None if the directory that should have it does not exist.
func (d *Directories) walkClaimed(ctx context.Context, root, claims beneath.Dir, name, at string, each func(PathState) error) error {
	x, err := claims.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT) // released in the meantime
	}
	defer x.Close()
	taken, err := x.Resolve(takenName)
	if is(err, unix.ENOTDIR) {
		return each(PathState{at, root != beneath.None, true})
	}
	if is(err, unix.ENOENT) {
		if root == beneath.None {
			return nil
		}
		return each(PathState{at, true, false})
	}
	if err != nil {
		return err
	}
	defer taken.Close()
	in := beneath.None
	if root != beneath.None {
		if in, err = root.Resolve(name); ignore(err, unix.ENOENT) != nil {
			return err
		}
		defer closeAll(in)
	}
	return d.walk(ctx, in, taken, at, each)
}
