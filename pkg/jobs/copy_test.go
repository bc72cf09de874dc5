// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// copies is a site with a Copier, whose copies wait at "make a file" while paused is set.
type copies struct {
	*site
	copier *Copier
	paused chan struct{} // closed: they go on
}

func newCopies(t *testing.T, opt CopyOptions) *copies {
	t.Helper()
	c := &copies{site: newSite(t, nas1(0)), paused: make(chan struct{})}
	close(c.paused)
	opt.Step = func(what string) {
		if paused := c.paused; what == "make a file" {
			<-paused
		}
	}
	c.copier = NewCopier(c.pool, c.purger, opt)
	return c
}

// pause has copies that begin from now on wait until resume is called.
func (c *copies) pause() (resume func()) {
	paused := make(chan struct{})
	c.paused = paused
	return func() { close(paused); synctest.Wait() }
}

// close ends the Copier and the site.
func (c *copies) close() {
	c.copier.stop()
	c.copier.done.Wait()
	c.end()
}

// create makes a volume with a file in it.
func (c *copies) create(key string) {
	c.Helper()
	ctx, p := context.Background(), c.begin(key, nil)
	if _, err := p.Commit(ctx); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(c.at(key+"/file"), []byte("of "+key), 0o644); err != nil {
		c.Fatal(err)
	}
}

// begin makes a volume up to its empty directory.
func (c *copies) begin(key string, from *volume.Source) *share.Pending {
	c.Helper()
	ctx := context.Background()
	p, _, err := c.open("nas1").Volumes.Begin(ctx, volume.Record{Key: key, Name: key, Directory: key, OnDelete: volume.Delete, Capacity: 1 << 30, Source: from})
	if err != nil {
		c.Fatal(err)
	}
	if err := p.MakeDirectory(ctx); err != nil {
		c.Fatal(err)
	}
	return p
}

func (c *copies) at(path string) string { return filepath.Join(c.root, "nas1", path) }

// holds fails the test unless a file has that text.
func (c *copies) holds(path, text string) {
	c.Helper()
	if data, err := os.ReadFile(c.at(path)); err != nil || string(data) != text {
		c.Errorf("%s holds %q, %v", path, data, err)
	}
}

// jobs returns the files of copies under way.
func (c *copies) jobs() (names []string) {
	c.Helper()
	for _, dir := range []string{".mooring/jobs", ".mooring/staging"} {
		entries, err := os.ReadDir(c.at(dir))
		if err != nil {
			c.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	return names
}

func (c *copies) refused(what string, err, kind error) {
	c.Helper()
	if err == nil || volume.Kind(err) != kind {
		c.Errorf("%s: the error is %v (of kind %v), want kind %v", what, err, volume.Kind(err), kind)
	}
}

// status returns what is told of nas1.
func (c *copies) status() CopyTotals {
	for _, s := range c.copier.Status() {
		if s.Share == "nas1" {
			return s
		}
	}
	return CopyTotals{}
}

// snapshotOf is a copy of a volume.
func snapshotOf(key, of string) volume.Copy {
	return volume.Copy{Target: volume.Object{Kind: volume.ObjectSnapshot, Key: key}, Source: volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: of}, Share: "nas1"}, Name: key}
}

// restore is a copy of a snapshot.
func restore(key, of string) volume.Copy {
	return volume.Copy{Target: volume.Object{Kind: volume.ObjectVolume, Key: key}, Source: volume.Source{Object: volume.Object{Kind: volume.ObjectSnapshot, Key: of}, Share: "nas1"}}
}

// TestCopyInterrupted ends the calls on a share during a copy, which then may lack an attribute: the copy fails.
func TestCopyInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		c.create("pvc-1")
		resume := c.pause()
		time.AfterFunc(time.Second, func() {
			c.open("nas1").Interrupted.Store(true)
			resume()
		})
		_, err := c.copier.Snapshot(quiet, "nas1", snapshotOf("snap-1", "pvc-1"))
		c.refused("an interrupted copy", err, volume.ErrUnavailable)
	})
}

// TestCopyJoins has a call that ran out of time leave its copy, and a retry join it.
func TestCopyJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		c.create("v1")
		resume := c.pause()
		for range 2 {
			ctx, cancel := context.WithTimeout(quiet, time.Second)
			_, err := c.copier.Snapshot(ctx, "nas1", snapshotOf("s1", "v1"))
			cancel()
			c.refused("a copy that takes long", err, volume.ErrTimeout)
			if s := c.status(); s.Running != 1 || s.Done+s.Failed != 0 {
				t.Errorf("the status is %+v", s)
			}
		}
		if jobs := c.jobs(); len(jobs) != 1 {
			t.Errorf("under way are %q", jobs)
		}
		results := make(chan *volume.SnapshotRecord, 2)
		for range 2 {
			go func() {
				r, err := c.copier.Snapshot(quiet, "nas1", snapshotOf("s1", "v1"))
				if err != nil {
					t.Error(err)
				}
				results <- r
			}()
		}
		synctest.Wait()
		resume()
		if a, b := <-results, <-results; a == nil || a != b || a.Key != "s1" || a.Volume != "v1" || a.Capacity != 1<<30 || a.Size != 5 {
			t.Errorf("the results are %+v, %+v", a, b)
		}
		c.holds(".mooring/snapshots/s1/data/file", "of v1")
		s := c.status()
		moved := s.ByMethod[MethodWrite].Bytes + s.ByMethod[MethodCopy].Bytes + s.ByMethod[MethodClone].Bytes
		if s.Running != 0 || s.Done != 1 || s.Failed != 0 || s.Entries != 1 || moved != 5 {
			t.Errorf("the status is %+v", s)
		}
		if left := c.jobs(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
	})
}

// TestCopiesPerShare has no more copies under way than are allowed.
func TestCopiesPerShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{PerShare: 2})
		defer c.close()
		c.create("v1")
		resume := c.pause()
		done := make(chan error, 3)
		for i := range 3 {
			go func() {
				_, err := c.copier.Snapshot(quiet, "nas1", snapshotOf(fmt.Sprintf("s%d", i), "v1"))
				done <- err
			}()
		}
		synctest.Wait()
		if jobs, s := c.jobs(), c.status(); len(jobs) != 2 || s.Running != 3 {
			t.Errorf("under way are %q, and the status is %+v", jobs, s)
		}
		resume()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if s := c.status(); s.Running != 0 || s.Done != 3 {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestCopyFails has copies that fail: they leave nothing, and a retry gets the error.
func TestCopyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		c.create("v1")
		_, err := c.copier.Snapshot(quiet, "nas1", snapshotOf("s1", "none"))
		c.refused("of a volume that is not there", err, volume.ErrNotFound)
		_, err = c.copier.Volume(quiet, "nas1", restore("v2", "s1"), nil, nil)
		c.refused("a volume that nobody makes", err, volume.ErrNotFound)
		_, err = c.copier.Snapshot(quiet, "nas9", snapshotOf("s1", "v1"))
		c.refused("on a share that is not there", err, volume.ErrPrecondition)
		source := restore("v3", "s1").Source
		_, err = c.copier.Volume(quiet, "nas1", restore("v3", "s1"), c.begin("v3", &source), nil)
		c.refused("of a snapshot that is not there", err, volume.ErrNotFound)
		if _, err := os.Stat(c.at("v3")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the volume that was given up: %v", err)
		}
		if left := c.jobs(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
		if s := c.status(); s.Failed != 3 || s.Done != 0 || s.Running != 0 || s.Entries != 0 {
			t.Errorf("the status is %+v", s)
		}

		c.copier.start("nas1", snapshotOf("s2", "none"), nil, nil) // for which nobody waits
		synctest.Wait()
		c.create("none")
		_, err = c.copier.Snapshot(quiet, "nas1", snapshotOf("s2", "none"))
		c.refused("as it ended", err, volume.ErrNotFound)
		if _, err = c.copier.Snapshot(quiet, "nas1", snapshotOf("s2", "none")); err != nil {
			t.Errorf("once told, it is tried again: %v", err)
		}
	})
}

// TestRestore makes a volume of a snapshot.
func TestRestore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		c.create("v1")
		if _, err := c.copier.Snapshot(quiet, "nas1", snapshotOf("s1", "v1")); err != nil {
			t.Fatal(err)
		}
		source := restore("v2", "s1").Source
		r, err := c.copier.Volume(quiet, "nas1", restore("v2", "s1"), c.begin("v2", &source), nil)
		if err != nil || r.Key != "v2" {
			t.Errorf("made is %+v, %v", r, err)
		}
		c.holds("v2/file", "of v1")
		if again, err := c.copier.Volume(quiet, "nas1", restore("v2", "s1"), nil, nil); err != nil || again.Key != "v2" {
			t.Errorf("one that is ready: %+v, %v", again, err)
		}
		if left := c.jobs(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
	})
}

// TestCopyResumes has the next run of the driver, and that alone, end what the last one left.
func TestCopyResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		c.create("v1")
		if _, err := c.copier.Snapshot(quiet, "nas1", snapshotOf("s1", "v1")); err != nil {
			t.Fatal(err)
		}
		resume := c.pause()
		source := restore("v2", "s1").Source
		c.copier.start("nas1", snapshotOf("s2", "v1"), nil, nil)
		c.copier.start("nas1", restore("v2", "s1"), c.begin("v2", &source), nil)
		synctest.Wait()
		if err := c.copier.Resume(quiet, "nas1"); err != nil || c.status().Running != 2 {
			t.Errorf("one's own are resumed: %+v, %v", c.status(), err)
		}
		c.copier.stop()
		resume()
		c.copier.done.Wait()
		if left := c.jobs(); len(left) < 2 {
			t.Errorf("a run that ended has left %q", left)
		}

		next := &site{T: t, purger: c.purger, mounter: c.mounter, root: c.root, stop: func() {}}
		next.pool = pool.New(c.registry.Load, c.mounter, t.TempDir(), pool.Options{Share: share.Options{Maker: "0a1b2c3d", Initialize: true}})
		after := &copies{site: next, copier: NewCopier(next.pool, c.purger, CopyOptions{})}
		defer after.close()
		if err := after.copier.Resume(quiet, "nas1"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		c.holds(".mooring/snapshots/s2/data/file", "of v1")
		c.holds("v2/file", "of v1")
		if r, err := after.open("nas1").Volumes.Lookup(quiet, "v2"); err != nil || r.State != share.Ready {
			t.Errorf("the volume is %+v, %v", r, err)
		}
		if left := after.jobs(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
		if s := after.status(); s.Done != 2 || s.Failed != 0 {
			t.Errorf("the status is %+v", s)
		}
		c.pool.Close()
	})
}

// TestCopyRun looks at the shares at once, and each minute.
func TestCopyRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		c.create("v1")
		begun := func(key string) {
			sh, err := share.Open(c.at(""), nas1(0), share.Options{Maker: "0a1b2c3d"}) // an earlier run
			if err != nil {
				t.Fatal(err)
			}
			defer sh.Close()
			p, _, err := sh.Snapshots.Begin(quiet, volume.SnapshotRecord{Key: key, Name: key, Volume: "v1"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.BeginCopy(quiet, sh); err != nil {
				t.Fatal(err)
			}
			p.Close()
		}
		begun("s1")
		ctx, cancel := context.WithCancel(quiet)
		ended := make(chan struct{})
		go func() { defer close(ended); c.copier.Run(ctx) }()
		synctest.Wait()
		c.holds(".mooring/snapshots/s1/data/file", "of v1")
		begun("s2")
		time.Sleep(scanInterval)
		synctest.Wait()
		c.holds(".mooring/snapshots/s2/data/file", "of v1")
		cancel()
		<-ended
		c.close()
		if left := c.jobs(); len(left) != 0 {
			t.Errorf("left are %q", left)
		}
	})
}

// TestCopyForgets removes a share from the registry after a copy, and in the middle of one, which ends well.
func TestCopyForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		c.create("v1")
		ctx, cancel := context.WithCancel(quiet)
		ended := make(chan struct{})
		go func() { defer close(ended); c.copier.Run(ctx) }()
		defer func() { cancel(); <-ended; c.close() }()
		snapshot := func(key string) {
			if _, err := c.copier.Snapshot(quiet, "nas1", snapshotOf(key, "v1")); err != nil {
				t.Error(err)
			}
		}
		forgotten := func(after time.Duration) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if n := len(c.copier.slots) + len(c.copier.methods) + len(c.copier.totals); n > 0 {
				t.Errorf("kept are %v, %v, %v", c.copier.slots, c.copier.methods, c.copier.totals)
			}
		}
		snapshot("s1")
		time.Sleep(scanInterval)
		synctest.Wait()
		if s := c.status(); s.Done != 1 {
			t.Errorf("the status is %+v", s)
		}
		time.Sleep(scanInterval - time.Second) // a copy fails if it stands still for longer
		resume := c.pause()
		done := make(chan struct{})
		go func() { defer close(done); snapshot("s2") }()
		synctest.Wait()
		c.register()
		forgotten(time.Second)
		if s := c.status(); s.Running != 1 || s.Done != 0 {
			t.Errorf("during a copy the status is %+v", s)
		}
		resume()
		<-done
		c.holds(".mooring/snapshots/s2/data/file", "of v1")
		forgotten(scanInterval)
		if s := c.copier.Status(); len(s) > 0 {
			t.Errorf("the status is %+v", s)
		}
	})
}

// TestCopyOfASourceThatGoes has the source, on another share, be removed while it is copied.
// An incomplete copy is no volume; a retry creates it when the source is back.
func TestCopyOfASourceThatGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		c.register(nas1(0), volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/nas2"})
		c.export("nas2")
		ctx := context.Background()
		p, _, err := c.open("nas2").Volumes.Begin(ctx, volume.Record{Key: "v1", Name: "v1", Directory: "v1", OnDelete: volume.Delete})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.MakeDirectory(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		directory := c.at("../nas2/v1")
		write := func() {
			if err := errors.Join(os.MkdirAll(directory, 0o755), os.WriteFile(filepath.Join(directory, "file"), []byte("of v1"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		write()
		source := volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: "v1"}, Share: "nas2"}
		clone := volume.Copy{Target: volume.Object{Kind: volume.ObjectVolume, Key: "v2"}, Source: source}
		resume := c.pause()
		failed := make(chan error)
		go func() {
			_, err := c.copier.Volume(quiet, "nas1", clone, c.begin("v2", &source), nil)
			failed <- err
		}()
		synctest.Wait()
		if err := os.RemoveAll(directory); err != nil {
			t.Fatal(err)
		}
		resume()
		err = <-failed
		c.refused("a source that goes", err, volume.ErrBusy)
		if err != nil && !strings.Contains(err.Error(), "share nas2") {
			t.Errorf("the error is of another share: %v", err)
		}
		write()
		if r, err := c.copier.Volume(quiet, "nas1", clone, c.begin("v2", &source), nil); err != nil || r.Key != "v2" {
			t.Errorf("when it is back: %+v, %v", r, err)
		}
		c.holds("v2/file", "of v1")
	})
}
