// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestOneExportOneMount has a registered share's export be asked for by other spellings: it is
// that share.
func TestOneExportOneMount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, release := r.open("nas1")
		for _, name := range []string{"10.0.0.1:/a", "[::ffff:10.0.0.1]:/a"} {
			again, releaseAgain := r.open(name)
			if again != first || again.Definition().Name != "nas1" {
				t.Errorf("%s is another share: %v", name, again.Definition())
			}
			releaseAgain()
		}
		_, releaseOther, err := r.Open(quiet, "[::ffff:10.0.0.1]:/b", []string{"nfsvers=3"})
		if err != nil {
			t.Fatal(err)
		}
		_, releaseSame := r.open("10.0.0.1:/b")
		if known := r.Known(); !slices.Equal(known, []string{"10.0.0.1:/b", "nas1"}) {
			t.Errorf("known are %q", known)
		}
		r.mounts("10.0.0.1:/a", "[::ffff:10.0.0.1]:/b")
		release()
		releaseOther()
		releaseSame()
		r.Close()
	})
}

// TestRegisteredSince has an export be registered after it was mounted.
func TestRegisteredSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.laidOut("b")
		old, release := r.open("10.0.0.1:/b")
		r.registry.Store(&volume.Registry{Shares: []volume.Share{{Name: "nas2", Servers: []string{"10.0.0.1"}, Path: "/b"}}})
		if known := r.Known(); !slices.Equal(known, []string{"nas2"}) {
			t.Errorf("known are %q", known)
		}
		s, releaseNew := r.open("10.0.0.1:/b")
		if s == old || s.Definition().Name != "nas2" {
			t.Errorf("the registered share is opened as %v", s.Definition())
		}
		r.mounts("10.0.0.1:/b", "10.0.0.1:/b") // whoever uses the old one keeps it
		release()
		r.mounts("10.0.0.1:/b")
		if opened := r.Opened(); !slices.Equal(opened, []string{"nas2"}) {
			t.Errorf("opened are %q", opened)
		}
		if twins := r.identities.twins(r.Registry(), s.Definition()); twins != nil {
			t.Errorf("its twins are %q", twins)
		}
		releaseNew()
		r.Close()
	})
}

// TestLetsGo removes shares from the registry, one of them while it is in use: they go without a use of their
// own. One that comes back is still the share that it was.
func TestLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		nas1 := volume.Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/a"}
		nas2 := volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/b"}
		r.laidOut("a")
		r.registry.Store(&volume.Registry{Shares: []volume.Share{nas1, nas2}, Unregistered: true})
		used, releaseUsed := r.open("nas1")
		_, releaseExport := r.open("10.0.0.9:/b")
		releaseExport()
		other, releaseOther := r.open("nas2")
		releaseOther()

		r.registry.Store(&volume.Registry{Shares: []volume.Share{nas2}})
		if opened := r.Opened(); !slices.Equal(opened, []string{"nas2"}) {
			t.Errorf("opened are %q", opened)
		}
		r.mounts("10.0.0.1:/a", "10.0.0.2:/b") // whoever uses it keeps it
		if _, err := used.Volumes.Keys(quiet); err != nil {
			t.Errorf("under its last user: %v", err)
		}
		releaseUsed()
		r.mounts("10.0.0.2:/b")
		again, releaseOther := r.open("nas2")
		if releaseOther(); again != other {
			t.Error("another share was disturbed")
		}
		if _, _, err := r.Open(quiet, "nas1", nil); volume.Kind(err) != volume.ErrPrecondition {
			t.Errorf("a share that was removed: %v", err)
		}

		r.registry.Store(&volume.Registry{Shares: []volume.Share{nas1}})
		_, release := r.open("nas1") // is a use of another share, too
		release()
		r.mounts("10.0.0.1:/a")
		r.registry.Store(&volume.Registry{})
		if known := r.Known(); known != nil {
			t.Errorf("known are %q", known)
		}
		if err := os.Rename(filepath.Join(r.mounter.Root, "a", volume.StateDir), filepath.Join(r.mounter.Root, "a", "away")); err != nil {
			t.Fatal(err)
		}
		r.registry.Store(&volume.Registry{Shares: []volume.Share{nas1}})
		if _, _, err := r.Open(quiet, "nas1", nil); volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), "it was the share") {
			t.Errorf("it comes back without its disk: %v", err)
		}
		r.Close()
		r.mounts()
	})
}

// TestRemovedWhileMounted removes a share from the registry while it is being mounted.
func TestRemovedWhileMounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mounter.before = func(context.Context, mount.Spec) error { time.Sleep(time.Second); return nil }
		ctx, cancel := context.WithTimeout(quiet, time.Millisecond)
		defer cancel()
		if _, _, err := r.Open(ctx, "nas1", nil); volume.Kind(err) != volume.ErrUnavailable {
			t.Errorf("the error is %v", err)
		}
		r.registry.Store(&volume.Registry{})
		r.Known()
		time.Sleep(2 * time.Second)
		r.mounts()
		r.Close()
	})
}
