// SPDX-License-Identifier: Apache-2.0

// Package probe asks NFS servers, and file systems that are mounted from them, how they are,
// without ever waiting for one that does not answer.
package probe

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// queryTimeout bounds a question that is worked on.
	queryTimeout = 4 * time.Second
	// slotTimeout bounds the wait for its turn before. Who asks has a deadline of their own.
	slotTimeout = 30 * time.Second
	// recheckAfter is when a server is asked again whose file system has not answered: what it
	// said before may be from before an outage.
	recheckAfter = queryTimeout - serverTimeout
	// usageTTL is how long an answer serves for usage when there is no newer one to be had.
	usageTTL = 10 * time.Minute
)

// Mount is what is asked about.
type Mount struct {
	Path     string
	Server   string // by which the questions under way are bounded
	Endpoint Endpoint
	// Superblock is the mount's device: where it does not answer, none of its mounts does.
	Superblock string
	// DirectoryID tells which directory is mounted: all mounts of one are as full. "": of no other.
	DirectoryID string
	ReadOnly    bool // nobody is to write there: whether one could is not asked
}

// MountStatus is what a mounted file system says.
type MountStatus struct {
	Space   volume.Space  `json:"space"`
	Latency time.Duration `json:"took"`
	// ReadOnly: the server lets nobody write where we would.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Errno is what it said instead.
	Errno unix.Errno `json:"errno,omitempty"`
}

// QueryFunc asks about a mount. began is to be called when that has its turn. It has to end when ctx
// does, whose cause is what it then returns.
type QueryFunc func(ctx context.Context, m Mount, began func()) (MountStatus, error)

// Mounts asks mounted file systems. At most one question is under way per mount; who asks
// meanwhile waits for its answer.
type Mounts struct {
	servers *Servers
	query   QueryFunc

	mu          sync.Mutex
	mounts      map[string]*mountEntry
	byDirectory map[string]*query // by what the mounts show
}

type mountEntry struct {
	inFlight   *query      // nil: there is none
	last       MountStatus // the last good one
	answeredAt time.Time   // when it came; zero: never
	err        error       // of the last question
	healthyAt  time.Time   // when the file system answered last, us or another
}

// query is one that is under way.
type query struct {
	Mount
	done         chan struct{} // closed with the answer
	waitsForSlot bool          // it waits for its turn, which no server has a part in
	answer       MountStatus
	err          error
}

// NewMounts returns a Mounts that asks with the given function: Worker's in production. Servers
// that do not answer are not asked.
func NewMounts(servers *Servers, ask QueryFunc) *Mounts {
	return &Mounts{servers: servers, query: ask, mounts: map[string]*mountEntry{}, byDirectory: map[string]*query{}}
}

// Server returns how long a server took to answer: see Servers.Check.
func (u *Mounts) Server(ctx context.Context, e Endpoint) (time.Duration, error) {
	return u.servers.Check(ctx, e)
}

// Watch watches a server while something else is asked of it: see Servers.Watch.
func (u *Mounts) Watch(ctx context.Context, e Endpoint) (context.Context, context.CancelFunc) {
	return u.servers.Watch(ctx, e)
}

// Query returns what the file system says, or has said within fresh. That its server does not
// answer is ErrUnavailable, and so is an error of the file system, as unix.ESTALE; that it could
// not be asked for all the other questions is ErrBusy.
func (u *Mounts) Query(ctx context.Context, m Mount, fresh time.Duration) (MountStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.entry(m.Path)
	if time.Since(e.healthyAt) < fresh {
		return e.last, nil
	}
	for {
		q := e.inFlight
		enough := q == nil || m.ReadOnly || !q.ReadOnly // else it does not ask whether one can write
		if q == nil {
			q = &query{Mount: m, done: make(chan struct{})}
			e.inFlight = q
			u.byDirectory[m.DirectoryID] = q
			go u.runQuery(q, e)
		}
		switch err := u.wait(ctx, q); {
		case err != nil && (e.inFlight == q || !enough):
			return MountStatus{}, err
		case enough:
			return e.last, e.err
		}
	}
}

// wait waits for the answer, without the lock. The error says why there is none when ctx ends.
func (u *Mounts) wait(ctx context.Context, q *query) error {
	u.mu.Unlock()
	defer u.mu.Lock()
	select {
	case <-q.done:
		return nil
	case <-ctx.Done():
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if q.waitsForSlot {
		return busyError(q.Path, ctx.Err())
	}
	return silentError(q.Path, ctx.Err())
}

func (u *Mounts) entry(path string) *mountEntry {
	e := u.mounts[path]
	if e == nil {
		e = &mountEntry{}
		u.mounts[path] = e
	}
	return e
}

// Usage returns how full the file system is. Where it does not answer in time, the last
// answer serves for ten minutes; then it is ErrUnavailable.
func (u *Mounts) Usage(ctx context.Context, m Mount) (volume.Space, error) {
	m.ReadOnly = true // whether one can write there is not the question
	space, known, err := u.sharedUsage(ctx, m)
	if !known {
		var a MountStatus
		a, err = u.Query(ctx, m, 0)
		space = a.Space
	}
	if err == nil {
		return space, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.mounts[m.Path]; e != nil && !e.answeredAt.IsZero() && time.Since(e.answeredAt) < usageTTL {
		return e.last.Space, nil
	}
	return volume.Space{}, err
}

// sharedUsage waits for the answer of another mount that shows the same directory, where one is under
// way. An error is not this one's, which may be of before the directory was made anew.
func (u *Mounts) sharedUsage(ctx context.Context, m Mount) (space volume.Space, known bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	q := u.byDirectory[m.DirectoryID]
	if m.DirectoryID == "" || q == nil || q.Path == m.Path {
		return space, false, nil
	}
	if err := u.wait(ctx, q); err != nil {
		return space, true, err
	}
	if q.err != nil {
		return space, false, nil
	}
	e := u.entry(m.Path)
	e.last, e.answeredAt = q.answer, time.Now()
	return q.answer.Space, true, nil
}

// Good notes that the file system has just answered somebody else.
func (u *Mounts) MarkHealthy(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entry(path).healthyAt = time.Now()
}

// Forget drops what is known of a mount that is gone.
func (u *Mounts) Forget(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mounts, path)
}

func (u *Mounts) runQuery(q *query, e *mountEntry) {
	_, err := u.servers.Check(context.Background(), q.Endpoint)
	var a MountStatus
	if err != nil {
		err = fmt.Errorf("%s: %w", q.Path, err)
	} else {
		a, err = u.queryFileSystem(q)
	}
	if err == nil && a.Errno != 0 {
		err = volume.Errorf(volume.ErrUnavailable, "%s: %w", q.Path, a.Errno)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	q.answer, q.err = a, err
	if u.byDirectory[q.DirectoryID] == q {
		delete(u.byDirectory, q.DirectoryID)
	}
	if e.err = err; err == nil {
		e.last, e.answeredAt = a, time.Now()
		e.healthyAt = e.answeredAt
	} else {
		e.healthyAt = time.Time{}
	}
	close(q.done)
	e.inFlight = nil
}

// queryFileSystem asks the file system. The time in which it has to answer begins with its turn.
func (u *Mounts) queryFileSystem(q *query) (MountStatus, error) {
	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	turns := func(yes bool) {
		u.mu.Lock()
		defer u.mu.Unlock()
		q.waitsForSlot = yes
	}
	turns(true)
	late := time.AfterFunc(slotTimeout, func() { end(busyError(q.Path, context.DeadlineExceeded)) })
	defer late.Stop()
	return u.query(ctx, q.Mount, func() {
		turns(false)
		late.Stop()
		doubt := time.AfterFunc(recheckAfter, func() { u.servers.Invalidate(q.Endpoint) })
		late := time.AfterFunc(queryTimeout, func() { end(silentError(q.Path, context.DeadlineExceeded)) })
		context.AfterFunc(ctx, func() { doubt.Stop(); late.Stop() })
	})
}

func silentError(path string, err error) error {
	return volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer (%w)", path, err)
}

func busyError(path string, err error) error {
	return volume.Errorf(volume.ErrBusy, "%s: not asked yet, other mounts are asked first (%w): try again", path, err)
}
