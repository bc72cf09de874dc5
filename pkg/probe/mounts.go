// SPDX-License-Identifier: Apache-2.0

// Package probe checks NFS servers, and file systems that are mounted from them. It never waits
// long for one that does not answer.
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
	// queryTimeout bounds a query that has begun.
	queryTimeout = 4 * time.Second
	// slotTimeout bounds the wait for a slot before that. Callers have their own deadlines.
	slotTimeout = 30 * time.Second
	// recheckAfter is when the server of a file system that has not answered is pinged again: the
	// last ping may be from before an outage.
	recheckAfter = queryTimeout - serverTimeout
	// usageTTL is how long the last answer serves for usage if there is no newer one.
	usageTTL = 10 * time.Minute
)

// Mount identifies a mounted file system to query.
type Mount struct {
	Path     string
	Server   string // bounds the queries in flight
	Endpoint Endpoint
	// Superblock is the mount's device: if the superblock does not answer, none of its mounts does.
	Superblock string
	// DirectoryID identifies the mounted directory: all mounts of one directory have the same
	// usage. "": no other mount shows it.
	DirectoryID string
	ReadOnly    bool // do not check whether the server allows writes
}

// MountStatus is the state of a mounted file system.
type MountStatus struct {
	Space   volume.Space  `json:"space"`
	Latency time.Duration `json:"took"`
	// ReadOnly: the server refuses writes where they are expected.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Errno is the error of the file system, or 0.
	Errno unix.Errno `json:"errno,omitempty"`
}

// QueryFunc queries a mount. It calls began when the query gets its slot. It must return when ctx
// ends, with the cause of ctx as its error.
type QueryFunc func(ctx context.Context, m Mount, began func()) (MountStatus, error)

// Mounts queries mounted file systems. At most one query is in flight per mount; other callers wait
// for its answer.
type Mounts struct {
	servers *Servers
	query   QueryFunc

	mu          sync.Mutex
	mounts      map[string]*mountEntry
	byDirectory map[string]*query // by Mount.DirectoryID
}

type mountEntry struct {
	inFlight   *query      // nil: none
	last       MountStatus // the last successful answer
	answeredAt time.Time   // time of last; zero: none
	err        error       // of the last query
	healthyAt  time.Time   // time of the last answer, to this or another call
}

// query is a query in flight.
type query struct {
	Mount
	done         chan struct{} // closed when there is an answer
	waitsForSlot bool          // no server can delay this
	answer       MountStatus
	err          error
}

// NewMounts returns a Mounts that queries with the given function: Worker's in production. It does
// not query file systems of a server that does not answer.
func NewMounts(servers *Servers, f QueryFunc) *Mounts {
	return &Mounts{servers: servers, query: f, mounts: map[string]*mountEntry{}, byDirectory: map[string]*query{}}
}

// Server returns how long a server took to answer: see Servers.Check.
func (u *Mounts) Server(ctx context.Context, e Endpoint) (time.Duration, error) {
	return u.servers.Check(ctx, e)
}

// Watch watches a server while something else is asked of it: see Servers.Watch.
func (u *Mounts) Watch(ctx context.Context, e Endpoint) (context.Context, context.CancelFunc) {
	return u.servers.Watch(ctx, e)
}

// Query returns the state of the file system, at most maxAge old. The error is ErrUnavailable if
// the server does not answer, or if the file system returned an error, such as unix.ESTALE; it is
// ErrBusy if the query got no slot because of other queries.
func (u *Mounts) Query(ctx context.Context, m Mount, maxAge time.Duration) (MountStatus, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.entry(m.Path)
	if time.Since(e.healthyAt) < maxAge {
		return e.last, nil
	}
	for {
		q := e.inFlight
		enough := q == nil || m.ReadOnly || !q.ReadOnly // or else it does not check for writes
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

// wait waits for the answer, without the lock. If ctx ends before, it returns the reason why there
// is no answer.
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

// Usage returns the space of the file system. If the file system does not answer in time, Usage
// returns the last answer, at most ten minutes old, and after that ErrUnavailable.
func (u *Mounts) Usage(ctx context.Context, m Mount) (volume.Space, error) {
	m.ReadOnly = true // writes do not matter
	space, known, err := u.sharedUsage(ctx, m)
	if !known {
		var a MountStatus
		a, err = u.Query(ctx, m, 0)
		space = a.Space
	}
	if err != nil {
		return u.lastUsage(m, err)
	}
	return space, nil
}

func (u *Mounts) lastUsage(m Mount, err error) (volume.Space, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.mounts[m.Path]; e != nil && !e.answeredAt.IsZero() && time.Since(e.answeredAt) < usageTTL {
		return e.last.Space, nil
	}
	return volume.Space{}, err
}

// sharedUsage waits for the answer of another mount that shows the same directory, if a query is in
// flight. It ignores an error of that query: the other mount may show a directory that has been
// recreated since.
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

// MarkHealthy records that the file system has just answered another call.
func (u *Mounts) MarkHealthy(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entry(path).healthyAt = time.Now()
}

// Forget drops the state of a mount that is gone.
func (u *Mounts) Forget(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mounts, path)
}

func (u *Mounts) runQuery(q *query, e *mountEntry) {
	a, err := u.queryServer(q)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byDirectory[q.DirectoryID] == q {
		delete(u.byDirectory, q.DirectoryID)
	}
	q.answer, q.err = a, err
	close(q.done)
	e.inFlight, e.err = nil, err
	if err != nil {
		e.healthyAt = time.Time{}
		return
	}
	e.last, e.answeredAt = a, time.Now()
	e.healthyAt = e.answeredAt
}

// queryServer queries the file system if its server answers. An errno is ErrUnavailable.
func (u *Mounts) queryServer(q *query) (MountStatus, error) {
	if _, err := u.servers.Check(context.Background(), q.Endpoint); err != nil {
		return MountStatus{}, fmt.Errorf("%s: %w", q.Path, err)
	}
	a, err := u.queryFileSystem(q)
	if err != nil {
		return a, err
	}
	if a.Errno != 0 {
		return a, volume.Errorf(volume.ErrUnavailable, "%s: %w", q.Path, a.Errno)
	}
	return a, nil
}

// queryFileSystem queries the file system. Its timeout begins when the query gets its slot.
func (u *Mounts) queryFileSystem(q *query) (MountStatus, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	setWaiting := func(waits bool) {
		u.mu.Lock()
		defer u.mu.Unlock()
		q.waitsForSlot = waits
	}
	setWaiting(true)
	noSlot := time.AfterFunc(slotTimeout, func() { cancel(busyError(q.Path, context.DeadlineExceeded)) })
	defer noSlot.Stop()
	return u.query(ctx, q.Mount, func() {
		setWaiting(false)
		noSlot.Stop()
		recheck := time.AfterFunc(recheckAfter, func() { u.servers.Invalidate(q.Endpoint) })
		timeout := time.AfterFunc(queryTimeout, func() { cancel(silentError(q.Path, context.DeadlineExceeded)) })
		context.AfterFunc(ctx, func() { recheck.Stop(); timeout.Stop() })
	})
}

func silentError(path string, err error) error {
	return volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer (%w)", path, err)
}

func busyError(path string, err error) error {
	return volume.Errorf(volume.ErrBusy, "%s: not queried yet, because of queries of other mounts (%w): try again", path, err)
}
