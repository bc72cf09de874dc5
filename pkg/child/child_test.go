// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRunReturnsWhatWasSaid(t *testing.T) {
	var c Children
	stdout, stderr, err := c.Run(context.Background(), "sh", "-c", "echo out; echo wrong >&2; exit 3")
	if stdout != "out" || stderr != "wrong" || err == nil {
		t.Errorf("got %q, %q, %v", stdout, stderr, err)
	}
	if c.Alive() != 0 || c.Started() != 1 {
		t.Errorf("%d alive of %d, want 0 of 1", c.Alive(), c.Started())
	}
	if _, _, err := c.Run(context.Background(), "/no/such/program"); err == nil {
		t.Error("a program that is not there ran")
	}
}

// A grandchild that would write a file after a while must not get to it.
func TestRunKillsTheWholeGroup(t *testing.T) {
	var c Children
	file := filepath.Join(t.TempDir(), "written")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, _, err := c.Run(ctx, "sh", "-c", "sh -c 'sleep 1; touch "+file+"' & wait")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if c.Alive() != 0 {
		t.Errorf("%d children are left", c.Alive())
	}
	time.Sleep(1500 * time.Millisecond)
	if _, err := os.Stat(file); err == nil {
		t.Error("a grandchild lived on")
	}
}
