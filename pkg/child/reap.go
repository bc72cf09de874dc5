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

// reapRetry is how soon is looked again for orphans behind a child of our own that has ended and
// is not waited for yet: the kernel shows one zombie at a time.
const reapRetry = 10 * time.Millisecond

// ownChildren are the children that somebody here waits for. All others that this process has are
// orphans. The lock is held from before a child is there until it is known.
var ownChildren = struct {
	sync.Mutex
	pids map[int]bool
}{pids: map[int]bool{}}

// startChild starts a program that land waits for.
func startChild(cmd *exec.Cmd) error {
	ownChildren.Lock()
	defer ownChildren.Unlock()
	err := cmd.Start()
	if err == nil {
		ownChildren.pids[cmd.Process.Pid] = true
	}
	return err
}

// waitForChild waits for a program that launch has started.
func waitForChild(cmd *exec.Cmd) error {
	err := cmd.Wait()
	ownChildren.Lock()
	defer ownChildren.Unlock()
	delete(ownChildren.pids, cmd.Process.Pid)
	return err
}

// ReapOrphans makes this process the parent of what its children leave behind, as a container's first
// process is anyhow, and reaps these orphans until ctx ends. mount(8) that is killed leaves a
// mount.nfs, which may be stuck: it counts, and is waited for, with the child that has started
// it. mount.nfs leaves an rpc.statd: as a zombie it would be taken for one that runs, and NFSv3
// would be without locks.
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

// reap waits for orphans that have ended, and reports whether there may be more, behind a child
// that is not ours to wait for.
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

// pidOf returns si_pid, for which package unix has no name: it is the first of a union that
// follows three integers, aligned as a pointer.
func pidOf(info *unix.Siginfo) int {
	const at = 8 + unsafe.Sizeof(uintptr(0))
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), at)))
}
