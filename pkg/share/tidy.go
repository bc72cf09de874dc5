// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Tidy removes the parents that were made for volumes and that no volume has been in for so
// long, the innermost first. One that holds anything else stays.
//
// Where the format of the share requires by now what this program does not know, it is ErrConflict,
// and the share is lost: nobody works on it until that program is upgraded.
func (s *Share) Tidy(ctx context.Context, idle time.Duration) error {
	if err := s.formatStands(ctx); err != nil {
		return err
	}
	return s.claims.tidy(ctx, idle)
}

// formatStands looks whether a later Mooring has changed the format since the share was opened.
func (s *Share) formatStands(ctx context.Context) (err error) {
	defer s.explain(&err, "read the format")
	if err := ctx.Err(); err != nil {
		return err
	}
	data, _, err := s.state.Read(formatFile, maxRecord)
	if err != nil || len(data) == 0 {
		return ignore(err, unix.ENOENT) // a check tells of that
	}
	format, err := volume.DecodeFormat(data)
	if err != nil {
		return err
	}
	if err := format.CheckRequires(); err != nil {
		s.lost.Store(true)
		return err
	}
	return nil
}

func (c *claims) tidy(ctx context.Context, idle time.Duration) (err error) {
	parent := ""
	defer func() { c.explain(&err, "remove the empty directory %q", parent) }()
	due, err := c.idleParents(ctx, idle)
	if err != nil {
		return err
	}
	for _, parent = range due {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.tidyParent(parent); err != nil {
			return err
		}
	}
	return nil
}

// idleParents returns the parents that nobody has used for so long, as far as this process
// knows: one that it sees for the first time has just been used.
func (c *claims) idleParents(ctx context.Context, idle time.Duration) ([]string, error) {
	all := map[string]bool{}
	err := beneath.Names(c.parents, func(name string) error {
		if p, ok := parentOf(name); ok {
			all[p] = true
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var due []string
	for p := range all {
		left, known := c.left[p]
		if !known {
			left = time.Now()
			c.left[p] = left
		}
		if time.Since(left) >= idle {
			due = append(due, p)
		}
	}
	slices.SortFunc(due, func(a, b string) int { return len(b) - len(a) })
	return due, nil
}

func (c *claims) forgetParent(parent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.left, parent)
}

// tidyParent removes a parent directory, its claims and its note, if it is empty. It first
// bars the way for claims beneath it. Then it takes the directory away into the directory of
// claims, by a handle that is dead before the name can be a volume's.
func (c *claims) tidyParent(parent string) error {
	up, name := volume.SplitDirectory(parent)
	at, err := c.openParent(up)
	if volume.Kind(err) == volume.ErrConflict { // what it is in is a volume's
		return c.forgetNote(parent, nil)
	}
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // tidied away at the same time: later
	}
	defer at.Close()
	x, err := at.Resolve(name)
	if is(err, unix.ENOENT) { // no volume ever came to be in it
		return c.tidyUnclaimed(at, parent)
	}
	if err != nil {
		return err
	}
	defer x.Close()
	return c.tidyIn(at, x, parent)
}

// tidyUnclaimed makes the directory of claims of a parent that has none, so that it can be
// removed like any other.
func (c *claims) tidyUnclaimed(at beneath.Dir, parent string) error {
	_, name := volume.SplitDirectory(parent)
	if err := c.makeParent(at, name, parent); err != nil {
		return err
	}
	x, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer x.Close()
	return c.tidyIn(at, x, parent)
}

func (c *claims) tidyIn(at, x beneath.Dir, parent string) error {
	up, name := volume.SplitDirectory(parent)
	c.step("remove the claims of an empty parent")
	err := x.Rmdir(takenName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		c.leaveParents(parent) // in use: later
		return c.sweepEmpty(x, parent)
	}
	if is(err, unix.ENOTDIR) {
		return c.tidyBarred(x, parent) // a volume, or a bar that was left
	}
	if err := ignore(err, unix.ENOENT); err != nil {
		return err
	}
	c.step("bar the parent")
	if err := touch(x, takenName, unix.O_EXCL); err != nil {
		return ignore(err, unix.EEXIST, unix.EISDIR, unix.ENOENT, unix.ESTALE)
	}
	ours, err := c.noted(directoryNote, parent)
	if err != nil {
		return err
	}
	kept := false
	if ours {
		if kept, err = c.takeAway(x, up, name); err != nil {
			return err
		}
	}
	if ours && !kept && x.Refresh() == nil {
		// Under the bar, as the next who makes the directory notes it anew.
		if err := c.unnote(directoryNote, parent); err != nil {
			return err
		}
	}
	c.step("remove the bar")
	if err := x.Unlink(takenName); err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // of another by now, who has broken the bar
	}
	c.step("remove the directory of the claim")
	err = at.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		return c.removeUnclaimed(at, x, parent)
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	c.forgetParent(parent) // if it was kept, later perhaps
	return c.unnote(claimsNote, parent)
}

// maxSweep is how many directories of claims are looked at to find empty ones among them.
const maxSweep = 64

// sweepEmpty removes the empty directories of claims that interrupted processes have left in a
// parent of few.
func (c *claims) sweepEmpty(x beneath.Dir, parent string) error {
	at, err := x.Resolve(takenName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer at.Close()
	var below []string
	err = beneath.Names(at, func(name string) error {
		below = append(below, name)
		return nil
	})
	if err != nil || len(below) > maxSweep {
		return err
	}
	for _, name := range below {
		c.step("remove an empty directory of claims")
		_ = at.Rmdir(name)
	}
	return nil
}

// removeEmpty removes a directory of claims if nothing is in it.
func (c *claims) removeEmpty(directory string) {
	up, name := volume.SplitDirectory(directory)
	at, err := c.dir.Resolve(claimPath(up))
	if err != nil {
		return
	}
	defer at.Close()
	c.step("remove an empty directory of claims")
	_ = at.Rmdir(name)
}

// tidyBarred removes the bar that a process has left which died while it tidied.
func (c *claims) tidyBarred(x beneath.Dir, parent string) error {
	_, err := c.owner(x)
	if err == nil {
		return c.forgetNote(parent, nil) // it is a volume's
	}
	if errors.Is(err, errBarred) {
		err = c.unbar(x, parent)
		if volume.Kind(err) == volume.ErrBusy {
			return nil
		}
	}
	return ignore(err, unix.ENOENT, unix.ESTALE, unix.EISDIR)
}

// errBarred: a directory of claims is that of a parent that is just being tidied away.
var errBarred = busy("no volume is in the parent directory, which is just being removed")

// unbar removes the bar of a parent, and puts the parent back if there is something in it. ErrBusy:
// whoever tidies may still be at it.
func (c *claims) unbar(x beneath.Dir, parent string) error {
	st, err := x.Stat(takenName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE)
	}
	age, err := c.age(st.Mtim)
	if err != nil {
		return err
	}
	if age <= c.opt.Lease {
		return errBarred
	}
	up, name := volume.SplitDirectory(parent)
	if err := c.putBack(x, up, name); err != nil {
		return err
	}
	c.step("remove the bar")
	return ignore(x.Unlink(takenName), unix.ENOENT, unix.ESTALE)
}

// takeAway moves a parent directory into its directory of claims and removes it there. kept:
// something is in it, and it is in its place again, or what is there cannot be seen for now.
func (c *claims) takeAway(x beneath.Dir, up, name string) (kept bool, err error) {
	at, err := c.root.Resolve(up)
	if err != nil { // ESTALE: what this client remembers above it is gone
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	defer at.Close()
	d, err := at.Resolve(name)
	if err != nil {
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	empty, err := beneath.Empty(d) // of most that are not it is seen here
	d.Close()
	if err != nil || !empty {
		return true, ignore(err, unix.ESTALE)
	}
	c.step("take an empty parent away")
	if err := at.Rename(name, x, deadName); err != nil {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return c.removeDead(x, at, name)
}

func (c *claims) removeDead(x, at beneath.Dir, name string) (kept bool, err error) {
	c.step("remove an empty parent")
	err = x.Rmdir(deadName)
	if !is(err, unix.ENOTEMPTY, unix.EEXIST) {
		return false, ignore(err, unix.ENOENT)
	}
	c.step("put the parent back")
	return true, x.Rename(deadName, at, name)
}

// removeUnclaimed removes a directory of claims in which there is no claim. If it is not empty, a
// late process that tidied has moved the directory itself into it: that goes first.
func (c *claims) removeUnclaimed(at, x beneath.Dir, directory string) error {
	up, name := volume.SplitDirectory(directory)
	c.step("remove an empty directory of claims")
	err := at.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		if err := c.putBack(x, up, name); err != nil {
			return ignore(err, unix.ESTALE, unix.ENOTEMPTY, unix.EEXIST)
		}
		err = at.Rmdir(name)
	}
	return ignore(err, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// putBack undoes what takeAway has left.
func (c *claims) putBack(x beneath.Dir, up, name string) error {
	at, err := c.root.Resolve(up)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer at.Close()
	_, err = c.removeDead(x, at, name)
	return err
}

// forgetNote removes a parent from the index, after work on it has ended with err.
func (c *claims) forgetNote(parent string, err error) error {
	c.forgetParent(parent)
	if err != nil {
		return err
	}
	return cmpErr(c.unnote(directoryNote, parent), c.unnote(claimsNote, parent))
}

func (c *claims) unnote(kind, parent string) error {
	c.step("remove the note of the parent")
	return ignore(c.parents.Unlink(kind+url.PathEscape(parent)), unix.ENOENT, unix.ENAMETOOLONG)
}
