// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestNamesShareOnce has a share be of no use for each of the reasons that there are: the error
// says which share it is, where that is, and says so once.
func TestNamesShareOnce(t *testing.T) {
	for what, spoil := range map[string]func(r *rig){
		"a server that is silent": func(r *rig) { r.silence("10.0.0.1") },
		"a server that falls silent": func(r *rig) {
			_, release := r.open("nas1")
			release()
			r.silence("10.0.0.1")
		},
		"a mount that fails": func(r *rig) {
			r.mounter.before = func(context.Context, mount.Spec) error {
				return volume.Errorf(volume.ErrRefused, "access denied")
			}
		},
		"a share that cannot be read": func(r *rig) {
			state := filepath.Join(r.mounter.Root, "a", volume.StateDir)
			if err := os.Mkdir(state, 0o700); err != nil {
				r.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(state, "format.json"), []byte("no JSON"), 0o600); err != nil {
				r.Fatal(err)
			}
		},
		"a pool that is closed": func(r *rig) { r.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				defer r.Close()
				spoil(r)
				_, _, err := r.Open(quiet, "nas1", nil)
				if err == nil {
					t.Fatal("it can be used")
				}
				if said := err.Error(); strings.Count(said, "nas1") != 1 || strings.Count(said, "10.0.0.1:/a") != 1 {
					t.Errorf("the error does not name the share once: %s", said)
				}
			})
		})
	}
}
