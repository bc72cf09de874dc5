// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPendingOutlivesShare undoes a creation after its share was closed, as that of a copy which waits for its
// turn: its handles are still those of this share.
func TestPendingOutlivesShare(t *testing.T) {
	s := newTestShare(t)
	p, _, err := s.Volumes.Begin(context.Background(), record("pvc-1", "pvc-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.MakeDirectory(context.Background()); err != nil {
		t.Fatal(err)
	}
	root := s.root
	s.Close()
	if err := p.Abort(); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"pvc-1", ".mooring/volumes/pvc-1", ".mooring/claims/pvc-1"} {
		if _, err := os.Stat(filepath.Join(s.dir, left)); !os.IsNotExist(err) {
			t.Errorf("%s: %v", left, err)
		}
	}
	if err := root.Refresh(); !is(err, unix.EBADF) {
		t.Errorf("the share is still open: %v", err)
	}
}
