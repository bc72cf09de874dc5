// SPDX-License-Identifier: Apache-2.0

package child

import (
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// adopt has the test's process adopt orphans until the test ends.
func adopt(t *testing.T) {
	t.Helper()
	if err := ReapOrphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// soon waits for what has to happen, however busy the machine is.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestReap kills a daemon that a program has left behind, as mount.nfs leaves rpc.statd: it is
// gone then, and no zombie that kill(2) still finds.
func TestReap(t *testing.T) {
	adopt(t)
	var c Runner
	stdout, _, err := c.Run(t.Context(), Command{Name: "sh", Args: []string{"-c", "sleep 600 >&- 2>&- & echo $!"}})
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(orphan, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	soon(t, "the orphan is gone", func() bool { return errors.Is(unix.Kill(orphan, 0), unix.ESRCH) })
}

// TestReapLeaves has a child end for which somebody is about to wait: its status is theirs.
func TestReapLeaves(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	if err := startChild(cmd); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !reap() {
		t.Error("behind the child that has ended there is nothing to look for")
	}
	if err := waitForChild(cmd); err == nil || err.Error() != "exit status 7" {
		t.Errorf("it ends with %v", err)
	}
	if reap() || len(ownChildren.pids) > 0 {
		t.Errorf("left are %v", ownChildren.pids)
	}
}
