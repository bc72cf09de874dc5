// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reapRetry is the interval of checks for orphans behind an ended child that the reaper must leave
// to its own waiter: the kernel shows one zombie at a time.
const reapRetry = 10 * time.Millisecond

// ownChildren are the children that a caller in this process waits for. All other children of the
// process are orphans. The lock is held while a child starts, until its pid is recorded.
var ownChildren = struct {
	sync.Mutex
	pids map[int]bool
}{pids: map[int]bool{}}

// startChild starts a program; waitForChild waits for it.
func startChild(cmd *exec.Cmd) error {
	ownChildren.Lock()
	defer ownChildren.Unlock()
	if err := cmd.Start(); err != nil {
		return err
	}
	ownChildren.pids[cmd.Process.Pid] = true
	return nil
}

// waitForChild waits for a program that startChild has started.
func waitForChild(cmd *exec.Cmd) error {
	err := cmd.Wait()
	ownChildren.Lock()
	defer ownChildren.Unlock()
	delete(ownChildren.pids, cmd.Process.Pid)
	return err
}

// ReapOrphans makes this process the parent of its descendants' orphans, as the first process of a
// container is, and reaps them until ctx ends. A killed mount(8) leaves a mount.nfs, which may be
// stuck: Run counts it and waits for it together with the child that started it. mount.nfs leaves
// an rpc.statd: as a zombie it would look like a running one, and NFSv3 would have no locks.
func ReapOrphans(ctx context.Context) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		defer signal.Stop(ended)
		for {
			var again <-chan time.Time
			if reap() {
				again = time.After(reapRetry)
			}
			select {
			case <-ctx.Done():
				return
			case <-ended:
			case <-again:
			}
		}
	}()
	return nil
}

// reap reaps orphans that have ended. It reports whether there may be more, behind a child that has
// its own waiter.
func reap() (more bool) {
	ownChildren.Lock()
	defer ownChildren.Unlock()
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		pid := pidOf(&info)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil || pid == 0:
			return false
		case ownChildren.pids[pid]:
			return true
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// pidOf returns si_pid, for which package unix has no name: it is the first member of a union that
// follows three integers, aligned as a pointer.
func pidOf(info *unix.Siginfo) int {
	const at = 8 + unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), at)))
}
