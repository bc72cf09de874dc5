// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"
	"testing"
	"testing/synctest"

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
		releaseNew()
		r.Close()
	})
}
