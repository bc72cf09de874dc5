// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
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

// TestInterruptsNoLiveAddress has the name of a server not resolve any more, while the address of the mount answers:
// a copy without a time limit goes on.
func TestInterruptsNoLiveAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		r.opt.Table = func() (mount.Table, error) {
			table, err := r.mounter.Table()
			table = slices.Clone(table)
			for i := range table {
				table[i].Super = append(slices.Clone(table[i].Super), "addr=10.0.0.1")
			}
			return table, err
		}
		r.register("nas.example,10.0.0.2", "/a")
		r.mounter.Fail = func(call, _ string) error {
			if call == "interrupt" {
				t.Error("calls on a server that answers are interrupted")
			}
			return nil
		}
		opened, release := r.open("nas1")
		r.silence("nas.example")
		if _, _, err := r.Open(quiet, "nas1", nil); volume.Kind(err) != volume.ErrUnavailable {
			t.Errorf("the error is %v", err)
		}
		time.Sleep(time.Minute)
		release()
		if opened.Interrupted.Load() {
			t.Error("the share counts as interrupted")
		}
	})
}

// TestImpatientCaller has a caller leave while the server is being asked: that says nothing about the share.
func TestImpatientCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		r.register("10.0.0.1,10.0.0.2", "/a")
		opened, release := r.open("nas1")
		defer release()
		slow := make(chan struct{})
		r.opt.Servers = probe.NewServers(func(context.Context, probe.Endpoint) error { <-slow; return nil })
		ctx, cancel := context.WithTimeout(quiet, time.Second)
		defer cancel()
		if _, _, err := r.Open(ctx, "nas1", nil); volume.Kind(err) != volume.ErrUnavailable || opened.Lost() {
			t.Errorf("the share is lost: %v; the error is %v", opened.Lost(), err)
		}
		close(slow)
	})
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
