// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestMain lets this program be the child that ByChild runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == ChildCommand {
		if err := Child(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// server answers questions after a while, or not at all, and counts them.
type server struct {
	mu    sync.Mutex
	asked map[string]int
	takes time.Duration
	err   error
}

func (s *server) ask(ctx context.Context, path string) (volume.Space, error) {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[path]++
	n, takes, err := s.asked[path], s.takes, s.err
	s.mu.Unlock()
	select {
	case <-time.After(takes):
		return volume.Space{Total: int64(n)}, err
	case <-ctx.Done():
		return volume.Space{}, volume.Errorf(volume.ErrUnavailable, "no answer (%w)", ctx.Err())
	}
}

// questions returns how many there have been.
func (s *server) questions(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func (s *server) now(takes time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes, s.err = takes, err
}

// within asks, and fails the test unless there is that answer, in that time. 0 stands for
// ErrUnavailable.
func within(t *testing.T, u *Usage, patience, took time.Duration, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	space, err := u.Of(ctx, "/v")
	if d := time.Since(start); d != took {
		t.Errorf("the answer took %v, want %v", d, took)
	}
	if space.Total != want || (err == nil) != (want > 0) || err != nil && volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("the answer is %+v, %v, want %d", space, err, want)
	}
}

// TestOneQuestion has many ask at once: the server hears one question per mount.
func TestOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: time.Second}
		u := NewUsage(s.ask)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { within(t, u, time.Minute, time.Second, 1) })
			wg.Go(func() {
				if _, err := u.Of(context.Background(), "/other"); err != nil {
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
		s := &server{takes: time.Millisecond}
		u := NewUsage(s.ask)
		within(t, u, time.Minute, time.Millisecond, 1)
		s.now(time.Hour, nil)
		within(t, u, time.Second, time.Second, 1)
		within(t, u, time.Second, time.Second, 1)
		if s.questions("/v") != 2 {
			t.Errorf("a server that does not answer has %d questions", s.questions("/v")-1)
		}
		time.Sleep(patience)
		within(t, u, time.Minute, patience, 1) // the question ends by itself
		time.Sleep(memory)
		within(t, u, time.Minute, patience, 0)
		within(t, u, time.Second, time.Second, 0)
		time.Sleep(patience)
		s.now(time.Millisecond, nil)
		within(t, u, time.Minute, time.Millisecond, int64(s.questions("/v"))+1)
	})
}

// TestNoAnswer has a server that never answered: each caller has its own patience.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{takes: time.Hour}
		u := NewUsage(s.ask)
		within(t, u, time.Second, time.Second, 0)
		within(t, u, time.Minute, patience-time.Second, 0)
		if s.questions("/v") != 1 {
			t.Errorf("there were %d questions", s.questions("/v"))
		}
	})
}

// TestErrorAnswer has the kernel say no: at once, and with the reason.
func TestErrorAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stale := volume.Errorf(volume.ErrUnavailable, "stale file handle")
		s := &server{err: stale}
		u := NewUsage(s.ask)
		if _, err := u.Of(context.Background(), "/v"); !errors.Is(err, stale) {
			t.Errorf("the error is %v", err)
		}
		s.now(0, nil)
		within(t, u, time.Second, 0, 2)
	})
}

// TestForget drops an answer, and what still comes of an old question.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		u := NewUsage(s.ask)
		within(t, u, time.Second, 0, 1)
		s.now(time.Hour, nil)
		within(t, u, time.Second, time.Second, 1)
		u.Forget("/v")
		u.Forget("/never")
		if len(u.mounts) != 0 {
			t.Errorf("known is still %v", u.mounts)
		}
		within(t, u, time.Second, time.Second, 0)
		time.Sleep(patience)
		s.now(0, nil)
		within(t, u, time.Second, 0, 4)
	})
}

func TestByChild(t *testing.T) {
	var b ByChild
	if space, err := b.Ask(context.Background(), t.TempDir()); err != nil || space.Total <= 0 || space.Free > space.Total {
		t.Errorf("the space is %+v, %v", space, err)
	}
	none := filepath.Join(t.TempDir(), "none")
	if _, err := b.Ask(context.Background(), none); volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), none) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("of a path that is not there the error is %v (of kind %v)", err, volume.Kind(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.Ask(ctx, t.TempDir()); volume.Kind(err) != volume.ErrUnavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("too late the error is %v (of kind %v)", err, volume.Kind(err))
	}
	if b.Children.Started() != 2 || b.Children.Alive() != 0 {
		t.Errorf("%d children were started and %d are left, want 2 and 0", b.Children.Started(), b.Children.Alive())
	}
}
