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

// TestMain lets this program be the process that Worker runs.
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

// fileSystem answers questions after a while, or not at all, and counts them.
type fileSystem struct {
	mu    sync.Mutex
	asked map[string]int
	waits time.Duration // for its turn
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

// questions returns how many there have been.
func (s *fileSystem) questions(path string) int {
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

// within asks, and fails the test unless there is that answer, in that time. 0 stands for
// ErrUnavailable.
func within(t *testing.T, u *Mounts, patience, took time.Duration, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// TestOneQuery has many ask at once: the server hears one question per mount.
func TestOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { within(t, u, time.Minute, time.Second, 1) })
			wg.Go(func() {
				if _, err := u.Usage(context.Background(), Mount{Path: "/other"}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if s.questions("/v") != 1 || s.questions("/other") != 1 {
			t.Errorf("asked was %v", s.asked)
		}
		within(t, u, time.Minute, time.Second, 2) // later there is another question
	})
}

// TestLastAnswerServes has a server stop to answer, and come back.
func TestLastAnswerServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Millisecond}
		u := newMounts(s)
		within(t, u, time.Minute, time.Millisecond, 1)
		s.now(time.Hour, nil)
		within(t, u, time.Second, time.Second, 1)
		within(t, u, time.Second, time.Second, 1)
		if s.questions("/v") != 2 {
			t.Errorf("a server that does not answer has %d questions", s.questions("/v")-1)
		}
		time.Sleep(queryTimeout)
		within(t, u, time.Minute, queryTimeout, 1) // the question ends by itself
		time.Sleep(usageTTL)
		within(t, u, time.Minute, queryTimeout, 0)
		within(t, u, time.Second, time.Second, 0)
		time.Sleep(queryTimeout)
		s.now(time.Millisecond, nil)
		within(t, u, time.Minute, time.Millisecond, int64(s.questions("/v"))+1)
	})
}

// TestNoAnswer has a server that never answered: each caller has its own patience.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Hour}
		u := newMounts(s)
		within(t, u, time.Second, time.Second, 0)
		within(t, u, time.Minute, queryTimeout-time.Second, 0)
		if s.questions("/v") != 1 {
			t.Errorf("there were %d questions", s.questions("/v"))
		}
	})
}

// TestErrorAnswer has the kernel say no: at once, and with the reason.
func TestErrorAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := volume.Errorf(volume.ErrUnavailable, "stale file handle")
		s := &fileSystem{err: stale}
		u := newMounts(s)
		if _, err := u.Usage(context.Background(), Mount{Path: "/v"}); !errors.Is(err, stale) {
			t.Errorf("the error is %v", err)
		}
		s.now(0, nil)
		within(t, u, time.Second, 0, 2)
	})
}

// TestForget drops an answer, and what still comes of an old question.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{}
		u := newMounts(s)
		within(t, u, time.Second, 0, 1)
		s.now(time.Hour, nil)
		within(t, u, time.Second, time.Second, 1)
		u.Forget("/v")
		u.Forget("/never")
		if len(u.mounts) != 0 {
			t.Errorf("known is still %v", u.mounts)
		}
		within(t, u, time.Second, time.Second, 0)
		time.Sleep(queryTimeout)
		s.now(0, nil)
		within(t, u, time.Second, 0, 4)
	})
}

// TestMaxAge asks no more where somebody has just had an answer, and asks after an error.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{}
		u := newMounts(s)
		ask := func(want int) {
			t.Helper()
			_, _ = u.Query(context.Background(), Mount{Path: "/v"}, time.Minute)
			if n := s.questions("/v"); n != want {
				t.Errorf("there were %d questions, want %d", n, want)
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

// TestErrno has the file system say what is wrong by a number.
func TestErrno(t *testing.T) {
	u := NewMounts(NewServers(nil), func(context.Context, Mount, func()) (MountStatus, error) { return MountStatus{Errno: unix.ESTALE}, nil })
	_, err := u.Query(context.Background(), Mount{Path: "/v"}, 0)
	if !errors.Is(err, unix.ESTALE) || volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("the error is %v (of kind %v)", err, volume.Kind(err))
	}
}

// TestDeadServer asks no file system of a server that does not answer.
func TestDeadServer(t *testing.T) {
	dead := volume.Errorf(volume.ErrUnavailable, "dead")
	s := &fileSystem{}
	u := NewMounts(NewServers(func(context.Context, Endpoint) error { return dead }), s.ask)
	_, err := u.Query(context.Background(), Mount{Path: "/v", Endpoint: EndpointOf("nas", nil)}, 0)
	if !errors.Is(err, dead) || s.questions("/v") > 0 {
		t.Errorf("the error is %v, and it was asked %d times", err, s.questions("/v"))
	}
}

// TestBusy has a question wait for its turn: for that nobody blames the server, and the time in
// which it has to answer begins afterwards.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{waits: time.Hour}
		u := newMounts(s)
		ask := func(patience, took time.Duration, kind error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			start := time.Now()
			_, err := u.Query(ctx, Mount{Path: "/v"}, 0)
			if d := time.Since(start); d != took || volume.Kind(err) != kind {
				t.Errorf("after %v, not %v, the error is %v", d, took, err)
			}
		}
		ask(time.Second, time.Second, volume.ErrBusy)
		ask(time.Minute, slotTimeout-time.Second, volume.ErrBusy)
		s.mu.Lock()
		s.waits, s.takes = slotTimeout-1, queryTimeout-1
		s.mu.Unlock()
		ask(time.Minute, slotTimeout+queryTimeout-2, nil)
		ask(slotTimeout, slotTimeout, volume.ErrUnavailable) // it has begun
		time.Sleep(queryTimeout)
		s.now(time.Hour, nil)
		ask(time.Minute, slotTimeout-1+queryTimeout, volume.ErrUnavailable)
	})
}

// TestWriteQuery asks for more than the question that is under way: there is one after
// the other.
func TestWriteQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		var all sync.WaitGroup
		all.Go(func() { within(t, u, time.Minute, time.Second, 1) })
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
				t.Errorf("too late the error is %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { within(t, u, time.Minute, time.Second, 1) }) // what is under way is enough
		all.Wait()
		if s.questions("/v") != 2 {
			t.Errorf("there were %d questions", s.questions("/v"))
		}
	})
}

// TestSharedUsage has the pods of a volume ask at once: one question answers all. An error is for
// the one alone who has asked.
func TestSharedUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fileSystem{takes: time.Second}
		u := newMounts(s)
		usage := func(path string, patience time.Duration, total int64, kind error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if space, err := u.Usage(ctx, Mount{Path: path, DirectoryID: "0:1 /v"}); space.Total != total || volume.Kind(err) != kind {
				t.Errorf("%s has %d, %v", path, space.Total, err)
			}
		}
		var all sync.WaitGroup
		at := func(path string, patience time.Duration, total int64, kind error) {
			all.Go(func() { usage(path, patience, total, kind) })
			synctest.Wait()
		}
		at("/a", time.Minute, 1, nil)
		at("/b", time.Minute, 1, nil)
		at("/c", time.Millisecond, 0, volume.ErrUnavailable)
		all.Wait()
		if s.questions("/a") != 1 || s.questions("/b")+s.questions("/c") != 0 || len(u.byDirectory) > 0 {
			t.Errorf("asked was %v, and %v is remembered", s.asked, u.byDirectory)
		}
		s.now(time.Hour, nil)
		at("/b", time.Second, 1, nil) // what it was
		all.Wait()
		time.Sleep(queryTimeout)
		s.now(time.Second, volume.Errorf(volume.ErrUnavailable, "stale"))
		at("/d", time.Minute, 0, volume.ErrUnavailable)
		s.now(time.Second, nil)
		at("/e", time.Minute, 1, nil)
		all.Wait()
		if s.questions("/d") != 1 || s.questions("/e") != 1 {
			t.Errorf("asked was %v", s.asked)
		}
	})
}
