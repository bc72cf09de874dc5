// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// watch starts a Watcher on the site's pool.
func (s *site) watch(change ...func(*Watcher)) *Watcher {
	w := NewWatcher(s.pool)
	for _, f := range change {
		f(w)
	}
	ctx, cancel := context.WithCancel(quiet)
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	s.stop = func() { cancel(); <-done }
	synctest.Wait()
	return w
}

// seen says of each share whether it is up, in the order of their names.
func seen(w *Watcher) string {
	var all []string
	for _, s := range w.Status() {
		state := "down"
		if s.Up {
			state = "up"
		}
		if s.Up != (s.Space.Total > 0) {
			state += ", of another size than that says"
		}
		all = append(all, s.Share+" "+state)
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// TestWatch looks at shares that are there, go, come back and are taken out of the registry.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nas2 := volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/nas2"}
		s := newSite(t, nas1(0), nas2)
		defer s.end()
		s.export("nas2")
		s.export("other")
		var down atomic.Bool
		s.mounter.Fail = func(call, target string) error {
			if call == "mount" && down.Load() && strings.Contains(target, "nas2") {
				return volume.Errorf(volume.ErrUnavailable, "down")
			}
			return nil
		}
		w := s.watch()
		want := func(is string) {
			t.Helper()
			time.Sleep(watchInterval)
			synctest.Wait()
			if got := seen(w); got != is {
				t.Errorf("seen is %q, want %q", got, is)
			}
		}
		want("nas1 up; nas2 up")
		s.open("10.0.0.9:/other")
		want("10.0.0.9:/other up; nas1 up; nas2 up")
		down.Store(true)
		nas2.MountOptions = []string{"timeo=1"} // it is mounted anew
		s.register(nas1(0), nas2)
		want("10.0.0.9:/other up; nas1 up; nas2 down")
		down.Store(false)
		want("10.0.0.9:/other up; nas1 up; nas2 up")
		s.register(nas1(0))
		want("10.0.0.9:/other up; nas1 up")
	})
}

// TestWatchHangs has a share hang, as a mount can: it is down after a while, the other one is not
// held up, and nobody asks a second time before the first has come back.
func TestWatchHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nas2 := volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/nas2"}
		s := newSite(t, nas1(0), nas2)
		s.export("nas2")
		release := make(chan struct{})
		var tries atomic.Int64
		hang := func(w *Watcher) {
			ask := w.ask
			w.ask = func(ctx context.Context, name string) Seen {
				if name == "nas2" {
					tries.Add(1)
					<-release // whatever ctx says, as statfs(2) does
				}
				return ask(ctx, name)
			}
		}
		w := s.watch(hang)
		if got := seen(w); got != "nas1 up" {
			t.Errorf("at first seen is %q", got)
		}
		time.Sleep(watchPatience)
		synctest.Wait()
		if got := seen(w); got != "nas1 up; nas2 down" {
			t.Errorf("after %v seen is %q", watchPatience, got)
		}
		time.Sleep(10 * watchInterval)
		synctest.Wait()
		if n := tries.Load(); n != 1 || seen(w) != "nas1 up; nas2 down" {
			t.Errorf("there were %d tries; seen is %q", n, seen(w))
		}
		close(release)
		time.Sleep(watchInterval)
		synctest.Wait()
		if got := seen(w); got != "nas1 up; nas2 up" {
			t.Errorf("when it is back, seen is %q", got)
		}
		s.end()
	})
}
