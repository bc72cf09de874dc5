// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// TestInterrupt has the server of a share fall silent under work that makes three calls. They are
// interrupted while it is silent, if the share has another server, and until the work has ended.
func TestInterrupt(t *testing.T) {
	for _, c := range []struct {
		servers, silent string
		want            int64
	}{
		{"10.0.0.1", "10.0.0.1", 0},
		{"10.0.0.1,10.0.0.2", "10.0.0.2", 0},
		{"10.0.0.1,10.0.0.2", "10.0.0.1", 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			defer r.Close()
			r.register(c.servers, "/a")
			var interrupts atomic.Int64
			interrupted := make(chan struct{})
			r.mounter.Fail = func(call, _ string) error {
				if call == "interrupt" {
					interrupts.Add(1)
					select {
					case interrupted <- struct{}{}:
					default:
					}
				}
				return nil
			}
			var opened *share.Share
			_, err := bounded.Call(quiet, func(ctx context.Context) (int, error) {
				s, release, err := r.Open(ctx, "nas1", nil)
				if err != nil {
					return 0, err
				}
				defer release()
				opened = s
				r.silent.Store(c.silent)
				for range 3 {
					select {
					case <-interrupted:
					case <-time.After(15 * time.Second): // softerr
					}
				}
				return 0, nil
			}, nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			if lost := c.silent == "10.0.0.1"; (volume.Kind(err) == volume.ErrUnavailable) != lost || interrupts.Load() != c.want || opened.Interrupted.Load() != (c.want > 0) {
				t.Errorf("%+v: there were %d interrupts; the error is %v", c, interrupts.Load(), err)
			}
		})
	}
}

// TestInterruptsNoLiveServer has the server answer again before the work has ended.
func TestInterruptsNoLiveServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		r.register("10.0.0.1,10.0.0.2", "/a")
		var last time.Time
		r.mounter.Fail = func(call, _ string) error {
			if call == "interrupt" {
				last = time.Now()
			}
			return nil
		}
		ended, back := make(chan struct{}), time.Time{}
		_, err := bounded.Call(quiet, func(ctx context.Context) (int, error) {
			defer close(ended)
			_, release, err := r.Open(ctx, "nas1", nil)
			if err != nil {
				return 0, err
			}
			defer release()
			r.silence("10.0.0.1")
			back = time.Now()
			r.silence("")
			return 0, unix.EIO
		}, nil)
		<-ended
		if volume.Kind(err) != volume.ErrUnavailable || last.IsZero() || last.After(back.Add(3*time.Second)) {
			t.Errorf("the last interrupt was at %v; the server was back at %v: %v", last, back, err)
		}
	})
}
