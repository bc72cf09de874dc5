// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Claim takes the volume's directory for this volume, create-once. It fails with ErrConflict
// where the directory, one above it or one inside it is another volume's: the claims form
// the same tree as the directories, with a file for a volume and a directory for a parent,
// and the file system does not let one name be both.
func (m *Making) Claim(ctx context.Context) error {
	s := m.s
	what := fmt.Sprintf("claim the directory %q for volume %s", m.rec.Directory, m.rec.Key)
	parent, name := volume.SplitDirectory(m.rec.Directory)
	for range turns {
		if err := m.allowed(ctx); err != nil {
			return s.fail(what, err)
		}
		d, err := s.claimParent(parent)
		if err == nil {
			err = m.claimIn(d, name)
			d.close()
		}
		// ENOENT: the last volume beneath the parent was deleted, and the parent with it.
		if !is(err, unix.ENOENT) || parent == "" {
			return s.fail(what, err)
		}
	}
	return volume.Errorf(volume.ErrBusy, "share %s: %s: its parent is removed again and again", s.def, what)
}

func (m *Making) claimIn(d dir, name string) error {
	s := m.s
	s.step("claim the directory")
	err := s.claim(m.rec, d, name)
	if !is(err, unix.EEXIST) {
		return err
	}
	key, err := readClaim(d, name)
	switch {
	case is(err, unix.EISDIR):
		return volume.Errorf(volume.ErrConflict, "share %s: the directory %q cannot be a volume: there are volumes inside it; choose another subDir", s.def, m.rec.Directory)
	case err != nil:
		return err
	case key != m.rec.Key:
		return volume.Errorf(volume.ErrConflict, "share %s: the directory %q is that of volume %s: two volumes cannot share a directory; choose a subDir that differs for each PVC", s.def, m.rec.Directory, key)
	}
	return nil
}

// claim makes name in d a claim of the record's volume, create-once.
func (s *Share) claim(r volume.Record, d dir, name string) error {
	err := s.volumes.link(jsonName(r.Key), d, name)
	if !noLinks(err) {
		return err
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	f, err := d.write(name, unix.O_EXCL, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// claimParent opens the directory of claims for what is in parent, and makes it where it is not there.
func (s *Share) claimParent(parent string) (dir, error) {
	d, err := s.claims.resolve(parent)
	if is(err, unix.ENOENT) {
		for _, p := range prefixes(parent) {
			if err := s.mkdirAt(s.claims, p, 0o700, nil); err != nil {
				return -1, s.claimedAbove(parent, err)
			}
		}
		d, err = s.claims.resolve(parent)
	}
	return d, s.claimedAbove(parent, err)
}

// claimedAbove names the volume that is in the way where a parent is a volume.
func (s *Share) claimedAbove(parent string, err error) error {
	if !is(err, unix.ENOTDIR) {
		return err
	}
	for _, p := range prefixes(parent) {
		up, name := volume.SplitDirectory(p)
		d, e := s.claims.resolve(up)
		if e != nil {
			break
		}
		key, e := readClaim(d, name)
		d.close()
		if e == nil {
			return volume.Errorf(volume.ErrConflict, "share %s: the directory %q is that of volume %s, and no volume can be inside another; choose another subDir", s.def, p, key)
		}
	}
	return err
}

// mkdirAt makes the directory path, whose parent is there, beneath root. It calls made if
// it was this call that made it.
func (s *Share) mkdirAt(root dir, path string, mode uint32, made func() error) error {
	up, name := volume.SplitDirectory(path)
	d, err := root.resolve(up)
	if err != nil {
		return err
	}
	defer d.close()
	s.step("make a parent")
	err = d.mkdir(name, mode)
	if err == nil && made != nil {
		err = made()
	}
	return ignore(err, unix.EEXIST)
}

// parent opens the directory in which a volume's is to be, and makes what is missing of it.
// What we make is marked, so that it goes when its last volume does; what was there stays.
func (s *Share) parent(path string) (dir, error) {
	d, err := s.root.resolve(path)
	if !is(err, unix.ENOENT) {
		return d, err
	}
	for _, p := range prefixes(path) {
		err := s.mkdirAt(s.root, p, 0o755, func() error { return s.mark(p) })
		if err != nil {
			return -1, err
		}
	}
	return s.root.resolve(path)
}

func (s *Share) mark(parent string) error {
	d, err := s.claims.resolve(parent)
	if err != nil {
		return err
	}
	defer d.close()
	s.step("mark the parent as ours")
	f, err := d.open(volume.StateDir, unix.O_CREAT|unix.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

// readClaim returns the key of the volume whose claim name is. EISDIR: there are claims beneath it.
func readClaim(d dir, name string) (string, error) {
	data, _, err := d.read(name)
	if err != nil {
		return "", err
	}
	var claim struct {
		Key string `json:"key"`
	}
	if err := json.Unmarshal(data, &claim); err != nil || claim.Key == "" {
		return "", volume.Errorf(volume.ErrDamaged, "the claim %s/claims/.../%s on the share is damaged (%v): remove it once it is clear which volume the directory belongs to", volume.StateDir, name, err)
	}
	return claim.Key, nil
}

// claimant returns the key of the volume that the directory belongs to, or "" where it is nobody's.
func (s *Share) claimant(r *Stored) (string, error) {
	parent, name := volume.SplitDirectory(r.Directory)
	d, err := s.claims.resolve(parent)
	if err == nil {
		defer d.close()
		var st unix.Stat_t
		// The claim is a link to the record until that is first changed: no need to read it then.
		if st, err = d.stat(name); err == nil && st.Ino == r.stat.Ino && st.Dev == r.stat.Dev {
			return r.Key, nil
		}
	}
	if err == nil {
		var key string
		if key, err = readClaim(d, name); err == nil {
			return key, nil
		}
	}
	if is(err, unix.ENOENT) || is(err, unix.ENOTDIR) || is(err, unix.EISDIR) {
		return "", nil
	}
	return "", err
}

// release removes the claim of key on a directory, if it has it, and then the parents that
// were made for volumes and have none any more.
func (s *Share) release(directory, key string) error {
	parent, name := volume.SplitDirectory(directory)
	d, err := s.claims.resolve(parent)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer d.close()
	if owner, err := readClaim(d, name); err != nil || owner != key {
		return ignore(err, unix.ENOENT)
	}
	return s.unclaim(d, parent, name)
}

// unclaim removes a claim that is known to be ours.
func (s *Share) unclaim(d dir, parent, name string) error {
	s.step("remove the claim")
	if err := ignore(d.unlink(name), unix.ENOENT); err != nil {
		return err
	}
	return s.removeParents(parent)
}

// removeParents goes up from path for as long as no volume is beneath, and removes of the
// parents those that are marked as ours and empty. That it does not get far is no failure.
func (s *Share) removeParents(path string) error {
	for path != "" {
		up, name := volume.SplitDirectory(path)
		d, err := s.claims.resolve(path)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		_, unmarked := d.stat(volume.StateDir)
		if unmarked == nil {
			s.step("remove an empty parent")
			if at, err := s.root.resolve(up); err == nil {
				err = at.rmdir(name)
				at.close()
				if err == nil || is(err, unix.ENOENT) {
					s.step("remove the parent's mark")
					unmarked = d.unlink(volume.StateDir)
				}
			}
		}
		d.close()
		at, err := s.claims.resolve(up)
		if err != nil {
			return err
		}
		s.step("remove the parent's claims")
		err = at.rmdir(name)
		at.close()
		if err != nil { // something is left in it: a claim, or the mark of a parent that is in use
			return nil
		}
		path = up
	}
	return nil
}
