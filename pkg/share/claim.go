// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/beneath"
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
	for turn := range turns {
		if err := m.allowed(ctx); err != nil {
			return s.fail(what, err)
		}
		d, err := s.claimParent(parent, turn > 0)
		if err == nil {
			err = m.claimIn(d, name)
			d.Close()
		}
		// The parent may just have been tidied away.
		if !gone(err) || parent == "" {
			return s.fail(what, err)
		}
	}
	return s.confused(what)
}

func (m *Making) claimIn(d beneath.Dir, name string) error {
	s := m.s
	s.step("claim the directory")
	err := s.claim(m.rec, d, name)
	if !is(err, unix.EEXIST) {
		return err
	}
	key, err := readClaim(d, name)
	if is(err, unix.EISDIR) && s.free(m.rec.Directory) {
		return s.claim(m.rec, d, name)
	}
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
func (s *Share) claim(r volume.Record, d beneath.Dir, name string) error {
	err := s.volumes.Link(jsonName(r.Key), d, name)
	if !noLinks(err) {
		return err
	}
	data, err := r.Encode()
	if err != nil {
		return err
	}
	f, err := d.Write(name, unix.O_EXCL, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// claimParent opens the directory of claims for what is in parent, and makes it where it is not there.
func (s *Share) claimParent(parent string, again bool) (beneath.Dir, error) {
	d, err := s.descend(s.claims, parent, again, 0o700, func(string) error { return nil })
	return d, s.claimedAbove(parent, err)
}

// claimedAbove names the volume that is in the way where a parent is a volume.
func (s *Share) claimedAbove(parent string, err error) error {
	if !is(err, unix.ENOTDIR) {
		return err
	}
	for _, p := range prefixes(parent) {
		up, name := volume.SplitDirectory(p)
		d, e := s.claims.Resolve(up)
		if e != nil {
			break
		}
		key, e := readClaim(d, name)
		d.Close()
		if e == nil {
			return volume.Errorf(volume.ErrConflict, "share %s: the directory %q is that of volume %s, and no volume can be inside another; choose another subDir", s.def, p, key)
		}
	}
	return err
}

// parent opens the directory in which a volume's is to be, and makes what is missing of it.
// What we make is marked, so that it can go when it is not used any more; what was there
// stays. The mark comes first: one that is too many lets an empty directory go, at worst.
func (s *Share) parent(path string, again bool) (beneath.Dir, error) {
	return s.descend(s.root, path, again, 0o755, s.mark)
}

// descend opens the directory path beneath root, level by level, and makes those that are
// missing, each after before was called for it. What the client remembers costs nothing; again
// has it ask, because what it remembered was not there.
func (s *Share) descend(root beneath.Dir, path string, again bool, mode uint32, before func(path string) error) (beneath.Dir, error) {
	at, err := root.Resolve("")
	for _, p := range prefixes(path) {
		if err != nil {
			break
		}
		_, name := volume.SplitDirectory(p)
		next := beneath.None
		if again {
			err = at.Refresh()
		}
		if err == nil {
			next, err = at.Resolve(name)
		}
		if is(err, unix.ENOENT) {
			if err = before(p); err == nil {
				s.step("make a parent")
				err = ignore(at.Mkdir(name, mode), unix.EEXIST)
			}
			if err == nil {
				next, err = at.Resolve(name)
			}
		}
		at.Close()
		at = next
	}
	return at, err
}

func (s *Share) mark(parent string) error {
	d, err := s.claims.Resolve(parent)
	if err != nil {
		return err
	}
	defer d.Close()
	s.step("mark the parent as ours")
	f, err := d.Open(volume.StateDir, unix.O_CREAT|unix.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

// readClaim returns the key of the volume whose claim name is. EISDIR: there are claims beneath it.
func readClaim(d beneath.Dir, name string) (string, error) {
	data, _, err := d.Read(name, maxRecord)
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

// claimant returns the key of the volume that the directory belongs to, or "" where it is
// nobody's. On its word something is destroyed: it is the server's, and of now.
func (s *Share) claimant(r *Stored) (string, error) {
	parent, name := volume.SplitDirectory(r.Directory)
	d, err := s.claims.Resolve(parent)
	if err == nil {
		defer d.Close()
		err = d.Refresh()
	}
	if err == nil {
		var st unix.Stat_t
		// The claim is a link to the record until that is first changed: no need to read it then.
		if st, err = d.Stat(name); err == nil && st.Ino == r.stat.Ino && st.Dev == r.stat.Dev {
			return r.Key, nil
		}
	}
	if err == nil {
		var key string
		if key, err = readClaim(d, name); err == nil {
			return key, nil
		}
	}
	if unclaimed(err) && !s.gone() {
		return "", nil
	}
	return "", err
}

// release removes the claim of key on a directory, if it has it.
func (s *Share) release(directory, key string) error {
	parent, name := volume.SplitDirectory(directory)
	defer s.leaveParents(parent)
	d, err := s.claims.Resolve(parent)
	if err == nil {
		defer d.Close()
		var owner string
		if owner, err = readClaim(d, name); err == nil && owner == key {
			s.step("remove the claim")
			err = d.Unlink(name)
		}
	}
	if unclaimed(err) && !s.gone() {
		return nil
	}
	return err
}

// unclaimed reports whether an error of reading a claim says that there is none: nothing, or
// a volume above, or volumes below.
func unclaimed(err error) bool { return gone(err) || is(err, unix.ENOTDIR) || is(err, unix.EISDIR) }

// prefixes returns the parents of a directory and it itself, the outermost first: "a", "a/b".
func prefixes(path string) []string {
	var all []string
	for i, c := range path {
		if c == '/' {
			all = append(all, path[:i])
		}
	}
	if path != "" {
		all = append(all, path)
	}
	return all
}
