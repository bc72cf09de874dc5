// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"os"
	"path"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Kind says what an entry of the trash was: "volume", "snapshot", or "leftover" of a copy or a pod.
func (e Trashed) Kind() string {
	switch {
	case e.passing():
		return "leftover"
	case e.snapshot():
		return string(volume.OfSnapshot)
	}
	return string(volume.OfVolume)
}

// Whole reports whether the entry is a volume, or a snapshot, with all that it had.
func (e Trashed) Whole() bool { return e.data && e.Recorded() && !e.purging && !e.passing() }

// Purging reports whether a purger has begun with it.
func (e Trashed) Purging() bool { return e.purging }

// Laid reports whether anything of Mooring's is on the share.
func (s *Share) Laid() bool { return s.volumes != beneath.None }

// DeletedRecord reads the record of a deleted volume, or snapshot's, of which only one is
// returned. Both are nil where there is none.
func (s *Share) DeletedRecord(e Trashed) (*volume.Record, *volume.SnapshotRecord, error) {
	what := "read the record of " + e.Name + " in the trash"
	if e.snapshot() {
		name := e.Name
		if e.purging {
			name += purgingSuffix
		}
		d, err := s.trash.Resolve(name)
		if err != nil {
			return nil, nil, s.fail(what, ignore(err, unix.ENOENT))
		}
		defer d.Close()
		data, _, err := d.Read(recordFile, maxRecord)
		if err != nil {
			return nil, nil, s.fail(what, ignore(err, unix.ENOENT))
		}
		r, err := volume.DecodeSnapshotRecord(e.Key, data)
		return nil, r, err
	}
	if !e.recorded {
		return nil, nil, nil
	}
	data, _, err := s.trash.Read(jsonName(e.Name), maxRecord)
	if err != nil {
		return nil, nil, s.fail(what, ignore(err, unix.ENOENT))
	}
	r, err := volume.DecodeRecord(e.Key, data)
	return r, nil, err
}

// Tree opens a volume's directory for reading what is in it. The caller closes it.
func (s *Share) Tree(ctx context.Context, directory string) (*os.File, error) {
	what := fmt.Sprintf("open the directory %q", directory)
	if err := ctx.Err(); err != nil {
		return nil, s.fail(what, err)
	}
	d, err := s.root.Resolve(directory)
	if err != nil {
		return nil, s.fail(what, err)
	}
	return os.NewFile(uintptr(d), directory), nil
}

// Place is what is at one path beneath the share: a directory, or a claim on one, or both.
type Place struct {
	Directory string
	There     bool // the directory is
	Claimed   bool
}

// Places calls each for every directory beneath the share that is claimed, and for those that
// are not but could be a volume: they are neither Mooring's own nor a parent of volumes.
func (s *Share) Places(ctx context.Context, each func(Place) error) error {
	return s.fail("look through the directories", s.places(ctx, s.root, s.claims, "", each))
}

func (s *Share) places(ctx context.Context, root, claims beneath.Dir, at string, each func(Place) error) error {
	claimed := map[string]bool{} // and whether it is a parent
	err := claims.Entries(func(name string, isDir bool) error {
		if name != volume.StateDir {
			claimed[name] = isDir
		}
		return ctx.Err()
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	err = root.Entries(func(name string, isDir bool) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		parent, known := claimed[name]
		where := path.Join(at, name)
		switch {
		case !isDir, at == "" && name == volume.StateDir:
			return nil
		case !parent:
			delete(claimed, name)
			return each(Place{where, true, known})
		}
		delete(claimed, name)
		return s.below(ctx, root, claims, name, where, each)
	})
	for name, parent := range claimed {
		where := path.Join(at, name)
		switch {
		case err != nil:
		case parent:
			err = s.below(ctx, beneath.None, claims, name, where, each)
		default:
			err = each(Place{where, false, true})
		}
	}
	return err
}

// below goes into a directory that is a parent of volumes. root is none where it is not there.
func (s *Share) below(ctx context.Context, root, claims beneath.Dir, name, at string, each func(Place) error) error {
	c, err := claims.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT) // tidied away meanwhile
	}
	defer c.Close()
	r := beneath.None
	if root != beneath.None {
		if r, err = root.Resolve(name); ignore(err, unix.ENOENT) != nil {
			return err
		}
		if r != beneath.None {
			defer r.Close()
		}
	}
	return s.places(ctx, r, c, at, each)
}

// ClaimedFor returns the key of the volume that has the claim on a directory, or "".
func (s *Share) ClaimedFor(ctx context.Context, directory string) (string, error) {
	err := ctx.Err()
	var key string
	if err == nil {
		parent, name := volume.SplitDirectory(directory)
		var d beneath.Dir
		if d, err = s.claims.Resolve(parent); err == nil {
			key, err = readClaim(d, name)
			d.Close()
		}
	}
	if unclaimed(err) {
		return "", nil
	}
	return key, s.fail(fmt.Sprintf("read the claim on %q", directory), err)
}
