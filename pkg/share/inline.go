// SPDX-License-Identifier: Apache-2.0

package share

import (
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Inline is a share as a node uses it for pods' inline volumes. Whoever opens it is a process
// of its own, for one operation.
type Inline struct {
	s    *Share
	dirs beneath.Dir // of the directories that are made for pods
}

// OpenInline opens the share that is mounted at path for inline volumes. Nothing is swept.
func OpenInline(path string, def volume.Share) (*Inline, error) {
	s := &Share{def: def, opt: Options{Run: randomHex(4)}, root: beneath.None}
	for _, d := range s.own() {
		*d = beneath.None
	}
	v := &Inline{s: s, dirs: beneath.None}
	err := s.layOut(path)
	if err == nil {
		var state beneath.Dir
		if state, err = s.root.Resolve(volume.StateDir); err == nil {
			v.dirs, err = s.ensure(state, volume.InlineDir)
			state.Close()
		}
	}
	if err != nil {
		v.Close()
		return nil, s.fail("lay out "+volume.StateDir, err)
	}
	return v, nil
}

// Close lets go of the share. It does not unmount it.
func (v *Inline) Close() {
	if v.dirs >= 0 {
		v.dirs.Close()
	}
	v.s.Close()
}

// Make makes the directory of a pod's volume, for everybody to write in as an emptyDir is, and
// returns its descriptor. One that is there is the same volume's: a retry.
func (v *Inline) Make(key string) (int, error) {
	what := "make the directory of inline volume " + key
	if err := v.dirs.Mkdir(key, 0o777); ignore(err, unix.EEXIST) != nil {
		return -1, v.s.fail(what, err)
	}
	d, err := v.dirs.Resolve(key)
	return int(d), v.s.fail(what, err)
}

// Trash moves the directory of a pod's volume into the trash, where it is purged at once. One
// that is not there is gone already.
func (v *Inline) Trash(key string) error {
	err := v.dirs.Rename(key, v.s.trash, trashName(key, time.Now())+inlineSuffix)
	return v.s.fail("delete inline volume "+key, ignore(err, unix.ENOENT))
}

// Open returns the descriptor of a directory that is there and in which no volume has a part.
func (v *Inline) Open(directory string) (int, error) {
	s := v.s
	what := fmt.Sprintf("open the directory %q", directory)
	if err := s.nobodys(directory); err != nil {
		return -1, s.fail(what, err)
	}
	d, err := s.root.Resolve(directory)
	if is(err, unix.ENOENT) {
		return -1, volume.Errorf(volume.ErrConflict, "share %s: the directory %q is not there: make it on the server, or leave subDir out to get a new one", s.def, directory)
	}
	return int(d), s.fail(what, err)
}

// nobodys refuses a directory that is a volume's, or lies in one's, or holds one's.
func (s *Share) nobodys(directory string) error {
	for _, p := range prefixes(directory) {
		parent, name := volume.SplitDirectory(p)
		d, err := s.claims.Resolve(parent)
		if is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		key, err := readClaim(d, name)
		d.Close()
		switch {
		case err == nil:
			return volume.Errorf(volume.ErrRefused, "share %s: the directory %q belongs to volume %s: use that volume's claim", s.def, p, key)
		case is(err, unix.ENOENT):
			return nil // and so is nothing beneath it
		case !is(err, unix.EISDIR):
			return err
		}
	}
	d, err := s.claims.Resolve(directory)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Names(func(name string) error {
		if name == volume.StateDir {
			return nil
		}
		return volume.Errorf(volume.ErrRefused, "share %s: the directory %q holds those of volumes: choose one that does not", s.def, directory)
	})
}
