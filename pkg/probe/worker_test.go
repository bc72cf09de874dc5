// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

func TestWorker(t *testing.T) {
	w := NewWorker()
	defer w.Close()
	for range 2 {
		a, err := w.Query(context.Background(), Mount{Path: t.TempDir()}, nil)
		if err != nil || a.Space.Total <= 0 || a.Space.Free > a.Space.Total || a.ReadOnly || a.Latency <= 0 {
			t.Errorf("the answer is %+v, %v", a, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	if a, err := w.Query(context.Background(), Mount{Path: none}, nil); err != nil || a.Errno != unix.ENOENT {
		t.Errorf("for a missing path the answer is %+v, %v", a, err)
	}
	if w.Started() != 1 {
		t.Errorf("%d processes were started", w.Started())
	}
}

// TestWorkerEnded queries without a process: the error does not blame the server.
func TestWorkerEnded(t *testing.T) {
	w := NewWorker()
	w.Close()
	if _, err := w.Query(context.Background(), Mount{Path: "/"}, nil); volume.Kind(err) != volume.ErrBusy {
		t.Errorf("without a process the error is %v", err)
	}
}
