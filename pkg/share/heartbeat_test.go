// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// TestHeartbeat writes the heartbeat again and again, and nothing else.
func TestHeartbeat(t *testing.T) {
	g := newTestShare(t)
	before := g.listing()
	for _, there := range []string{"", "longer than what is to be there" + heartbeatText, heartbeatText} {
		if there != "" {
			g.put(".mooring/heartbeat", there)
		}
		g.must(g.Heartbeat(t.Context()))
		if got := g.text(".mooring/heartbeat"); got != heartbeatText {
			t.Errorf("it is %q", got)
		}
	}
	if got := problemsOf(g); len(got) > 0 {
		t.Errorf("a check finds %q", got)
	}
	g.must(os.Remove(g.at(".mooring/heartbeat")))
	if d := diffLines(g.listing(), before); d != "" {
		t.Errorf("other files have changed:\n%s", d)
	}
}

// TestHeartbeatNotWritten has shares that must not be written to.
func TestHeartbeatNotWritten(t *testing.T) {
	for name, opt := range map[string]Options{"not laid out": {}, "only to look": {ReadOnly: true}} {
		t.Run(name, func(t *testing.T) {
			dir := scratchDir(t)
			if opt.ReadOnly {
				openTestShare(t, dir, Options{Maker: otherMaker, Initialize: true})
			}
			s, err := Open(dir, nas1, opt)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Heartbeat(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(dir + "/.mooring/heartbeat"); !errors.Is(err, os.ErrNotExist) || s.Lost() {
				t.Errorf("it was written: %v; or the share is lost", err)
			}
		})
	}
}

// TestHeartbeatFails has something else in the heartbeat's place, and an expired context.
func TestHeartbeatFails(t *testing.T) {
	g := newTestShare(t)
	g.must(os.Mkdir(g.at(".mooring/heartbeat"), 0o700))
	if err := g.Heartbeat(t.Context()); err == nil || !strings.Contains(err.Error(), "share nas1") || !strings.Contains(err.Error(), "write .mooring/heartbeat") {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.wantError("without time", g.Heartbeat(ctx), volume.ErrTimeout)
}

// TestFaultReason classifies errors of a file system, as a share returns them.
func TestFaultReason(t *testing.T) {
	g := newTestShare(t)
	for errno, want := range map[unix.Errno]volume.Reason{
		unix.EIO: volume.DiskFailing, unix.EROFS: volume.ReadOnlyServer, unix.ENOSPC: volume.ShareFull, unix.EDQUOT: volume.ShareFull,
		unix.EACCES: volume.AccessDenied, unix.EPERM: volume.AccessDenied, unix.EKEYEXPIRED: volume.AccessDenied, unix.ESTALE: "", unix.ETIMEDOUT: "", unix.EINVAL: "",
	} {
		err := g.WrapError("try", fmt.Errorf("write: %w", errno))
		if got := FaultReason(err); got != want {
			t.Errorf("FaultReason(%v) is %q", err, got)
		}
	}
	if got := FaultReason(nil); got != "" {
		t.Errorf("FaultReason(nil) is %q", got)
	}
}
