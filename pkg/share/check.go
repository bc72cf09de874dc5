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
	defer c.explain(&err, "check it")
	if err := ctx.Err(); err != nil || c.state == beneath.None {
		return nil, err
	}
	for _, part := range []func(context.Context) error{
		layoutCheck{c}.layout, c.entries, claimsCheck{c}.claimsAndStrays, indexCheck{c}.indexes, c.trashed,
	} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	return c.confirm(ctx)
}

// finding is what one look at something has found.
type finding struct {
	where    string
	mark     string // of what was looked at: with another one it is another thing, or has gone on
	problems []Problem
}

func (f *finding) add(severity, remedy, format string, args ...any) {
	f.problems = append(f.problems, Problem{severity, f.where, fmt.Sprintf(format, args...), remedy})
}

func (f *finding) broken(remedy, format string, args ...any) {
	f.add(SeverityError, remedy, format, args...)
}

func (f *finding) warn(remedy, format string, args ...any) {
	f.add(SeverityWarning, remedy, format, args...)
}

func (f *finding) note(remedy, format string, args ...any) {
	f.add(SeverityNote, remedy, format, args...)
}

// leaveToNewer is what to do about what is not known.
const leaveToNewer = "if a newer Mooring has worked on the share, leave it to that; else find out who has put it there, and move it away"

// unexpected says that something does not belong where it is.
func (f *finding) unexpected() {
	f.warn(leaveToNewer, "nothing of that name belongs there")
}

// look looks at one thing.
type look func(f *finding) error

// suspect is what looked wrong.
type suspect struct {
	where string
	look  look
	found *finding
}

// lookersAtOnce is how many things are looked at at once: it is a matter of round trips.
const lookersAtOnce = 16

// inParallel calls do for 0 to n-1, several at once, until one fails.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, lookersAtOnce) {
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

// each looks at what has these names in a directory of .mooring, and remembers what looks wrong.
func (c *check) each(ctx context.Context, in string, names []string, look func(name string, f *finding) error) error {
	return inParallel(ctx, len(names), func(i int) error {
		return c.at(ctx, stateName(in, names[i]), func(f *finding) error { return look(names[i], f) })
	})
}

// at looks at one thing, and remembers it if it looks wrong.
func (c *check) at(ctx context.Context, where string, look look) error {
	found, err := c.judge(ctx, where, look)
	if err != nil || len(found.problems) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspects = append(c.suspects, suspect{where, look, found})
	return nil
}

// judge looks once. What goes away meanwhile is not wrong, and what cannot be read is, unless
// it is the server that is not there.
func (c *check) judge(ctx context.Context, where string, look look) (*finding, error) {
	f := &finding{where: where}
	err := look(f)
	if err == nil {
		return f, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if missing(err) && !c.gone() || volume.Kind(err) == volume.ErrBusy {
		return &finding{where: where}, nil
	}
	var errno unix.Errno
	if !errors.As(err, &errno) || missing(err) || c.root.Refresh() != nil {
		return nil, err
	}
	if _, kind := classify(errno); kind == volume.ErrUnavailable && errno != unix.EIO {
		return nil, err
	}
	f.broken("look at the server: at its log, and at the disk", "it cannot be read: %v", errno)
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
	for _, d := range c.own() {
		_ = d.Refresh() // the looks below find out what is wrong with it
	}
	var all []Problem
	err := inParallel(ctx, len(c.suspects), func(i int) error {
		s := c.suspects[i]
		again, err := c.judge(ctx, s.where, s.look)
		if err != nil || again.mark != s.found.mark {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range again.problems {
			if slices.Contains(s.found.problems, p) {
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

// old reports whether what was last done at a time is older than a lease.
func (c *check) old(at time.Time) bool { return c.now.Sub(at) > c.opt.Lease }

// standing returns how far an incarnation of a volume or snapshot is. alive is false where it
// does not exist any more. One whose record cannot be read may be it.
func (c *check) standing(o volume.Object, nonce string) (state State, alive bool, err error) {
	t := c.Volumes.table
	if o.Kind == volume.OfSnapshot {
		t = c.Snapshots.table
	}
	r, there, err := c.other(t, o.Key)
	if err != nil || !there {
		return Empty, false, err
	}
	_, has := identityOf(r.data)
	return r.state, has == nonce || has == "", nil
}

// other reads the record of something that what is looked at refers to. there is false where it
// does not exist. One that cannot be read is told where it is itself looked at, and may here be
// anything: it has no data.
func (c *check) other(t *table, key string) (s stored, there bool, err error) {
	e, s, err := t.read(key)
	switch {
	case is(err, unix.ENOENT, unix.ENOTDIR):
		return stored{}, false, nil
	case is(err, unix.ELOOP, unix.EIO, unix.EACCES):
		return stored{state: Making}, true, nil
	case err != nil:
		return stored{}, false, err
	}
	e.close()
	return s, true, nil
}

// names lists a directory, without the names that an NFS client gives to files which were removed
// while it had them open.
func names(ctx context.Context, d beneath.Dir) (all []string, err error) {
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

// timeOf writes a time of the server's.
func timeOf(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
