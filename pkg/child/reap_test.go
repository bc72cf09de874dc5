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

// adopt makes the test process adopt orphans until the test ends.
func adopt(t *testing.T) {
	t.Helper()
	if err := ReapOrphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}

// soon waits for a condition for up to a minute, because the machine may be busy.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not true within a minute: %s", what)
		}
	}
}

// TestReap kills a daemon that a program has left behind, as mount.nfs leaves rpc.statd: the daemon
// must disappear, and not stay as a zombie that kill(2) still finds.
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

// TestReapIgnoresOwnChildren ends a child that has its own waiter: the waiter must get its status.
func TestReapIgnoresOwnChildren(t *testing.T) {
	cmd := exec.Command("sh", "-c", "exit 7")
	if err := startChild(cmd); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !reap() {
		t.Error("reap reports nothing behind the ended child")
	}
	if err := waitForChild(cmd); err == nil || err.Error() != "exit status 7" {
		t.Errorf("the child ended with %v", err)
	}
	if reap() || len(ownChildren.pids) > 0 {
		t.Errorf("children are left: %v", ownChildren.pids)
	}
}
