// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestSilentServer has servers of a share fall silent: the next is mounted instead, and nothing is asked of
// one that does not answer.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		r.register("10.0.0.1,10.0.0.2", "/a")
		mounted := func() (sources []string, err error) {
			_, release, err := r.Open(quiet, "nas1", nil)
			if err == nil {
				release()
			}
			for _, spec := range r.mounter.asked() {
				sources = append(sources, spec.Source)
			}
			return sources, err
		}
		r.silence("10.0.0.1")
		if got, err := mounted(); err != nil || !slices.Equal(got, []string{"10.0.0.2:/a"}) {
			t.Errorf("without the first, mounted was %q, %v", got, err)
		}
		r.silence("10.0.0.2")
		if got, err := mounted(); volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), "share nas1") {
			t.Errorf("when the mounted one has fallen silent, mounted was %q, %v", got, err)
		}
		if got, err := mounted(); err != nil || !slices.Equal(got, []string{"10.0.0.1:/a"}) {
			t.Errorf("without the second, mounted was %q, %v", got, err)
		}
		r.silence("10.0.0.1,10.0.0.2")
		for range 2 {
			if got, err := mounted(); volume.Kind(err) != volume.ErrUnavailable || len(got) > 0 {
				t.Errorf("while both are silent, mounted was %q, %v", got, err)
			}
		}
	})
}

// TestAbandonsWork has the server of an open share fall silent while there is work on it.
func TestAbandonsWork(t *testing.T) {
	for _, servers := range []string{"10.0.0.1", "10.0.0.1,10.0.0.2"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			defer r.Close()
			r.register(servers, "/a")
			var opened *share.Share
			work := func(before func()) error {
				_, err := bounded.Call(quiet, func(ctx context.Context) (int, error) {
					s, release, err := r.Open(ctx, "nas1", nil)
					if err != nil {
						return 0, err
					}
					defer release()
					opened = s
					before()
					time.Sleep(20 * time.Second)
					return 0, ctx.Err()
				}, nil)
				return err
			}
			if err := work(func() {}); err != nil || opened.Lost() {
				t.Errorf("while the server answers: %v; lost: %v", err, opened.Lost())
			}
			_, err := bounded.Call(quiet, func(ctx context.Context) (int, error) {
				_, release, err := r.Open(ctx, "nas1", nil)
				if err == nil {
					release()
				}
				r.silence("10.0.0.1")
				return 0, cmp.Or(err, ctx.Err())
			}, nil)
			if err != nil {
				t.Errorf("after its release the share still ends the work: %v", err)
			}
			r.silence("")
			start := time.Now()
			err = work(func() { r.silent.Store("10.0.0.1") })
			if volume.Kind(err) != volume.ErrUnavailable || strings.Count(err.Error(), "share nas1 (10.0.0.1") != 1 || time.Since(start) > 10*time.Second {
				t.Errorf("after %v the error is %v", time.Since(start), err)
			}
			if lost := opened.Lost(); lost != strings.Contains(servers, ",") { // then the next caller gets another
				t.Errorf("the share of %s is lost: %v", servers, lost)
			}
			time.Sleep(time.Minute) // for the abandoned work
		})
	}
}

// TestGiven uses what somebody else has mounted, and leaves it there.
func TestGiven(t *testing.T) {
	r := newRig(t)
	given := t.TempDir()
	target := given + "/nas1"
	fake := r.mounter
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Pool = New(r.registry.Load, &mount.Premounted{Table: fake.Table}, r.local, Options{Share: share.Options{Maker: maker}, Premounted: given})
	_, _, err := r.Open(quiet, "nas1", nil)
	if volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), "nothing is mounted at "+target) {
		t.Errorf("the error is %v", err)
	}
	r.Close()
	if err := fake.Mount(quiet, mount.Spec{Source: "10.0.0.1:/a", Target: target}); err != nil {
		t.Fatal(err)
	}
	r.Pool = New(r.registry.Load, &mount.Premounted{Table: fake.Table}, r.local, Options{Share: share.Options{Maker: maker}, Premounted: given})
	_, release, err := r.Open(quiet, "nas1", nil)
	if err != nil {
		t.Fatal(err)
	}
	release()
	r.Close()
	if table, _ := fake.Table(); len(table) != 1 {
		t.Errorf("mounted is %v", table)
	}
}
