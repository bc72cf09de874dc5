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
// Where the format of the share requires by now what this program does not know, it is ErrPrecondition,
// and the share is lost: nobody works on it until that program is upgraded.
func (s *Share) Tidy(ctx context.Context, idle time.Duration) error {
	if err := s.checkFormat(ctx); err != nil {
		return err
	}
	return s.claims.parents.tidy(ctx, idle)
}

// checkFormat looks whether a later Mooring has changed the format since the share was opened.
func (s *Share) checkFormat(ctx context.Context) (err error) {
	defer s.wrapError(&err, "read the format")
	if err := ctx.Err(); err != nil {
		return err
	}
	format, err := s.readFormat()
	if format == nil || err != nil {
		return err // where there is none a check tells of that
	}
	if err := format.CheckRequires(); err != nil {
		s.lost.Store(true)
		return err
	}
	if format.ID != s.Identity.ID() {
		s.Identity.setID(format.ID)
	}
	return nil
}

func (p *parents) tidy(ctx context.Context, idle time.Duration) (err error) {
	parent := ""
	defer func() { p.wrapError(&err, "remove the empty directory %q", parent) }()
	due, err := p.listIdle(ctx, idle)
	if err != nil {
		return err
	}
	for _, parent = range due {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.tidyParent(parent); err != nil {
			return err
		}
	}
	return nil
}

// listIdle returns the parents that nobody has used for so long, as far as this process
// knows: one that it sees for the first time has just been used.
func (p *parents) listIdle(ctx context.Context, idle time.Duration) ([]string, error) {
	all := map[string]bool{}
	err := p.list(p.dir, func(name string) error {
		if parent, ok := parseNote(name); ok {
			all[parent] = true
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []string
	for parent := range all {
		left, known := p.lastUse[parent]
		if !known {
			left = time.Now()
			p.lastUse[parent] = left
		}
		if time.Since(left) >= idle {
			due = append(due, parent)
		}
	}
	slices.SortFunc(due, func(a, b string) int { return len(b) - len(a) })
	return due, nil
}

// forget has a parent be one that is seen for the first time.
func (p *parents) forget(parent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lastUse, parent)
	delete(p.listed, parent)
}

// tidyParent removes a parent directory, its claims and its note, if it is empty. It first
// bars the way for claims beneath it. Then it takes the directory away into the directory of
// claims, by a handle that is dead before the name can be a volume's.
func (p *parents) tidyParent(parent string) error {
	up, name := volume.SplitDirectory(parent)
	at, err := p.claims.openParent(up)
	if volume.Kind(err) == volume.ErrPrecondition { // what it is in is a volume's
		return p.removeNotes(parent, nil)
	}
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // tidied away at the same time: later
	}
	defer at.Close()
	x, err := at.Resolve(name)
	if is(err, unix.ENOENT) { // no volume ever came to be in it
		return p.tidyUnclaimed(at, parent)
	}
	if err != nil {
		return err
	}
	defer x.Close()
	return parentClaims{p, at, x, parent}.removeUnused()
}

// tidyUnclaimed makes the directory of claims of a parent that has none, so that it can be
// removed like any other.
func (p *parents) tidyUnclaimed(at beneath.Dir, parent string) error {
	_, name := volume.SplitDirectory(parent)
	if err := p.makeClaims(at, name, parent); err != nil {
		return err
	}
	x, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer x.Close()
	return parentClaims{p, at, x, parent}.removeUnused()
}

// parentClaims is a directory of claims, opened, that is a parent's, or may have been.
type parentClaims struct {
	*parents
	at, x  beneath.Dir // the directory of claims that it is in, and it itself
	parent string
}

// removeUnused does the steps of tidyParent.
func (l parentClaims) removeUnused() error {
	l.step("remove the claims of an empty parent")
	err := beneath.RmdirCurrent(l.x, takenName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		l.recordUse(l.parent) // in use: later
		return l.removeEmptyChildren()
	}
	if is(err, unix.ENOTDIR) {
		return l.removeStaleBar() // a volume, or a bar that was left
	}
	if err := ignore(err, unix.ENOENT, unix.ESTALE); err != nil {
		return err
	}
	l.step("bar the parent")
	if err := touch(l.x, takenName, unix.O_EXCL); err != nil {
		return ignore(err, unix.EEXIST, unix.EISDIR, unix.ENOENT, unix.ESTALE)
	}
	ours, err := l.hasNote(directoryNote, l.parent)
	if err != nil {
		return err
	}
	kept := false
	if ours {
		if kept, err = l.removeDirectory(); err != nil {
			return err
		}
	}
	if ours && !kept && l.x.Refresh() == nil {
		// Under the bar, as the next who makes the directory notes it anew.
		if err := l.removeNote(directoryNote, l.parent); err != nil {
			return err
		}
	}
	l.step("remove the bar")
	if err := l.x.Unlink(takenName); err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // of another by now, who has broken the bar
	}
	l.step("remove the directory of the claim")
	_, name := volume.SplitDirectory(l.parent)
	err = l.at.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		return l.removeUnclaimed()
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	l.forget(l.parent) // if it was kept, later perhaps
	return l.removeNote(claimsNote, l.parent)
}

// maxSweep is how many directories of claims are looked at to find empty ones among them.
const maxEmptyScan = 64

// removeEmptyChildren removes the empty directories of claims that interrupted processes have left in a
// parent of few.
func (l parentClaims) removeEmptyChildren() error {
	at, err := l.x.Resolve(takenName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ENOTDIR)
	}
	defer at.Close()
	var below []string
	err = beneath.Names(at, func(name string) error {
		below = append(below, name)
		return nil
	})
	if err != nil || len(below) > maxEmptyScan {
		return err
	}
	for _, name := range below {
		l.step("remove an empty directory of claims")
		_ = at.Rmdir(name)
	}
	return nil
}

// removeEmptyClaims removes a directory of claims if nothing is in it.
func (p *parents) removeEmptyClaims(directory string) {
	up, name := volume.SplitDirectory(directory)
	at, err := p.claims.dir.Resolve(claimPath(up))
	if err != nil {
		return
	}
	defer at.Close()
	p.step("remove an empty directory of claims")
	_ = at.Rmdir(name)
}

// removeStaleBar removes the bar that a process has left which died while it tidied.
func (l parentClaims) removeStaleBar() error {
	_, err := l.claims.readOwner(l.x)
	if err == nil {
		return l.removeNotes(l.parent, nil) // it is a volume's
	}
	if errors.Is(err, errBarred) {
		err = l.removeBar()
		if volume.Kind(err) == volume.ErrBusy {
			return nil
		}
	}
	return ignore(err, unix.ENOENT, unix.ESTALE, unix.EISDIR)
}

// errBarred: a directory of claims is that of a parent that is just being tidied away.
var errBarred = busy("no volume is in the parent directory, which is just being removed")

// removeBar removes the bar of a parent, and puts the parent back if there is something in it. ErrBusy:
// whoever tidies may still be at it.
func (l parentClaims) removeBar() error {
	st, err := l.x.Stat(takenName)
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE)
	}
	age, err := l.age(st.Mtim)
	if err != nil {
		return err
	}
	if age <= l.opt.Lease {
		return errBarred
	}
	if err := l.putBack(); err != nil {
		return err
	}
	l.step("remove the bar")
	return ignore(l.x.Unlink(takenName), unix.ENOENT, unix.ESTALE)
}

// removeDirectory moves a parent directory into its directory of claims and removes it there. kept:
// something is in it, and it is in its place again, or what is there cannot be seen for now.
func (l parentClaims) removeDirectory() (kept bool, err error) {
	up, name := volume.SplitDirectory(l.parent)
	at, err := l.root.Resolve(up)
	if err != nil { // ESTALE: what this client remembers above it is gone
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	defer at.Close()
	d, err := at.Resolve(name)
	if err != nil {
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	empty, err := beneath.IsEmpty(d) // of most that are not it is seen here
	d.Close()
	if err != nil || !empty {
		return true, ignore(err, unix.ESTALE)
	}
	l.step("take an empty parent away")
	if err := at.Rename(name, l.x, deadName); err != nil {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return l.removeDead(at, name)
}

func (l parentClaims) removeDead(at beneath.Dir, name string) (kept bool, err error) {
	l.step("remove an empty parent")
	err = beneath.RmdirCurrent(l.x, deadName)
	if !is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	l.step("put the parent back")
	return true, l.x.Rename(deadName, at, name)
}

// removeUnclaimed removes a directory of claims in which there is no claim. If it is not empty, a
// late process that tidied has moved the directory itself into it: that goes first.
func (l parentClaims) removeUnclaimed() error {
	_, name := volume.SplitDirectory(l.parent)
	l.step("remove an empty directory of claims")
	err := l.at.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		if err := l.putBack(); err != nil {
			return ignore(err, unix.ESTALE, unix.ENOTEMPTY, unix.EEXIST)
		}
		err = l.at.Rmdir(name)
	}
	return ignore(err, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// putBack undoes what takeAway has left.
func (l parentClaims) putBack() error {
	up, name := volume.SplitDirectory(l.parent)
	at, err := l.root.Resolve(up)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer at.Close()
	_, err = l.removeDead(at, name)
	return err
}

// removeNotes removes a parent from the index, after work on it has ended with err.
func (p *parents) removeNotes(parent string, err error) error {
	p.forget(parent)
	if err != nil {
		return err
	}
	return firstError(p.removeNote(directoryNote, parent), p.removeNote(claimsNote, parent))
}

func (p *parents) removeNote(kind, parent string) error {
	p.step("remove the note of the parent")
	return ignore(p.dir.Unlink(kind+url.PathEscape(parent)), unix.ENOENT, unix.ENAMETOOLONG)
}
