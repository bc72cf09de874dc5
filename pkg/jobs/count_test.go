// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestVolumeCounter counts volumes that appear, grow and go, on a share that is down for a while.
func TestVolumeCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCopies(t, CopyOptions{})
		defer c.close()
		var down atomic.Bool
		c.mounter.Fail = func(string, string) error {
			if down.Load() {
				return volume.Errorf(volume.ErrUnavailable, "down")
			}
			return nil
		}
		ctx, cancel := context.WithCancel(quiet)
		counter, done := NewVolumeCounter(c.pool), make(chan struct{})
		go func() { defer close(done); counter.Run(ctx) }()
		defer func() { cancel(); <-done }()
		want := func(after time.Duration, want ...VolumeCount) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := counter.Status(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the counts are %+v, want %+v", got, want)
			}
		}
		c.create("a")
		c.create("b")
		c.begin("unfinished", nil)
		want(countDelay - time.Second)
		want(2*time.Second, VolumeCount{"nas1", 2, 2 << 30})

		volumes := c.open("nas1").Volumes
		if _, err := volumes.Delete(ctx, "b"); err != nil {
			t.Fatal(err)
		}
		c.create("c")
		if _, err := volumes.Update(ctx, "a", func(r *volume.Record) error { r.Capacity = 3 << 30; return nil }); err != nil {
			t.Fatal(err)
		}
		want(countInterval, VolumeCount{"nas1", 2, 2 << 30}) // a is not read again yet
		want(capacityTTL, VolumeCount{"nas1", 2, 4 << 30})   // but later
		down.Store(true)
		again := nas1(0)
		again.MountOptions = []string{"timeo=1"}
		c.register(again) // the next Open mounts
		want(countInterval)
		down.Store(false)
		want(countDelay, VolumeCount{"nas1", 2, 4 << 30}) // soon, and not at the next count of all
		c.register()
		want(countInterval)
	})
}
