// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// The severities of a Problem.
const (
	// SeverityError: an invariant is broken. Data may be lost, or cannot be used or deleted.
	SeverityError = "error"
	// SeverityWarning: something makes no progress, or is unknown. No data is in danger.
	SeverityWarning = "warning"
	// SeverityNote: something was left that blocks nothing.
	SeverityNote = "note"
)

// Problem is something on a share that is wrong.
type Problem struct {
	Severity string
	Path     string // relative to the share's root
	Message  string
	Remedy   string
}

// Check reads all that Mooring keeps on the share, and calls each for every problem, in the order of the
// paths. It changes nothing.
//
// Others may work on the share meanwhile. So Check inspects a suspect again after a while in which a process
// that works on it would have renewed it, and reports it only if it has not changed. It does not report what
// is in progress within a Lease. It computes ages by the local clock, because only a write would show the
// server's. With a fast clock nothing looks abandoned that makes progress between the two inspections.
func (s *Share) Check(ctx context.Context, each func(Problem) error) error {
	problems, err := newCheck(s).run(ctx)
	if err != nil {
		return err
	}
	for _, p := range problems {
		if err := each(p); err != nil {
			return err
		}
	}
	return nil
}

// check is one run of Check.
type check struct {
	*Share
	now  time.Time
	wait func(context.Context) error // between the two inspections

	mu       sync.Mutex
	suspects []suspect
	claimed  map[string]bool // directories with the claim that their volume's record says
}

func newCheck(s *Share) *check {
	c := &check{Share: s, now: time.Now(), claimed: map[string]bool{}}
	// A process that works renews its record more than three times within a lease.
	c.wait = func(ctx context.Context) error {
		select {
		case <-time.After(s.opt.Lease / 3):
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	return c
}

func (c *check) run(ctx context.Context) (all []Problem, err error) {
	defer c.wrapError(&err, "check it")
	if err := ctx.Err(); err != nil || c.state == beneath.None {
		return nil, err
	}
	for _, part := range []func(context.Context) error{
		layoutCheck{c}.checkAll, c.checkEntries, claimsCheck{c}.checkAll, indexCheck{c}.checkAll, c.checkTrash,
	} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	all, err = c.confirm(ctx)
	if err == nil && c.Interrupted.Load() {
		return nil, unix.ETIMEDOUT // it may have taken an EIO for a disk that fails
	}
	return all, err
}

// finding is the result of one inspection of one thing.
type finding struct {
	path     string
	version  string // of what was inspected: if it differs, it is another thing or has made progress
	problems []Problem
}

func (f *finding) add(severity, remedy, format string, args ...any) {
	f.problems = append(f.problems, Problem{severity, f.path, fmt.Sprintf(format, args...), remedy})
}

func (f *finding) reportError(remedy, format string, args ...any) {
	f.add(SeverityError, remedy, format, args...)
}

func (f *finding) reportWarning(remedy, format string, args ...any) {
	f.add(SeverityWarning, remedy, format, args...)
}

func (f *finding) reportNote(remedy, format string, args ...any) {
	f.add(SeverityNote, remedy, format, args...)
}

// unknownRemedy is the remedy for something unknown.
const unknownRemedy = "if a newer Mooring has used the share, leave it to that one; otherwise find out who put it there, and move it away"

// reportUnexpected reports that something does not belong where it is.
func (f *finding) reportUnexpected() {
	f.reportWarning(unknownRemedy, "nothing of that name belongs there")
}

// checkFunc inspects one thing.
type checkFunc func(f *finding) error

// suspect is a thing for which the first inspection has found problems.
type suspect struct {
	path    string
	check   checkFunc
	finding *finding
}

// maxParallelChecks is how many things are inspected in parallel: the round trips dominate the time.
const maxParallelChecks = 16

// inParallel calls do for 0 to n-1, several at once, until one call fails.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, maxParallelChecks) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// runAll inspects what has these names in a directory of .mooring, and records suspects.
func (c *check) runAll(ctx context.Context, in string, names []string, do func(name string, f *finding) error) error {
	return inParallel(ctx, len(names), func(i int) error {
		return c.runOne(ctx, stateName(in, names[i]), func(f *finding) error { return do(names[i], f) })
	})
}

// runOne inspects one thing, and records it as a suspect if it has problems.
func (c *check) runOne(ctx context.Context, where string, do checkFunc) error {
	found, err := c.inspect(ctx, where, do)
	if err != nil || len(found.problems) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects = append(c.suspects, suspect{where, do, found})
	return nil
}

// inspect inspects one thing once. What disappears meanwhile is no problem. What cannot be read is one,
// unless the server is not available.
func (c *check) inspect(ctx context.Context, where string, do checkFunc) (*finding, error) {
	f := &finding{path: where}
	if err := do(f); err != nil {
		return c.unreadable(ctx, f, err)
	}
	return f, nil
}

// unreadable returns the finding for a thing whose inspection has failed with err, or the error to report.
func (c *check) unreadable(ctx context.Context, f *finding, err error) (*finding, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if isMissing(err) && !c.isStale() || is(err, unix.EAGAIN) || volume.Kind(err) == volume.ErrBusy {
		return &finding{path: f.path}, nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) || isMissing(err) || c.root.Refresh() != nil {
		return nil, err
	}
	if _, kind := classify(errno); kind == volume.ErrUnavailable && errno != unix.EIO {
		return nil, err
	}
	f.reportError("check the server's log and its disk", "it cannot be read: %v", errno)
	return f, nil
}

// confirm inspects the suspects again, and returns the problems that remain.
func (c *check) confirm(ctx context.Context) ([]Problem, error) {
	if len(c.suspects) == 0 {
		return nil, nil
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	for _, d := range c.directories() {
		_ = d.Refresh() // the inspections below report its error
	}
	var all []Problem
	err := inParallel(ctx, len(c.suspects), func(i int) error {
		s := c.suspects[i]
		again, err := c.inspect(ctx, s.path, s.check)
		if err != nil || again.version != s.finding.version {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range again.problems {
			if slices.Contains(s.finding.problems, p) {
				all = append(all, p)
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b Problem) int {
		return strings.Compare(a.Path+"\x00"+a.Message, b.Path+"\x00"+b.Message)
	})
	return all, err
}

// isOld reports whether a time is more than a lease ago.
func (c *check) isOld(t time.Time) bool { return c.now.Sub(t) > c.opt.Lease }

// stateOf returns the state of an incarnation of a volume or snapshot. alive is false if it does not exist
// any more. If its record cannot be read, it counts as alive.
func (c *check) stateOf(o volume.Object, nonce string) (state State, alive bool, err error) {
	t := c.Volumes.table
	if o.Kind == volume.ObjectSnapshot {
		t = c.Snapshots.table
	}
	r, exists, err := c.readReferenced(t, o.Key)
	if err != nil || !exists {
		return Empty, false, err
	}
	_, has := decodeIdentity(r.data)
	return r.state, has == nonce || has == "", nil
}

// readReferenced reads the record of something that the inspected thing refers to. exists is false if there
// is none. A record that cannot be read is reported where it is itself inspected. Here it has no data.
func (c *check) readReferenced(t *table, key string) (s rawRecord, exists bool, err error) {
	e, s, err := t.read(key)
	switch {
	case is(err, unix.ENOENT, unix.ENOTDIR):
		return rawRecord{}, false, nil
	case is(err, unix.ELOOP, unix.EIO, unix.EACCES):
		return rawRecord{state: Making}, true, nil
	case err != nil:
		return rawRecord{}, false, err
	}
	e.close()
	return s, true, nil
}

// listNames lists a directory, without the names that an NFS client gives to files which were removed while
// it had them open.
func listNames(ctx context.Context, d beneath.Dir) (all []string, err error) {
	err = beneath.Names(d, func(name string) error {
		if !strings.HasPrefix(name, ".nfs") {
			all = append(all, name)
		}
		return ctx.Err()
	})
	return all, err
}

// stateName returns the path, relative to the share, of what is in a directory of .mooring.
func stateName(elements ...string) string {
	return path.Join(append([]string{volume.StateDir}, elements...)...)
}

// toTime converts a time that the server reports.
func toTime(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
