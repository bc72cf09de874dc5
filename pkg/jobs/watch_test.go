// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// watch starts a Watcher on the site's pool.
func (s *site) watch(change ...func(*Watcher)) *Watcher { return s.watchIn(quiet, change...) }

func (s *site) watchIn(ctx context.Context, change ...func(*Watcher)) *Watcher {
	w := NewWatcher(s.pool)
	for _, f := range change {
		f(w)
	}
	ctx, cancel := context.WithCancel(ctx)
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
		s.registry.Store(&volume.Registry{Shares: []volume.Share{nas1(0)}})
		want("nas1 up") // exports that are not registered are not allowed any more
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
			ask := w.queryFunc
			w.queryFunc = func(ctx context.Context, before ShareStatus) ShareStatus {
				if before.Share == "nas2" {
					tries.Add(1)
					<-release // whatever ctx says, as statfs(2) does
				}
				return ask(ctx, before)
			}
		}
		w := s.watch(hang)
		if got := seen(w); got != "nas1 up" {
			t.Errorf("at first seen is %q", got)
		}
		time.Sleep(watchTimeout + bounded.Grace)
		synctest.Wait()
		if got := seen(w); got != "nas1 up; nas2 down" {
			t.Errorf("after %v seen is %q", watchTimeout, got)
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

// TestBeats counts how often shares are written to, and which are not.
func TestBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ro := volume.Share{Name: "ro", Servers: []string{"10.0.0.2"}, Path: "/ro", MountOptions: []string{"rw", "ro"}}
		s := newSite(t, nas1(0), ro)
		defer s.end()
		s.export("ro")
		var beats atomic.Int64
		s.step = func(what string) {
			if what == "write the heartbeat" {
				beats.Add(1)
			}
		}
		s.watch()
		for minute := range 3 {
			if n := int(beats.Load()); n != minute+1 {
				t.Errorf("in the minute %d it was written to %d times", minute, n)
			}
			time.Sleep(heartbeatInterval)
			synctest.Wait()
		}
		if _, err := os.Stat(filepath.Join(s.root, "nas1/.mooring/heartbeat")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(s.root, "ro/.mooring/heartbeat")); err == nil {
			t.Error("a share that is mounted read-only was written to")
		}
	})
}

// TestFaults has a disk fail in every way, and be well again.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.end()
		var fails, down atomic.Pointer[error]
		s.mounter.Fail = func(call, _ string) error {
			if err := down.Load(); err != nil && call == "mount" {
				return *err
			}
			return nil
		}
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		log := logger.GetSink().(ktesting.Underlier).GetBuffer()
		w := s.watchIn(klog.NewContext(context.Background(), logger), func(w *Watcher) {
			w.heartbeat = func(s *share.Share, ctx context.Context) error {
				if err := fails.Load(); err != nil {
					return s.WrapError("write .mooring/heartbeat", *err)
				}
				return s.Heartbeat(ctx)
			}
		})
		want := func(after time.Duration, state string, reason volume.Reason, logged string) {
			t.Helper()
			before := log.String()
			time.Sleep(after)
			synctest.Wait()
			fault := w.Fault("nas1")
			if got := seen(w); got != "nas1 "+state || fault.Reason != reason || (fault.Message == "") != (reason == "") {
				t.Errorf("seen is %q, with %+v; want %s and %s", got, fault, state, reason)
			}
			told := w.Status()[0].Faults()
			if is, known := told[string(reason)]; len(told) != 5 || is != known || known != (reason != "") {
				t.Errorf("told is %v, want %s", told, reason)
			}
			now := strings.TrimPrefix(log.String(), before)
			if n := strings.Count(now, "be written to"); (logged == "") != (n == 0) || n > 1 || !strings.Contains(now, logged) {
				t.Errorf("logged is %q, want %q", now, logged)
			}
		}
		fail := func(errno unix.Errno) { var err error = errno; fails.Store(&err) }
		want(0, "up", "", "")
		for errno, reason := range map[unix.Errno]volume.Reason{
			unix.EIO: volume.DiskFailing, unix.EROFS: volume.ReadOnlyServer, unix.ENOSPC: volume.ShareFull,
			unix.EDQUOT: volume.ShareFull, unix.EACCES: volume.AccessDenied,
		} {
			fail(errno)
			want(heartbeatInterval, "up", reason, "Share cannot be written to")
			want(heartbeatInterval, "up", reason, "") // told once
			fail(unix.ETIMEDOUT)
			want(heartbeatInterval, "up", reason, "") // which says nothing of it
			fails.Store(nil)
			want(watchInterval, "up", "", "Share can be written to again")
		}
		fail(unix.ETIMEDOUT)
		want(2*heartbeatInterval, "up", "", "")
		fail(unix.EIO)
		want(heartbeatInterval, "up", volume.DiskFailing, "Share cannot be written to")
		away := volume.Errorf(volume.ErrUnavailable, "down")
		down.Store(&away)
		s.register(volume.Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/nas1", MountOptions: []string{"timeo=1"}}) // it is mounted anew
		want(watchInterval, "down", volume.DiskFailing, "")
		fails.Store(nil)
		down.Store(nil)
		want(watchInterval, "up", "", "Share can be written to again")
		bad := volume.Errorf(volume.ErrUnavailable, "mount: %w", unix.EIO)
		down.Store(&bad)
		s.register(nas1(0))
		want(watchInterval, "down", volume.DiskFailing, "Share cannot be written to")
	})
}

// TestHeartbeatHangs has a disk on which a write hangs: the share has a fault, it is checked all the same,
// and there is no second write before the first has ended.
func TestHeartbeatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.end()
		release := make(chan struct{})
		var tries, looks atomic.Int64
		w := s.watch(func(w *Watcher) {
			w.queryFunc = func(ctx context.Context, before ShareStatus) ShareStatus { looks.Add(1); return w.query(ctx, before) }
			w.heartbeat = func(sh *share.Share, _ context.Context) error {
				if tries.Add(1) == 1 {
					<-release // whatever ctx says, as write(2) does
					return sh.WrapError("write", unix.ETIMEDOUT)
				}
				return nil
			}
		})
		want := func(reason volume.Reason, tried int64) {
			t.Helper()
			if got := seen(w); got != "nas1 up" || tries.Load() != tried || w.Fault("nas1").Reason != reason {
				t.Errorf("seen is %q, after %d tries, with %+v", got, tries.Load(), w.Fault("nas1"))
			}
		}
		want("", 1)
		time.Sleep(watchTimeout)
		synctest.Wait()
		want(volume.SlowResponses, 1)
		time.Sleep(10 * watchInterval)
		synctest.Wait()
		if want(volume.SlowResponses, 1); looks.Load() != 11 {
			t.Errorf("it was looked at %d times", looks.Load())
		}
		close(release)
		synctest.Wait()
		want(volume.SlowResponses, 1)
		time.Sleep(watchInterval)
		synctest.Wait()
		want("", 2)
	})
}

// TestWatchLog checks that a share that goes down and comes back is one line of the log each, also if it
// is down at the start, and if its server is silent.
func TestWatchLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.end()
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true), ktesting.Verbosity(2)))
		log := logger.GetSink().(ktesting.Underlier).GetBuffer()
		var down, silent atomic.Bool
		down.Store(true)
		s.watchIn(klog.NewContext(context.Background(), logger), func(w *Watcher) {
			query := w.queryFunc
			w.queryFunc = func(ctx context.Context, before ShareStatus) ShareStatus {
				switch {
				case silent.Load():
					<-ctx.Done()
					time.Sleep(time.Second) // after the timeout
				case down.Load():
					return before.asDown(volume.Errorf(volume.ErrUnavailable, "no route"))
				}
				return query(ctx, before)
			}
		})
		from := 0
		want := func(line string) {
			t.Helper()
			time.Sleep(4 * watchInterval)
			synctest.Wait()
			all := log.String()
			var lines []string
			for logged := range strings.Lines(all[from:]) {
				if strings.Contains(logged, "Share is") {
					lines = append(lines, logged)
				}
			}
			from = len(all)
			if len(lines) != 1 || !strings.Contains(lines[0], line) {
				t.Errorf("the log has %q, want one line with %s", lines, line)
			}
		}
		want("no route")
		down.Store(false)
		want("Share is up again")
		silent.Store(true)
		want("no answer within 10s")
		silent.Store(false)
		want("Share is up again")
	})
}
