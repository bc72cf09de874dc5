// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestCloses stops in the middle of a mount that the server does not answer.
func TestCloses(t *testing.T) {
	r := newRig(t)
	begun := make(chan struct{})
	r.mounter.before = func(ctx context.Context, s mount.Spec) error {
		close(begun)
		<-ctx.Done() // and the kernel finishes at the last moment
		return nil
	}
	failed := make(chan error)
	go func() {
		_, release, err := r.Open(quiet, "nas1", nil)
		if err == nil {
			release()
		}
		failed <- err
	}()
	<-begun
	r.Close()
	<-failed
	if table, _ := r.mounter.Table(); len(table) > 0 {
		t.Errorf("still mounted: %v", table)
	}
	if _, _, err := r.Open(quiet, "nas1", nil); volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("after the end it opens: %v", err)
	}
}
