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

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

// quiet is a context in which nothing is logged.
var quiet = klog.NewContext(context.Background(), klog.Logger{})

// site is a Purger on a pool of shares that a fake mounter shows. It is made and used in a
// bubble of package synctest, where waiting costs no time.
type site struct {
	*testing.T
	purger   *Purger
	pool     *pool.Pool
	mounter  *mount.Fake
	registry atomic.Pointer[volume.Registry]
	root     string
	server   func() time.Time // the server's clock, which goes as the bubble's does
	step     func(string)     // is called before each change on a share
	stop     func()           // ends Run and waits for it
}

func newSite(t *testing.T, shares ...volume.Share) *site {
	t.Helper()
	s := &site{T: t, root: t.TempDir(), step: func(string) {}, stop: func() {}}
	s.register(shares...)
	s.mounter = &mount.Fake{Root: s.root}
	s.export("nas1")
	s.pool = pool.New(s.registry.Load, s.mounter, t.TempDir(), pool.Options{Share: share.Options{
		Maker: "0a1b2c3d", Initialize: true, Step: func(what string) { s.step(what) },
	}})
	s.purger = NewPurger(s.pool)
	began := time.Now()
	s.server = func() time.Time { return serverBegan.Add(time.Since(began)) }
	s.purger.now = func(context.Context, *share.Share) (time.Time, error) { return s.server(), nil }
	return s
}

// serverBegan is when a bubble begins by the server's clock, which is not the controller's.
var serverBegan = time.Date(2031, 4, 1, 12, 0, 0, 0, time.UTC)

// nas1 is a registered share.
func nas1(retention time.Duration) volume.Share {
	return volume.Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/nas1", TrashRetention: retention}
}

func (s *site) register(shares ...volume.Share) {
	s.registry.Store(&volume.Registry{Shares: shares, Unregistered: true})
}

func (s *site) export(name string) {
	s.Helper()
	if err := os.MkdirAll(filepath.Join(s.root, name), 0o755); err != nil {
		s.Fatal(err)
	}
}

// start runs the Purger until stop is called.
func (s *site) start() { s.startIn(quiet) }

func (s *site) startIn(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); s.purger.Run(ctx) }()
	s.stop = func() { cancel(); <-done }
	synctest.Wait()
}

// end ends all that runs in the bubble.
func (s *site) end() {
	s.stop()
	s.pool.Close()
}

func (s *site) open(name string) *share.Share {
	s.Helper()
	sh, release, err := s.pool.Open(quiet, name, nil)
	if err != nil {
		s.Fatal(err)
	}
	release()
	return sh
}

// trash makes a volume with a file in it and deletes it.
func (s *site) trash(name, key string, retention *time.Duration) share.TrashEntry {
	s.Helper()
	ctx, sh := context.Background(), s.open(name)
	p, _, err := sh.Volumes.Begin(ctx, volume.Record{Key: key, Name: key, Directory: key, OnDelete: volume.Delete, Retention: retention, Created: time.Now()})
	if err != nil {
		s.Fatal(err)
	}
	if err := p.MakeDirectory(ctx); err != nil {
		s.Fatal(err)
	}
	if _, err := p.Commit(ctx); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.root, sh.Definition().Path, key, "file"), nil, 0o644); err != nil {
		s.Fatal(err)
	}
	e, err := sh.Volumes.Delete(ctx, key)
	if err != nil || e == nil {
		s.Fatal(e, err)
	}
	return s.now(*e, filepath.Join(s.root, sh.Definition().Path, ".mooring/trash"))
}

// now has an entry of the trash be deleted by the bubble's time.
func (s *site) now(e share.TrashEntry, trash string) share.TrashEntry {
	s.Helper()
	old := volume.TrashRecordName(e.Name, e.Deleted, e.Due)
	keep := e.Due.Sub(e.Deleted)
	e.Deleted = s.server().Truncate(time.Second)
	e.Due = e.Deleted.Add(keep)
	if err := os.Rename(filepath.Join(trash, old), filepath.Join(trash, volume.TrashRecordName(e.Name, e.Deleted, e.Due))); err != nil {
		s.Fatal(err)
	}
	return e
}

// add tells of what trash has deleted on nas1.
func (s *site) add(e share.TrashEntry) { s.purger.Add("nas1", e) }

// left returns the keys of what is in the trash on disk, data and records.
func (s *site) left(export string) string {
	s.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, export, ".mooring/trash"))
	if err != nil {
		s.Fatal(err)
	}
	keys := map[string]bool{}
	for _, e := range entries {
		key, _, _ := strings.Cut(e.Name(), ".")
		keys[key] = true
	}
	return strings.Join(sorted(keys), " ")
}

func sorted(set map[string]bool) []string {
	var all []string
	for key := range set {
		all = append(all, key)
	}
	slices.Sort(all)
	return all
}

// after lets time pass, and then checks what is left and what the status says of the share.
func (s *site) after(d time.Duration, left string, want Trash) {
	s.Helper()
	time.Sleep(d)
	synctest.Wait()
	_, path, _ := volume.SplitExport(want.Share)
	if path == "" {
		path = want.Share
	}
	if got := s.left(path); got != left {
		s.Errorf("left is %q, want %q", got, left)
	}
	for _, got := range s.purger.Status() {
		if got.Share == want.Share {
			got.Oldest, got.Since = got.Oldest.Round(0), got.Since.Round(0)
			want.Scanned = true
			if got != want {
				s.Errorf("the status is %+v, want %+v", got, want)
			}
			return
		}
	}
	s.Errorf("share %s has no worker; there are %+v", want.Share, s.purger.Status())
}

// TestRetention purges each volume at its time: its own where it has one, else the share's.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(10*time.Second))
		defer s.end()
		s.start()
		never, soon := 24*time.Hour, time.Duration(0)
		began := s.server()
		s.add(s.trash("nas1", "a", nil))
		time.Sleep(time.Second / 2)
		s.add(s.trash("nas1", "b", &never))
		later := s.server().Truncate(time.Second)
		s.add(s.trash("nas1", "c", &soon))
		s.after(time.Second, "a b", Trash{Share: "nas1", Volumes: 2, Oldest: began, Purged: 1, Entries: 2})
		s.after(8*time.Second, "a b", Trash{Share: "nas1", Volumes: 2, Oldest: began, Purged: 1, Entries: 2})
		s.after(2*time.Second, "b", Trash{Share: "nas1", Volumes: 1, Oldest: later, Purged: 2, Entries: 4})
		s.after(23*time.Hour, "b", Trash{Share: "nas1", Volumes: 1, Oldest: later, Purged: 2, Entries: 4})
		s.after(time.Hour, "", Trash{Share: "nas1", Purged: 3, Entries: 6})
	})
}

// TestResume finds what an earlier process has left, and what another has put there.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(time.Second))
		defer s.end()
		began := s.server()
		s.trash("nas1", "a", nil)
		long := 5 * time.Minute
		s.trash("nas1", "b", &long)
		e := s.trash("nas1", "early", nil)
		s.purger.Add("nas1", e) // nothing runs yet; it is found like the rest
		time.Sleep(2 * time.Second)
		s.start()
		s.after(0, "b", Trash{Share: "nas1", Volumes: 1, Oldest: began, Purged: 2, Entries: 4})
		s.trash("nas1", "other", nil) // nobody tells
		s.after(scanInterval+time.Second, "b", Trash{Share: "nas1", Volumes: 1, Oldest: began, Purged: 3, Entries: 6})
		s.after(long, "", Trash{Share: "nas1", Purged: 4, Entries: 8})
	})
}

// TestBroughtBack forgets what somebody has taken out of the trash.
func TestBroughtBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(time.Hour))
		defer s.end()
		s.start()
		s.add(s.trash("nas1", "a", nil))
		for _, name := range []string{"", ".json"} {
			old, _ := filepath.Glob(filepath.Join(s.root, "nas1/.mooring/trash/a.*"))
			for _, file := range old {
				if strings.HasSuffix(file, ".json") == (name != "") {
					if err := os.Rename(file, filepath.Join(s.root, "nas1", "back"+name)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s.after(5*time.Minute, "", Trash{Share: "nas1"})
		if _, err := os.Stat(filepath.Join(s.root, "nas1/back/file")); err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownTrash checks that nothing is said of the trash of a share that was never listed.
func TestUnknownTrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.end()
		s.mounter.Fail = func(call, _ string) error { return volume.Errorf(volume.ErrUnavailable, "down") }
		s.start()
		synctest.Wait()
		if got := s.purger.Status(); len(got) != 1 || got[0] != (Trash{Share: "nas1"}) {
			t.Errorf("the status is %+v", got)
		}
	})
}

// TestDownShare has the server gone when a volume falls due: it is tried again, and not all
// the time.
func TestDownShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(time.Minute))
		defer s.end()
		began := s.server()
		s.trash("nas1", "a", nil)
		again := nas1(time.Minute)
		again.MountOptions = []string{"timeo=1"}
		s.register(again) // the next Open mounts
		var down atomic.Bool
		var tries atomic.Int64
		s.mounter.Fail = func(call, _ string) error {
			if call == "mount" && down.Load() {
				tries.Add(1)
				return volume.Errorf(volume.ErrUnavailable, "down")
			}
			return nil
		}
		s.start()
		s.after(30*time.Second, "a", Trash{Share: "nas1", Volumes: 1, Oldest: began})
		down.Store(true)
		again.MountOptions = nil
		s.register(again)
		s.after(10*time.Minute, "a", Trash{Share: "nas1", Volumes: 1, Oldest: began, Overdue: 1, Since: began.Add(time.Minute)})
		if n := tries.Load(); n < 5 || n > 30 {
			t.Errorf("in ten minutes there were %d tries", n)
		}
		down.Store(false)
		s.after(time.Minute, "", Trash{Share: "nas1", Purged: 1, Entries: 2})
	})
}

// TestBackoff has an entry that cannot be removed: it is tried again later, until a
// look at the trash shows that it is not there.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.end()
		began := s.server()
		e := s.trash("nas1", "a", nil)
		s.start()
		s.after(0, "", Trash{Share: "nas1", Purged: 1, Entries: 2})

		// A name that no file system takes stands for a directory that none lets go.
		e.Name = strings.Repeat("x", 300)
		s.purger.Add("nas1", e)
		stuck := Trash{Share: "nas1", Volumes: 1, Oldest: began, Overdue: 1, Since: e.Due, Purged: 1, Entries: 2, Failed: 1}
		s.after(time.Second, "", stuck)
		stuck.Failed = 2
		s.after(firstBackoff, "", stuck)
		s.after(2*scanInterval, "", Trash{Share: "nas1", Purged: 1, Entries: 2, Failed: 2})
	})
}

// TestUnregistered has a share that only a class names: the first deletion starts its worker.
func TestUnregistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		defer s.end()
		s.export("other")
		s.start()
		if all := s.purger.Status(); len(all) != 0 {
			t.Errorf("without shares there are %+v", all)
		}
		e := s.trash("10.0.0.9:/other", "a", nil)
		s.purger.Add("10.0.0.9:/other", e)
		s.after(0, "", Trash{Share: "10.0.0.9:/other", Purged: 1, Entries: 2})
	})
}

// TestNewShare has a share registered while the process runs.
func TestNewShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		defer s.end()
		s.trash("10.0.0.1:/nas1", "a", nil)
		s.start()
		s.register(nas1(0))
		s.after(scanInterval+time.Second, "", Trash{Share: "nas1", Purged: 1, Entries: 2})
	})
}

// TestRemovedShare removes a share from the registry while its trash waits, and while a volume is purged: its
// worker ends, and nothing is said of it any more. When the share is back, its trash is purged.
func TestRemovedShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nas2 := volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/nas2"}
		s := newSite(t, nas1(10*time.Minute), nas2)
		defer s.end()
		s.export("nas2")
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		log := logger.GetSink().(ktesting.Underlier).GetBuffer()
		s.startIn(klog.NewContext(quiet, logger))
		for _, key := range []string{"a", "b", "c"} {
			s.add(s.trash("nas1", key, nil))
		}
		var begun atomic.Int64
		goOn := make(chan struct{})
		s.step = func(what string) {
			if what == "purge" {
				begun.Add(1)
				<-goOn
			}
		}
		removed := func() {
			t.Helper()
			s.register(nas2)
			time.Sleep(2 * scanInterval)
			s.pool.Known() // as the Watcher does
			synctest.Wait()
			if all := s.purger.Status(); len(all) != 1 || all[0] != (Trash{Share: "nas2", Scanned: true}) {
				t.Errorf("the status is %+v", all)
			}
		}
		removed()
		s.after(time.Hour, "", Trash{Share: "nas2"})
		if left := s.left("nas1"); left != "a b c" || strings.Contains(log.String(), "ERROR") {
			t.Errorf("left is %q, and logged\n%s", left, log)
		}

		s.register(nas1(10*time.Minute), nas2)
		time.Sleep(scanInterval)
		synctest.Wait()
		removed() // while two are purged
		if table, err := s.mounter.Table(); err != nil || len(table) != 2 {
			t.Errorf("mounted for a purge are %v, %v", table, err)
		}
		close(goOn)
		synctest.Wait()
		if left := s.left("nas1"); left != "a b c" || begun.Load() != volumesAtOnce {
			t.Errorf("left is %q after the share was removed, and %d purges were begun", left, begun.Load())
		}
		if table, err := s.mounter.Table(); err != nil || len(table) != 1 {
			t.Errorf("mounted are %v, %v", table, err)
		}

		s.register(nas1(10*time.Minute), nas2)
		s.after(scanInterval, "", Trash{Share: "nas1", Purged: 3, Entries: 6})
		if text := log.String(); strings.Contains(text, "ERROR") || strings.Count(text, "was purged") != 3 {
			t.Errorf("logged is\n%s", text)
		}
	})
}

// TestRemovedBriefly removes a share from the registry for a moment in which a volume falls due.
func TestRemovedBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(90*time.Second))
		defer s.end()
		logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
		s.startIn(klog.NewContext(quiet, logger))
		s.add(s.trash("nas1", "a", nil))
		time.Sleep(80 * time.Second)
		s.register()
		time.Sleep(20 * time.Second)
		s.register(nas1(0))
		s.after(scanInterval, "", Trash{Share: "nas1", Purged: 1, Entries: 2})
		if text := logger.GetSink().(ktesting.Underlier).GetBuffer().String(); strings.Contains(text, "ERROR") {
			t.Errorf("logged is\n%s", text)
		}
	})
}

// TestRunWaits proves that Run returns when the last worker has, and not before.
func TestRunWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.pool.Close()
		goOn := make(chan struct{})
		s.trash("nas1", "a", nil)
		s.step = func(what string) {
			if what == "purge" {
				<-goOn
			}
		}
		s.start()
		ended := make(chan struct{})
		go func() { defer close(ended); s.stop() }()
		time.Sleep(time.Hour)
		select {
		case <-ended:
			t.Error("Run has ended while a volume is being purged")
		default:
		}
		close(goOn)
		<-ended
	})
}

// TestRunEnds proves that Run returns with its context, and that nothing begins after it.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nas1(0))
		defer s.pool.Close()
		s.start()
		s.stop()
		e := s.trash("nas1", "a", nil)
		s.purger.Add("nas1", e)
		s.purger.Add("10.0.0.9:/other", e)
		s.after(time.Hour, "a", Trash{Share: "nas1", Volumes: 1, Oldest: e.Deleted})
		if all := s.purger.Status(); len(all) != 1 {
			t.Errorf("after the end there are %+v", all)
		}
	})
}
