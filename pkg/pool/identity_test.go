// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// laidOut lays an export out, and returns the id that it has.
func (r *rig) laidOut(export string) string {
	r.Helper()
	s, err := share.Open(filepath.Join(r.mounter.Root, export), volume.Share{Name: export}, share.Options{Maker: maker, Initialize: true})
	if err != nil {
		r.Fatal(err)
	}
	defer s.Close()
	return s.Identity.ID()
}

// again opens nas1 in a new mount.
func (r *rig) again() (*share.Share, error) {
	r.Helper()
	time.Sleep(failureTTL)
	s, release, err := r.Open(quiet, "nas1", nil)
	if err != nil {
		return nil, err
	}
	s.MarkLost()
	release()
	return s, nil
}

// TestEmptied has a share's disk not be mounted any more, come back, and be another.
func TestEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		state := filepath.Join(r.mounter.Root, "a", volume.StateDir)
		if s, err := r.again(); err != nil || s.Initialized() {
			t.Fatalf("an empty export: %v", err)
		}
		if _, err := os.Stat(state); err == nil {
			t.Error("it was laid out")
		}
		id := r.laidOut("a")
		if s, err := r.again(); err != nil || s.Identity.ID() != id {
			t.Fatalf("what another has laid out: %v", err)
		}
		if err := os.Rename(state, state+".away"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			registry := *r.registry.Load() // which says something else, and not of the export
			registry.Shares = slices.Clone(registry.Shares)
			registry.Shares[0].TrashRetention += time.Hour
			r.registry.Store(&registry)
			_, err := r.again()
			if volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), "share nas1 (10.0.0.1:/a): it was the share "+id) || !strings.Contains(err.Error(), "share forget nas1") {
				t.Errorf("without its disk: %v", err)
			}
		}
		r.mounts()
		if err := os.Rename(state+".away", state); err != nil {
			t.Fatal(err)
		}
		if s, err := r.again(); err != nil || s.Identity.ID() != id {
			t.Errorf("with its disk again: %v", err)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Fatal(err)
		}
		other := r.laidOut("a") // as mooringctl share forget does
		_, err := r.again()
		if volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), "share nas1 (10.0.0.1:/a): it was the share "+id) || !strings.Contains(err.Error(), "the share "+other) {
			t.Errorf("another share: %v", err)
		}
		r.mounts()
		registry := *r.registry.Load()
		registry.Shares = slices.Clone(registry.Shares)
		registry.Shares[0].ID = other
		r.registry.Store(&registry)
		if s, err := r.again(); err != nil || s.Identity.ID() != other {
			t.Errorf("another, which is meant: %v", err)
		}
		r.register("10.0.0.1", "/b") // the registry says something else: what was is no longer of interest
		if s, err := r.again(); err != nil || s.Initialized() {
			t.Errorf("another export: %v", err)
		}
	})
}

// TestReidentified has a share get another id, or its first, while it is mounted here: it is no other
// share.
func TestReidentified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		id := r.laidOut("a")
		format := filepath.Join(r.mounter.Root, "a", volume.StateDir, volume.FormatName)
		for _, id := range []string{id, "", volume.NewShareID(), volume.NewShareID()} {
			s, release := r.open("nas1")
			text, err := volume.Format{ID: id}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(format, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Tidy(quiet, time.Hour); err != nil {
				t.Error(err)
			}
			release()
			time.Sleep(failureTTL)
			s, release = r.open("nas1")
			if s.Identity.ID() != id {
				t.Errorf("it is %q, and should be %q", s.Identity.ID(), id)
			}
			release()
		}
	})
}

// TestPinned changes the id that the registry says.
func TestPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		pin := func(id string) error {
			registry := *r.registry.Load()
			registry.Shares = []volume.Share{registry.Shares[0]}
			registry.Shares[0].ID = id
			r.registry.Store(&registry)
			time.Sleep(failureTTL)
			_, release, err := r.Open(quiet, "nas1", nil) // it is open, and is not asked for anew
			if err == nil {
				release()
			}
			return err
		}
		id := r.laidOut("a")
		for what, c := range map[string]struct {
			id   string
			kind error
		}{"none": {"", nil}, "the right one": {id, nil}, "another": {volume.NewShareID(), volume.ErrPrecondition}} {
			if err := pin(c.id); volume.Kind(err) != c.kind {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestUnlaidIsMountedAgain mounts a share that is not laid out again after a while.
func TestUnlaidIsMountedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		_, release := r.open("nas1")
		release()
		id := r.laidOut("a")
		s, release := r.open("nas1")
		release()
		if s.Initialized() {
			t.Error("it is mounted at each use")
		}
		time.Sleep(2 * time.Minute)
		s, release = r.open("nas1")
		release()
		if s.Identity.ID() != id {
			t.Error("it is believed to be empty for ever")
		}
	})
}

// TestTwins has a share be reached under two names, and another one that is a copy.
func TestTwins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.Close()
		registry := &volume.Registry{Shares: []volume.Share{
			{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/a"},
			{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/a"},
			{Name: "nas3", Servers: []string{"10.0.0.1"}, Path: "/b"},
		}}
		r.registry.Store(registry)
		twins := func(name string, want ...string) {
			t.Helper()
			s, release := r.open(name)
			defer release()
			if got := r.identities.twins(r.Registry(), s.Definition()); !slices.Equal(got, want) {
				t.Errorf("the twins of %s are %q, not %q", name, got, want)
			}
		}
		twins("nas1") // neither has an id
		twins("nas2")
		time.Sleep(2 * time.Minute)
		r.laidOut("a")
		r.laidOut("b")
		twins("nas1")
		twins("nas2", "nas1")
		twins("nas3")
		twins("nas1", "nas2")
		r.registry.Store(&volume.Registry{Shares: registry.Shares[:1]})
		twins("nas1")
	})
}
