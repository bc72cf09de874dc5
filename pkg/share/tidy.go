// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Tidy removes the parents that Mooring made for volumes and that have been unused for idle, the
// innermost first. It keeps a parent that has anything in it.
//
// If the format of the share now requires what this program does not know, Tidy returns
// ErrPrecondition and the share is lost: the process does not work on it until it is upgraded.
func (s *Share) Tidy(ctx context.Context, idle time.Duration) error {
	if err := s.checkFormat(ctx); err != nil {
		return err
	}
	return s.claims.parents.tidy(ctx, idle)
}

// checkFormat checks whether a later Mooring has changed the format since the share was opened.
func (s *Share) checkFormat(ctx context.Context) (err error) {
	defer s.wrapError(&err, "read the format")
	if err := ctx.Err(); err != nil {
		return err
	}
	format, err := s.readFormat()
	if format == nil || err != nil {
		return err // mooringctl check reports a missing format
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

// listIdle returns the parents that have been unused for idle, the innermost first. A parent that
// this process sees for the first time counts as just used. It forgets parents that are not in the
// index: another controller has removed them. If one exists all the same, because its note is new or
// would be too long, it is only listed again (checkOpened), and seen for the first time again.
func (p *parents) listIdle(ctx context.Context, idle time.Duration) ([]string, error) {
	all := map[string]bool{}
	err := p.list(p.index, func(name string) error {
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
	maps.DeleteFunc(p.lastUse, func(parent string, _ time.Time) bool { return !all[parent] })
	maps.DeleteFunc(p.listed, func(parent string, _ beneath.Node) bool { return !all[parent] })
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

// forget removes what this process knows about a parent: it will count as seen for the first time.
func (p *parents) forget(parent string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lastUse, parent)
	delete(p.listed, parent)
}

// tidyParent removes a parent directory, its claims and its notes, if it is empty. It first bars
// new claims in it. Then it moves the directory into the directory of claims, by a handle that is
// dead before the name can become a volume's.
func (p *parents) tidyParent(parent string) error {
	up, name := volume.SplitDirectory(parent)
	at, err := p.claims.openParent(up)
	if volume.Kind(err) == volume.ErrPrecondition { // a directory above it is a volume's
		return p.removeNotes(parent)
	}
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // removed at the same time: the next run continues
	}
	defer at.Close()
	dir, err := at.Resolve(name)
	if is(err, unix.ENOENT) { // no volume ever was in it
		return p.tidyUnclaimed(at, parent)
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return parentClaims{p, at, dir, parent}.removeUnused()
}

// tidyUnclaimed creates the directory of claims of a parent that has none, so that the parent can
// be removed like any other.
func (p *parents) tidyUnclaimed(at beneath.Dir, parent string) error {
	_, name := volume.SplitDirectory(parent)
	if err := p.makeClaims(at, name, parent); err != nil {
		return err
	}
	dir, err := at.Resolve(name)
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer dir.Close()
	return parentClaims{p, at, dir, parent}.removeUnused()
}

// parentClaims is an open directory of claims that is a parent's, or may have been.
type parentClaims struct {
	*parents
	outerDir, dir beneath.Dir // the directory of claims that dir is in, and dir itself
	parent        string
}

// removeUnused removes the parent and its claims: see tidyParent.
func (l parentClaims) removeUnused() error {
	l.step("remove the claims of an empty parent")
	err := beneath.RmdirCurrent(l.dir, takenName)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		l.recordUse(l.parent) // in use
		return l.removeEmptyChildren()
	}
	if is(err, unix.ENOTDIR) {
		return l.removeStaleBar() // it is a volume's claim, or a bar that was left
	}
	if err := ignore(err, unix.ENOENT, unix.ESTALE); err != nil {
		return err
	}
	l.step("bar the parent")
	if err := touch(l.dir, takenName, unix.O_EXCL); err != nil {
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
	if ours && !kept && l.dir.Refresh() == nil {
		// Before the bar is removed: then the next maker of the directory adds a new note.
		if err := l.removeNote(directoryNote, l.parent); err != nil {
			return err
		}
	}
	l.step("remove the bar")
	if err := l.dir.Unlink(takenName); err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE) // another process has removed it
	}
	l.step("remove the directory of the claim")
	_, name := volume.SplitDirectory(l.parent)
	err = l.outerDir.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		return l.removeUnclaimed()
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	l.forget(l.parent)
	return l.removeNote(claimsNote, l.parent)
}

// maxEmptyScan is the number of directories of claims up to which empty ones are removed among
// them.
const maxEmptyScan = 64

// removeEmptyChildren removes the empty directories of claims that interrupted processes have left
// in a small parent.
func (l parentClaims) removeEmptyChildren() error {
	at, err := l.dir.Resolve(takenName)
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

// removeEmptyClaims removes a directory of claims if it is empty.
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

// removeStaleBar removes the bar of a process that stopped while it tidied.
func (l parentClaims) removeStaleBar() error {
	_, err := l.claims.readOwner(l.dir)
	if errors.Is(err, errBarred) {
		if err = l.removeBar(); err == nil || volume.Kind(err) == volume.ErrBusy {
			return nil
		}
	}
	if err != nil {
		return ignore(err, unix.ENOENT, unix.ESTALE, unix.EISDIR)
	}
	return l.removeNotes(l.parent) // it is a volume's
}

// errBarred: a directory of claims belongs to a parent that is being removed.
var errBarred = busy("no volume is in the parent directory, which is being removed")

// removeBar removes the bar of a parent. It first puts the parent back if there is something in it.
// ErrBusy: the process that made the bar may still be working.
func (l parentClaims) removeBar() error {
	st, err := l.dir.Stat(takenName)
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
	return ignore(l.dir.Unlink(takenName), unix.ENOENT, unix.ESTALE)
}

// removeDirectory moves the parent directory into its directory of claims and removes it there.
// kept: it is not empty, and is in its place again; or this client cannot see it for now.
func (l parentClaims) removeDirectory() (kept bool, err error) {
	up, name := volume.SplitDirectory(l.parent)
	at, err := l.root.Resolve(up)
	if err != nil { // ESTALE: a directory above it that this client has cached is gone
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	defer at.Close()
	d, err := at.Resolve(name)
	if err != nil {
		return is(err, unix.ESTALE), ignore(err, unix.ENOENT, unix.ESTALE)
	}
	empty, err := beneath.IsEmpty(d) // most non-empty ones are found here
	d.Close()
	if err != nil || !empty {
		return true, ignore(err, unix.ESTALE)
	}
	l.step("take an empty parent away")
	if err := at.Rename(name, l.dir, deadName); err != nil {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	return l.removeDead(at, name)
}

func (l parentClaims) removeDead(at beneath.Dir, name string) (kept bool, err error) {
	l.step("remove an empty parent")
	err = beneath.RmdirCurrent(l.dir, deadName)
	if !is(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, unix.ELOOP) {
		return false, ignore(err, unix.ENOENT, unix.ESTALE)
	}
	l.step("put the parent back")
	return true, l.dir.Rename(deadName, at, name)
}

// removeUnclaimed removes a directory of claims without a claim in it. If it is not empty, a late
// tidying process has moved the parent directory into it: removeUnclaimed puts that back first, or
// removes it.
func (l parentClaims) removeUnclaimed() error {
	_, name := volume.SplitDirectory(l.parent)
	l.step("remove an empty directory of claims")
	err := l.outerDir.Rmdir(name)
	if is(err, unix.ENOTEMPTY, unix.EEXIST) {
		if err := l.putBack(); err != nil {
			return ignore(err, unix.ESTALE, unix.ENOTEMPTY, unix.EEXIST)
		}
		err = l.outerDir.Rmdir(name)
	}
	return ignore(err, unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// putBack undoes the first step of removeDirectory.
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

// removeNotes removes a parent from the index.
func (p *parents) removeNotes(parent string) error {
	p.forget(parent)
	return firstError(p.removeNote(directoryNote, parent), p.removeNote(claimsNote, parent))
}

func (p *parents) removeNote(kind, parent string) error {
	p.step("remove the note of the parent")
	return ignore(p.index.Unlink(kind+url.PathEscape(parent)), unix.ENOENT, unix.ENAMETOOLONG)
}
