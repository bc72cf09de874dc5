// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestCheck asks nothing of a server that is not there, and has nothing mounted of it.
func TestCheck(t *testing.T) {
	r := newRig(t)
	var down atomic.Value
	down.Store("")
	r.Pool = New(r.registry.Load, r.mounter, r.local, Options{Share: share.Options{Maker: maker}, Check: func(_ context.Context, server string, _ []string) error {
		if strings.Contains(down.Load().(string), server) {
			return volume.Errorf(volume.ErrUnavailable, "%s does not answer", server)
		}
		return nil
	}})
	defer r.Close()
	def := *r.registry.Load()
	def.Shares = slices.Clone(def.Shares)
	def.Shares[0].Servers = []string{"10.0.0.1", "10.0.0.2"}
	r.registry.Store(&def)
	open := func() (string, error) {
		_, release, err := r.Open(quiet, "nas1", nil)
		if err != nil {
			return "", err
		}
		release()
		var sources []string
		for _, spec := range r.mounter.asked() {
			sources = append(sources, spec.Source)
		}
		return strings.Join(sources, " "), nil
	}
	if err := r.Answers(quiet, "nas1"); err != nil {
		t.Errorf("of a share that is not open: %v", err)
	}
	down.Store("10.0.0.1")
	if got, err := open(); err != nil || got != "10.0.0.2:/a" {
		t.Errorf("mounted was %q, %v", got, err)
	}
	down.Store("10.0.0.2")
	err := r.Answers(quiet, "nas1")
	if volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), "share nas1") {
		t.Errorf("the answer is %v", err)
	}
	if got, err := open(); err != nil || got != "10.0.0.1:/a" {
		t.Errorf("with the other server back, mounted was %q, %v", got, err)
	}
	down.Store("10.0.0.1 10.0.0.2")
	for range 2 {
		got, err := open()
		if volume.Kind(err) != volume.ErrUnavailable || got != "" {
			t.Errorf("with both away, mounted was %q, %v", got, err)
		}
	}
	if specs := r.mounter.asked(); len(specs) > 0 {
		t.Errorf("of servers that do not answer was mounted %v", specs)
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
