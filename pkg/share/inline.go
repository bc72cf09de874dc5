// SPDX-License-Identifier: Apache-2.0

package share

import (
	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Inline is a share as a node uses it for pods' inline volumes. Each operation opens it in a process of its
// own.
type Inline struct {
	s    *Share
	dirs beneath.Dir // contains the directories of pods
}

// OpenInline opens the share that is mounted at path for inline volumes. It does not sweep staging. Set
// layOut to make a directory: then the share is laid out if it has not been.
func OpenInline(path string, def volume.Share, layOut bool) (v *Inline, err error) {
	d := &disk{def: def, opt: Options{Run: volume.NewNonce()[:8], Initialize: layOut}, root: beneath.None, state: beneath.None, staging: beneath.None}
	defer d.wrapError(&err, "lay out %s", volume.StateDir)
	v = &Inline{s: newShare(d), dirs: beneath.None}
	defer func() {
		if err != nil {
			v.Close()
			v = nil
		}
	}()
	if d.root, err = beneath.OpenRoot(path); err != nil {
		return v, err
	}
	if err := (layout{v.s}).open(); err != nil || !v.s.formatted {
		return v, err
	}
	v.dirs, err = layout{v.s}.ensureDir(d.state, volume.InlineDir)
	return v, err
}

// Close closes the share. It does not unmount it.
func (v *Inline) Close() {
	closeAll(v.dirs)
	v.s.Close()
}

// Make makes and opens the directory of a pod's volume, inline/<key>, with the mode 0777, as an
// emptyDir has. If it exists, it is the same volume's: this is a retry.
func (v *Inline) Make(key string) (dir beneath.Dir, err error) {
	defer v.s.wrapError(&err, "make the directory of inline volume %s", key)
	if err := ignore(v.dirs.Mkdir(key, 0o777), unix.EEXIST); err != nil {
		return beneath.None, err
	}
	return v.dirs.Resolve(key)
}

// Trash moves the directory of a pod's volume to trash/<key>.<nonce>.leftover, where it is purged
// at once. It succeeds if there is no such directory. Keys are not used twice: they contain the
// pod's UID.
func (v *Inline) Trash(key string) (err error) {
	defer v.s.wrapError(&err, "delete inline volume %s", key)
	if err := v.s.checkInitialized(); err != nil {
		return err
	}
	id := volume.TrashID(volume.TrashLeftover, key, volume.NewNonce())
	return ignore(v.dirs.Rename(key, v.s.Trash.dir, id), unix.ENOENT)
}

// Open opens an existing directory that is no volume's, and is neither inside one nor contains one.
func (v *Inline) Open(directory string) (dir beneath.Dir, err error) {
	s := v.s
	defer s.wrapError(&err, "open the directory %q", directory)
	if err := s.claims.checkUnowned(directory); err != nil {
		return beneath.None, err
	}
	dir, err = openListed(s.disk, directory)
	if is(err, unix.ENOENT) {
		return beneath.None, volume.Errorf(volume.ErrPrecondition, "the directory %q does not exist: make it on the server, or leave subDir out to get a new one", directory)
	}
	return dir, err
}
