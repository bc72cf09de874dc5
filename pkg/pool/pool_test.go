// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// maker is the instance of the driver that the tests are.
const maker = "0a1b2c3d"

// quiet is a context in which nothing is logged.
var quiet = klog.NewContext(context.Background(), klog.Logger{})

// rig is a pool of shares that a fake mounter shows.
type rig struct {
	*testing.T
	*Pool
	mounter  *mounter
	registry atomic.Pointer[volume.Registry]
	local    string       // the pool's directory
	silent   atomic.Value // a list of servers that do not answer
}

// mounter is a mount.Fake that notes what it is asked for. before, if set, is called first
// and may hang or fail; the fake goes on beside it.
type mounter struct {
	mount.Fake
	mu     sync.Mutex
	specs  []mount.Spec
	before func(ctx context.Context, s mount.Spec) error
}

func (m *mounter) Mount(ctx context.Context, s mount.Spec) error {
	m.mu.Lock()
	m.specs = append(m.specs, s)
	before := m.before
	m.mu.Unlock()
	if before != nil {
		if err := before(ctx, s); err != nil {
			return err
		}
	}
	return m.Fake.Mount(ctx, s)
}

// asked returns for which mounts there were calls, and forgets them.
func (m *mounter) asked() []mount.Spec {
	m.mu.Lock()
	defer m.mu.Unlock()
	specs := m.specs
	m.specs = nil
	return specs
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, mounter: &mounter{Fake: mount.Fake{Root: t.TempDir()}}, local: filepath.Join(t.TempDir(), "shares")}
	for _, export := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(r.mounter.Root, export), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.register("10.0.0.1", "/a")
	r.silent.Store("")
	r.Pool = New(r.registry.Load, r.mounter, r.local, Options{Share: share.Options{Maker: maker}, Servers: probe.NewServers(func(_ context.Context, e probe.Endpoint) error {
		if slices.Contains(strings.Split(r.silent.Load().(string), ","), strings.TrimSuffix(e.Address, ":2049")) {
			return volume.Errorf(volume.ErrUnavailable, "no answer")
		}
		return nil
	})})
	return r
}

// silence makes these servers, a list, not answer, and waits until that is known. All others answer.
func (r *rig) silence(servers string) {
	r.silent.Store(servers)
	time.Sleep(10 * time.Second)
}

// register makes nas1 be at that place.
func (r *rig) register(server, path string, options ...string) {
	r.registry.Store(&volume.Registry{Unregistered: true, Shares: []volume.Share{
		{Name: "nas1", Servers: strings.Split(server, ","), Path: path, MountOptions: options},
	}})
}

// open opens a share that is there.
func (r *rig) open(name string) (*share.Share, func()) {
	r.Helper()
	s, release, err := r.Open(quiet, name, nil)
	if err != nil {
		r.Fatal(err)
	}
	return s, release
}

// mounts fails the test unless these sources are mounted, one each, and have a directory;
// nothing else does.
func (r *rig) mounts(want ...string) {
	r.Helper()
	synctest.Wait()
	table, err := r.mounter.Table()
	if err != nil {
		r.Fatal(err)
	}
	var sources []string
	for _, e := range table {
		sources = append(sources, e.Source)
	}
	slices.Sort(sources)
	if !slices.Equal(sources, want) {
		r.Errorf("mounted are %q, want %q", sources, want)
	}
	if entries, _ := os.ReadDir(r.local); len(entries) != len(want) {
		r.Errorf("the pool's directory has %v for %d mounts", entries, len(want))
	}
}

// TestMountsOnce has many callers at once.
func TestMountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.register("10.0.0.1", "/a", "nodev", "hard,timeo=600")
		r.mounter.before = func(context.Context, mount.Spec) error { time.Sleep(time.Second); return nil }
		var wg sync.WaitGroup
		var shares sync.Map
		for range 20 {
			wg.Go(func() {
				s, release := r.open("nas1")
				shares.Store(s, true)
				release()
			})
		}
		wg.Wait()
		n := 0
		shares.Range(func(any, any) bool { n++; return true })
		specs := r.mounter.asked()
		if n != 1 || len(specs) != 1 {
			t.Fatalf("20 callers got %d shares by the mounts %v", n, specs)
		}
		want := []string{"rw", "noexec", "nodev", "nosuid", "softerr", "timeo=50", "retrans=2", "retry=0", "lookupcache=positive", "nosharecache"}
		if specs[0].Source != "10.0.0.1:/a" || !slices.Equal(specs[0].Options, want) {
			t.Errorf("mounted is %+v, want the options %q", specs[0], want)
		}
		s, release := r.open("nas1")
		defer release()
		if s.Definition().Name != "nas1" || len(r.mounter.asked()) != 0 || !slices.Equal(r.Opened(), []string{"nas1"}) {
			t.Errorf("later it is %v of %v", s.Definition(), r.Opened())
		}
		r.mounts("10.0.0.1:/a")
		r.Close()
		r.mounts()
		if len(r.Opened()) != 0 {
			t.Errorf("after Close there are %v", r.Opened())
		}
	})
}

// TestRemembersFailure has a server that is down: for a moment nobody else tries.
func TestRemembersFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		down := volume.Errorf(volume.ErrUnavailable, "down")
		r.mounter.Fail = func(call, _ string) error { return down }
		try := func(mounts int) {
			t.Helper()
			if _, _, err := r.Open(quiet, "nas1", nil); !errors.Is(err, down) || volume.Kind(err) != volume.ErrUnavailable {
				t.Errorf("the error is %v", err)
			}
			if n := len(r.mounter.asked()); n != mounts {
				t.Errorf("there were %d mounts, want %d", n, mounts)
			}
			r.mounts()
		}
		try(1)
		time.Sleep(failureTTL - time.Millisecond)
		try(0)
		time.Sleep(time.Millisecond)
		try(1)
		if len(r.Opened()) != 0 {
			t.Errorf("opened are %v", r.Opened())
		}
		r.mounter.Fail = nil
		try2, release, err := r.Open(quiet, "nas1", nil)
		if try2 != nil || err == nil {
			release()
			t.Error("the failure was forgotten at once")
		}
		time.Sleep(failureTTL)
		_, release = r.open("nas1")
		release()

		r.register("10.0.0.9", "/none") // another place is not the one that failed
		if _, _, err := r.Open(quiet, "nas1", nil); volume.Kind(err) != volume.ErrPrecondition {
			t.Errorf("an export that is not there: %v", err)
		}
		r.register("10.0.0.1", "/b")
		_, release = r.open("nas1")
		release()
		if _, _, err := r.Open(quiet, "nas9", nil); volume.Kind(err) != volume.ErrPrecondition {
			t.Errorf("a share that is not registered: %v", err)
		}
		r.Close()
	})
}

// TestServers has the first server of a share not answer: it does not get the time of all.
func TestServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.register("10.0.0.1,10.0.0.2", "/a")
		r.mounter.before = func(ctx context.Context, s mount.Spec) error {
			if strings.HasPrefix(s.Source, "10.0.0.1:") {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		start := time.Now()
		_, release := r.open("nas1")
		release()
		if took := time.Since(start); took != mountTimeout/2 {
			t.Errorf("the second server was tried after %v", took)
		}
		r.mounts("10.0.0.2:/a")
		r.Close()
	})
}

// TestCallersLeave has callers with little time: the mount goes on without them.
func TestCallersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mounter.before = func(context.Context, mount.Spec) error { time.Sleep(10 * time.Second); return nil }
		ctx, cancel := context.WithTimeout(quiet, time.Second)
		defer cancel()
		start := time.Now()
		if _, _, err := r.Open(ctx, "nas1", nil); volume.Kind(err) != volume.ErrUnavailable || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v the error is %v", time.Since(start), err)
		}
		_, release := r.open("nas1")
		if took, n := time.Since(start), len(r.mounter.asked()); took != 10*time.Second || n != 1 {
			t.Errorf("after %v and %d mounts the share is there", took, n)
		}
		r.register("10.0.0.2", "/b")
		_, releaseOther := r.open("nas1")
		releaseOther()
		r.mounts("10.0.0.1:/a", "10.0.0.2:/b")
		release()
		r.mounts("10.0.0.2:/b") // who has left does not count
		r.Close()
	})
}

// TestFollowsRegistry has a share move while it is in use: who has the old place keeps
// it, and it goes with its last user.
func TestFollowsRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, releaseFirst := r.open("nas1")
		same, releaseSame := r.open("nas1")
		r.register("10.0.0.2", "/b")
		second, releaseSecond := r.open("nas1")
		if first != same || first == second || second.Definition().Path != "/b" {
			t.Error("the share did not move")
		}
		r.mounts("10.0.0.1:/a", "10.0.0.2:/b")
		releaseFirst()
		releaseFirst() // twice is once
		r.mounts("10.0.0.1:/a", "10.0.0.2:/b")
		if _, err := same.Volumes.Keys(quiet); err != nil {
			t.Errorf("under its last user: %v", err)
		}
		releaseSame()
		r.mounts("10.0.0.2:/b")

		r.register("10.0.0.2", "/b", "noatime") // other options are another mount
		third, releaseThird := r.open("nas1")
		if third == second {
			t.Error("the new options are not used")
		}
		releaseSecond()
		r.mounts("10.0.0.2:/b")
		if got := r.mounter.asked(); len(got) != 3 || got[2].Options[0] != "noatime" {
			t.Errorf("mounted were %v", got)
		}
		for _, change := range []func(def *volume.Share){ // what else the file says of it, holds at once too
			func(def *volume.Share) { def.TrashRetention = time.Hour },
			func(def *volume.Share) { def.MaxVolumes = 7 },
		} {
			registry := *r.registry.Load()
			registry.Shares = slices.Clone(registry.Shares)
			change(&registry.Shares[0])
			r.registry.Store(&registry)
			s, release := r.open("nas1")
			if got, want := s.Definition(), registry.Shares[0]; got.TrashRetention != want.TrashRetention || got.MaxVolumes != want.MaxVolumes {
				t.Errorf("the share is %+v, and should be %+v", got, want)
			}
			release()
		}
		releaseThird()
		r.mounts("10.0.0.2:/b")
		r.Close()
		r.mounts()
	})
}

// TestReopensLost has a share whose mount turned out to be dead.
func TestReopensLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		lost, release := r.open("nas1")
		lost.MarkLost()
		again, releaseAgain := r.open("nas1")
		if again == lost || len(r.mounter.asked()) != 2 {
			t.Error("a lost share was not mounted anew")
		}
		release()
		r.mounts("10.0.0.1:/a")
		releaseAgain()
		r.Close()
	})
}

// TestKeepsOptions has an export that is not registered mounted anew by one who brings no
// options: those of the first mount go on.
func TestKeepsOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const export = "10.0.0.1:/b"
		first, release, err := r.Open(quiet, export, []string{"nfsvers=3"})
		if err != nil {
			t.Fatal(err)
		}
		first.MarkLost()
		_, releaseAgain, err := r.Open(quiet, export, nil)
		if err != nil {
			t.Fatal(err)
		}
		specs := r.mounter.asked()
		if len(specs) != 2 || !slices.Contains(specs[0].Options, "nfsvers=3") || !slices.Equal(specs[0].Options, specs[1].Options) {
			t.Errorf("mounted is %+v", specs)
		}
		release()
		releaseAgain()
		r.Close()
	})
}

// TestUnusable has an export that can be mounted and is no good.
func TestUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if err := os.WriteFile(filepath.Join(r.mounter.Root, "a/.mooring"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		_, _, err := r.Open(quiet, "nas1", nil)
		if volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), "nas1 (10.0.0.1:/a)") {
			t.Errorf("the error is %v (of kind %v)", err, volume.Kind(err))
		}
		r.mounts()
	})
}

// TestUnregistered gives shares of all names mount points of plain ones.
func TestUnregistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		names := []string{"10.0.0.7:/a", "[fe80::1]:/b", "nas1"}
		for _, name := range names {
			s, release, err := r.Open(quiet, name, []string{"nfsvers=3"})
			if err != nil {
				t.Fatal(err)
			}
			if s.Definition().Name != name {
				t.Errorf("%s is called %s", name, s.Definition().Name)
			}
			release()
		}
		for _, spec := range r.mounter.asked() {
			if strings.ContainsAny(filepath.Base(spec.Target), ":[]") || filepath.Dir(spec.Target) != r.local {
				t.Errorf("mounted is %+v", spec)
			}
			// A registered share's options are the registry's: a class's are for its pods.
			if unregistered := spec.Source != "10.0.0.1:/a"; (spec.Options[0] == "nfsvers=3") != unregistered {
				t.Errorf("mounted is %+v", spec)
			}
		}
		if opened := r.Opened(); len(opened) != 3 {
			t.Errorf("opened are %q", opened)
		}
		if known := r.Known(); !slices.Equal(known, names) {
			t.Errorf("known are %q", known)
		}
		r.Close()
		r.mounts()
	})
}

// TestClean unmounts what is beneath the pool's directory, and nothing else.
func TestClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, release := r.open("nas1")
		defer release()
		beside := r.local + "-else"
		if err := os.Mkdir(beside, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := r.mounter.Mount(quiet, mount.Spec{Source: "nas:/b", Target: beside}); err != nil {
			t.Fatal(err)
		}
		table, err := r.mounter.Table()
		if err != nil {
			t.Fatal(err)
		}
		New(r.registry.Load, r.mounter, r.local, Options{}).Clean(table) // of the next process
		table, err = r.mounter.Table()
		if entries, _ := os.ReadDir(r.local); err != nil || len(table) != 1 || table[0].Target != beside || len(entries) != 0 {
			t.Errorf("left are %v, with the mount points %v", table, entries)
		}
	})
}
