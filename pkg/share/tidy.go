// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// ParentIdle is how long nobody must have used a parent that was made for volumes before it
// is removed. It is far longer than an NFS client remembers a directory (nfs(5), acdirmax:
// 60 s): another controller that still believed in one would make and delete volumes in a
// directory that is no more.
const ParentIdle = 10 * time.Minute

// leaveParents notes that a volume has left the directories above it.
func (s *Share) leaveParents(parent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range prefixes(parent) {
		s.parents[p] = time.Now()
	}
}

// findParents notes the parents that earlier processes have left.
func (s *Share) findParents(claims beneath.Dir, at string) error {
	return claims.Entries(func(name string, isDir bool) error {
		if !isDir {
			return nil
		}
		below, err := claims.Resolve(name)
		if err != nil {
			return err
		}
		defer below.Close()
		s.leaveParents(path.Join(at, name))
		return s.findParents(below, path.Join(at, name))
	})
}

// Tidy removes the parents that were made for volumes and that no volume has been in for so
// long, the innermost first. One that holds anything else stays.
func (s *Share) Tidy(ctx context.Context, idle time.Duration) error {
	s.mu.Lock()
	var due []string
	for p, left := range s.parents {
		if time.Since(left) >= idle {
			due = append(due, p)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(due, func(a, b string) int { return len(b) - len(a) })
	for _, p := range due {
		err := ctx.Err()
		if err == nil {
			err = s.tidyParent(p, idle)
		}
		if err != nil {
			return s.fail(fmt.Sprintf("remove the empty directory %q", p), err)
		}
	}
	return nil
}

func (s *Share) tidyParent(parent string, idle time.Duration) error {
	d, err := s.claims.Resolve(parent)
	if err != nil {
		s.forgetParent(parent)
		return ignore(err, unix.ENOENT)
	}
	defer d.Close()
	used, marked := false, false
	err = d.Names(func(name string) error {
		marked = marked || name == volume.StateDir
		used = used || name != volume.StateDir
		return nil
	})
	if err != nil {
		return err
	}
	if st, err := d.Self(); err != nil || !used && time.Since(time.Unix(st.Mtim.Unix())) < idle {
		return err // another controller has used it: later
	}
	s.forgetParent(parent) // until a volume leaves it again
	if used {
		return nil
	}
	up, name := volume.SplitDirectory(parent)
	if marked {
		at, err := s.root.Resolve(up)
		if err == nil {
			s.step("remove an empty parent")
			err = at.Rmdir(name)
			at.Close()
		}
		if err := ignore(err, unix.ENOENT); err != nil {
			return ignore(ignore(err, unix.ENOTEMPTY), unix.EEXIST)
		}
		s.step("remove the parent's mark")
		if err := ignore(d.Unlink(volume.StateDir), unix.ENOENT); err != nil {
			return err
		}
	}
	at, err := s.claims.Resolve(up)
	if err != nil {
		return err
	}
	defer at.Close()
	s.step("remove the parent's claims")
	return ignore(ignore(at.Rmdir(name), unix.ENOTEMPTY), unix.EEXIST)
}

// free removes a parent of volumes, and the parents in it, now, because it is itself to be a
// volume. It reports false where there is a volume beneath.
func (s *Share) free(parent string) bool {
	d, err := s.claims.Resolve(parent)
	if err != nil {
		return is(err, unix.ENOENT)
	}
	var below []string
	err = d.Names(func(name string) error {
		if name != volume.StateDir {
			below = append(below, path.Join(parent, name))
		}
		return nil
	})
	d.Close()
	for _, p := range below {
		if err != nil || !s.free(p) {
			return false
		}
	}
	if err != nil || s.tidyParent(parent, 0) != nil {
		return false
	}
	d, err = s.claims.Resolve(parent)
	if err == nil {
		d.Close()
	}
	return is(err, unix.ENOENT)
}

func (s *Share) forgetParent(parent string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.parents, parent)
}
