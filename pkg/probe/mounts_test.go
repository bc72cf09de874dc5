// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// TestMain lets the test program run as the process of Worker.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == ChildCommand {
		if err := Child(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fileSystem is a fake: it answers queries after a while, or not at all, and counts them.
type fileSystem struct {
	mu    sync.Mutex
	asked map[string]int
	waits time.Duration // for a slot
	takes time.Duration
	err   error
}

func (s *fileSystem) ask(ctx context.Context, m Mount, began func()) (MountStatus, error) {
	path := m.Path
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[path]++
	n, waits, takes, err := s.asked[path], s.waits, s.takes, s.err
	s.mu.Unlock()
	select {
	case <-time.After(waits):
	case <-ctx.Done():
		return MountStatus{}, context.Cause(ctx)
	}
	began()
	select {
	case <-time.After(takes):
		return MountStatus{Space: volume.Space{Total: int64(n)}, ReadOnly: !m.ReadOnly}, err
	case <-ctx.Done():
		return MountStatus{}, context.Cause(ctx)
	}
}

// queries returns the number of queries for a path.
func (s *fileSystem) queries(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *fileSystem) now(takes time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.err = takes, err
}

func newMounts(s *fileSystem) *Mounts {
	return NewMounts(NewServers(nil), s.ask)
}

// wantUsage calls Usage with a timeout, and checks the time that it takes and its result. want 0
// means ErrUnavailable.
func wantUsage(t *testing.T, u *Mounts, timeout, took time.Duration, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	space, err := u.Usage(ctx, Mount{Path: "/v"})
	if d := time.Since(start); d != took {
		t.Errorf("the answer took %v, want %v", d, took)
	}
	if space.Total != want || (err == nil) != (want > 0) || err != nil && volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("the answer is %+v, %v, want %d", space, err, want)
	}
}

// TestOneQuery makes many calls at once: the file system gets one query per mount.
func TestOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { wantUsage(t, u, time.Minute, time.Second, 1) })
			wg.Go(func() {
				if _, err := u.Usage(context.Background(), Mount{Path: "/other"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.queries("/v") != 1 || s.queries("/other") != 1 {
			t.Errorf("the queries are %v", s.asked)
		}
		wantUsage(t, u, time.Minute, time.Second, 2) // the next call makes another query
	})
}

// TestLastAnswerServes uses a server that stops answering, and comes back.
func TestLastAnswerServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Millisecond}
		u := newMounts(s)
		wantUsage(t, u, time.Minute, time.Millisecond, 1)
		s.now(time.Hour, nil)
		wantUsage(t, u, time.Second, time.Second, 1)
		wantUsage(t, u, time.Second, time.Second, 1)
		if s.queries("/v") != 2 {
			t.Errorf("a server that does not answer got %d queries", s.queries("/v")-1)
		}
		time.Sleep(queryTimeout)
		wantUsage(t, u, time.Minute, queryTimeout, 1) // the query ends after its timeout
		time.Sleep(usageTTL)
		wantUsage(t, u, time.Minute, queryTimeout, 0)
		wantUsage(t, u, time.Second, time.Second, 0)
		time.Sleep(queryTimeout)
		s.now(time.Millisecond, nil)
		wantUsage(t, u, time.Minute, time.Millisecond, int64(s.queries("/v"))+1)
	})
}

// TestNoAnswer uses a server that never answers: each caller has its own timeout.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Hour}
		u := newMounts(s)
		wantUsage(t, u, time.Second, time.Second, 0)
		wantUsage(t, u, time.Minute, queryTimeout-time.Second, 0)
		if s.queries("/v") != 1 {
			t.Errorf("got %d queries", s.queries("/v"))
		}
	})
}

// TestErrorAnswer uses a file system that fails at once: the caller gets its error.
func TestErrorAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := volume.Errorf(volume.ErrUnavailable, "stale file handle")
		s := &fileSystem{err: stale}
		u := newMounts(s)
		if _, err := u.Usage(context.Background(), Mount{Path: "/v"}); !errors.Is(err, stale) {
			t.Errorf("the error is %v", err)
		}
		s.now(0, nil)
		wantUsage(t, u, time.Second, 0, 2)
	})
}

// TestForget drops an answer, and the answer of a query in flight.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{}
		u := newMounts(s)
		wantUsage(t, u, time.Second, 0, 1)
		s.now(time.Hour, nil)
		wantUsage(t, u, time.Second, time.Second, 1)
		u.Forget("/v")
		u.Forget("/never")
		if len(u.mounts) != 0 {
			t.Errorf("entries are left: %v", u.mounts)
		}
		wantUsage(t, u, time.Second, time.Second, 0)
		time.Sleep(queryTimeout)
		s.now(0, nil)
		wantUsage(t, u, time.Second, 0, 4)
	})
}

// TestMaxAge makes no query after a recent answer, and makes one after an error.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{}
		u := newMounts(s)
		ask := func(want int) {
			t.Helper()
			_, _ = u.Query(context.Background(), Mount{Path: "/v"}, time.Minute)
			if n := s.queries("/v"); n != want {
				t.Errorf("got %d queries, want %d", n, want)
			}
		}
		u.MarkHealthy("/v")
		ask(0)
		time.Sleep(time.Minute)
		s.now(0, errors.New("no"))
		ask(1)
		ask(2)
		s.now(0, nil)
		ask(3)
		ask(3)
	})
}

// TestErrno uses a file system that returns an errno.
func TestErrno(t *testing.T) {
	u := NewMounts(NewServers(nil), func(context.Context, Mount, func()) (MountStatus, error) { return MountStatus{Errno: unix.ESTALE}, nil })
	_, err := u.Query(context.Background(), Mount{Path: "/v"}, 0)
	if !errors.Is(err, unix.ESTALE) || volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("the error is %v (of kind %v)", err, volume.Kind(err))
	}
}

// TestDeadServer makes no query to a file system of a server that does not answer.
func TestDeadServer(t *testing.T) {
	dead := volume.Errorf(volume.ErrUnavailable, "dead")
	s := &fileSystem{}
	u := NewMounts(NewServers(func(context.Context, Endpoint) error { return dead }), s.ask)
	_, err := u.Query(context.Background(), Mount{Path: "/v", Endpoint: EndpointOf("nas", nil)}, 0)
	if !errors.Is(err, dead) || s.queries("/v") > 0 {
		t.Errorf("the error is %v after %d queries", err, s.queries("/v"))
	}
}

// TestBusy makes a query wait for its slot: the error does not blame the server, and the query's
// timeout begins with its slot.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{waits: time.Hour}
		u := newMounts(s)
		ask := func(timeout, took time.Duration, kind error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			start := time.Now()
			_, err := u.Query(ctx, Mount{Path: "/v"}, 0)
			if d := time.Since(start); d != took || volume.Kind(err) != kind {
				t.Errorf("after %v, want %v, the error is %v", d, took, err)
			}
		}
		ask(time.Second, time.Second, volume.ErrBusy)
		ask(time.Minute, slotTimeout-time.Second, volume.ErrBusy)
		s.mu.Lock()
		s.waits, s.takes = slotTimeout-1, queryTimeout-1
		s.mu.Unlock()
		ask(time.Minute, slotTimeout+queryTimeout-2, nil)
		ask(slotTimeout, slotTimeout, volume.ErrUnavailable) // the query has begun
		time.Sleep(queryTimeout)
		s.now(time.Hour, nil)
		ask(time.Minute, slotTimeout-1+queryTimeout, volume.ErrUnavailable)
	})
}

// TestWriteQuery needs more than the query in flight returns: another query follows it.
func TestWriteQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		var all sync.WaitGroup
		all.Go(func() { wantUsage(t, u, time.Minute, time.Second, 1) })
		synctest.Wait()
		for range 5 {
			all.Go(func() {
				if a, err := u.Query(context.Background(), Mount{Path: "/v"}, 0); err != nil || !a.ReadOnly || a.Space.Total != 2 {
					t.Errorf("the answer is %+v, %v", a, err)
				}
			})
		}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if _, err := u.Query(ctx, Mount{Path: "/v"}, 0); volume.Kind(err) != volume.ErrUnavailable {
				t.Errorf("after its timeout the error is %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { wantUsage(t, u, time.Minute, time.Second, 1) }) // the query in flight is enough
		all.Wait()
		if s.queries("/v") != 2 {
			t.Errorf("got %d queries", s.queries("/v"))
		}
	})
}

// TestSharedUsage calls Usage for several mounts of one volume: one query answers all. Only the
// caller of the query gets its error.
func TestSharedUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		usage := func(path string, timeout time.Duration, total int64, kind error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			if space, err := u.Usage(ctx, Mount{Path: path, DirectoryID: "0:1 /v"}); space.Total != total || volume.Kind(err) != kind {
				t.Errorf("%s has %d, %v", path, space.Total, err)
			}
		}
		var all sync.WaitGroup
		at := func(path string, timeout time.Duration, total int64, kind error) {
			all.Go(func() { usage(path, timeout, total, kind) })
			synctest.Wait()
		}
		at("/a", time.Minute, 1, nil)
		at("/b", time.Minute, 1, nil)
		at("/c", time.Millisecond, 0, volume.ErrUnavailable)
		all.Wait()
		if s.queries("/a") != 1 || s.queries("/b")+s.queries("/c") != 0 || len(u.byDirectory) > 0 {
			t.Errorf("the queries are %v, and %v is left", s.asked, u.byDirectory)
		}
		s.now(time.Hour, nil)
		at("/b", time.Second, 1, nil) // the last answer
		all.Wait()
		time.Sleep(queryTimeout)
		s.now(time.Second, volume.Errorf(volume.ErrUnavailable, "stale"))
		at("/d", time.Minute, 0, volume.ErrUnavailable)
		s.now(time.Second, nil)
		at("/e", time.Minute, 1, nil)
		all.Wait()
		if s.queries("/d") != 1 || s.queries("/e") != 1 {
			t.Errorf("the queries are %v", s.asked)
		}
	})
}
