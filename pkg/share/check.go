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
	// SeverityError: an invariant is broken. What is meant may be lost, or cannot be used or deleted.
	SeverityError = "error"
	// SeverityWarning: something stands still, or is not understood. No data is in danger.
	SeverityWarning = "warning"
	// SeverityNote: something was left that is in nobody's way.
	SeverityNote = "note"
)

// Problem is something on a share that is not as it should be.
type Problem struct {
	Severity string
	Path     string // a path beneath the share
	Message  string
	Remedy   string
}

// Check reads all that Mooring keeps on the share, and calls each for what is wrong there, in
// the order of the paths. It changes nothing.
//
// Others may be at work meanwhile. So what looks wrong is looked at again after a while in which
// whoever works on it would have shown himself, and is told only if it has not changed. What is
// under way within a Lease is not told either. Ages are told by the clock here, as only a write
// would show the server's: but a clock that is fast makes no one's work look abandoned that
// goes on between the two looks.
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
	wait func(context.Context) error // between the two looks

	mu       sync.Mutex
	suspects []suspect
	claimed  map[string]bool // directories that are claimed as a volume says
}

func newCheck(s *Share) *check {
	c := &check{Share: s, now: time.Now(), claimed: map[string]bool{}}
	// A living maker shows himself more than three times within a lease.
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
	return c.confirm(ctx)
}

// finding is what one look at something has found.
type finding struct {
	path     string
	version  string // of what was looked at: with another one it is another thing, or has gone on
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

// unknownRemedy is what to do about what is not known.
const unknownRemedy = "if a newer Mooring has worked on the share, leave it to that; else find out who has put it there, and move it away"

// reportUnexpected says that something does not belong where it is.
func (f *finding) reportUnexpected() {
	f.reportWarning(unknownRemedy, "nothing of that name belongs there")
}

// checkFunc looks at one thing.
type checkFunc func(f *finding) error

// suspect is what looked wrong.
type suspect struct {
	path    string
	check   checkFunc
	finding *finding
}

// maxParallelChecks is how many things are looked at at once: it is a matter of round trips.
const maxParallelChecks = 16

// inParallel calls do for 0 to n-1, several at once, until one fails.
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

// runAll looks at what has these names in a directory of .mooring, and remembers what looks wrong.
func (c *check) runAll(ctx context.Context, in string, names []string, look func(name string, f *finding) error) error {
	return inParallel(ctx, len(names), func(i int) error {
		return c.runOne(ctx, stateName(in, names[i]), func(f *finding) error { return look(names[i], f) })
	})
}

// runOne looks at one thing, and remembers it if it looks wrong.
func (c *check) runOne(ctx context.Context, where string, look checkFunc) error {
	found, err := c.inspect(ctx, where, look)
	if err != nil || len(found.problems) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects = append(c.suspects, suspect{where, look, found})
	return nil
}

// inspect looks once. What goes away meanwhile is not wrong, and what cannot be read is, unless
// it is the server that is not there.
func (c *check) inspect(ctx context.Context, where string, look checkFunc) (*finding, error) {
	f := &finding{path: where}
	err := look(f)
	if err == nil {
		return f, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if isMissing(err) && !c.isStale() || volume.Kind(err) == volume.ErrBusy {
		return &finding{path: where}, nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) || isMissing(err) || c.root.Refresh() != nil {
		return nil, err
	}
	if _, kind := classify(errno); kind == volume.ErrUnavailable && errno != unix.EIO {
		return nil, err
	}
	f.reportError("look at the server: at its log, and at the disk", "it cannot be read: %v", errno)
	return f, nil
}

// confirm looks again at what looked wrong, and returns what is still so.
func (c *check) confirm(ctx context.Context) ([]Problem, error) {
	if len(c.suspects) == 0 {
		return nil, nil
	}
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	for _, d := range c.directories() {
		_ = d.Refresh() // the looks below find out what is wrong with it
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

// isOld reports whether what was last done at a time is older than a lease.
func (c *check) isOld(at time.Time) bool { return c.now.Sub(at) > c.opt.Lease }

// stateOf returns how far an incarnation of a volume or snapshot is. alive is false where it
// does not exist any more. One whose record cannot be read may be it.
func (c *check) stateOf(o volume.Object, nonce string) (state State, alive bool, err error) {
	t := c.Volumes.table
	if o.Kind == volume.ObjectSnapshot {
		t = c.Snapshots.table
	}
	r, there, err := c.readReferenced(t, o.Key)
	if err != nil || !there {
		return Empty, false, err
	}
	_, has := decodeIdentity(r.data)
	return r.state, has == nonce || has == "", nil
}

// readReferenced reads the record of something that what is looked at refers to. there is false where it
// does not exist. One that cannot be read is told where it is itself looked at, and may here be
// anything: it has no data.
func (c *check) readReferenced(t *table, key string) (s rawRecord, there bool, err error) {
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

// listNames lists a directory, without the names that an NFS client gives to files which were removed
// while it had them open.
func listNames(ctx context.Context, d beneath.Dir) (all []string, err error) {
	err = beneath.Names(d, func(name string) error {
		if !strings.HasPrefix(name, ".nfs") {
			all = append(all, name)
		}
		return ctx.Err()
	})
	return all, err
}

// stateName returns the path beneath the share of what is in a directory of .mooring.
func stateName(elements ...string) string {
	return path.Join(append([]string{volume.StateDir}, elements...)...)
}

// toTime writes a time of the server's.
func toTime(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
