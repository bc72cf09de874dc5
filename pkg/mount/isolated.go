// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/mooring-csi/mooring/pkg/child"
	"golang.org/x/sys/unix"
)

// startStatd is the program that mount.nfs runs if an NFSv3 mount needs rpc.statd and it does not
// run.
const startStatd = "/usr/sbin/start-statd"

// NewIsolated moves this goroutine, and the programs that it starts, to a new mount namespace, and
// returns a Kernel for it. Mounts that are made there are visible nowhere else. Unmounts elsewhere
// propagate into it: otherwise its copy of a mount would keep a disk busy (mount_namespaces(7),
// MS_SLAVE). The goroutine must not end before the process does. mount(8) stays in this process's
// group, so that a kill of the group ends it, too.
func NewIsolated(answers func(ctx context.Context, server string, options []string) error) (*Kernel, error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("make its mounts slaves: %w", err)
	}
	// An rpc.statd that mount.nfs started here would keep the namespace, with all its mounts.
	if err := unix.Mount("/dev/null", startStatd, "", unix.MS_BIND, ""); err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("hide %s: %w", startStatd, err)
	}
	namespace, err := os.Open("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	return &Kernel{Answers: answers, namespace: namespace}, nil
}

// statdPID is where rpc.statd notes its process id.
const statdPID = "/run/rpc.statd.pid"

// RemoveStaleStatdPID removes the process id that an rpc.statd of an earlier container has left in /run, which
// outlives containers. In a new PID namespace the number may be that of another process or thread. Then
// start-statd believes that rpc.statd runs, and no NFSv3 mount with locks succeeds.
func RemoveStaleStatdPID() error { return removeStalePID(statdPID, "rpc.statd") }

// removeStalePID removes a file with a process id, unless that is the id of a process of this name.
func removeStalePID(file, name string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data))) // 0, which is no process, if it is not a number
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if strings.TrimSpace(string(comm)) == name {
		return nil
	}
	return os.Remove(file)
}

// startStatdOutside starts rpc.statd in the namespace that NewIsolated has left.
func startStatdOutside(ctx context.Context, children *child.Runner) error {
	started := make(chan error, 1)
	go func() { // no other thread has left it
		_, _, err := children.Run(ctx, child.Command{Name: startStatd, SameProcessGroup: true})
		started <- err
	}()
	return <-started
}
