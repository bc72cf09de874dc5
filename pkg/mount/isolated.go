// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/mooring-csi/mooring/pkg/child"
	"golang.org/x/sys/unix"
)

// startStatd is what mount.nfs runs where an NFSv3 mount needs rpc.statd and there is none.
const startStatd = "/usr/sbin/start-statd"

// NewIsolated has the rest of this goroutine, and the programs that it starts, run in a mount namespace of
// their own, and returns a Kernel for it. What is mounted there is seen nowhere else. What is unmounted
// elsewhere goes there too: else a disk would stay busy for as long as the namespace has a copy of its
// mount (mount_namespaces(7), MS_SLAVE). The goroutine must not end before the process does, and who
// kills the process's group ends mount(8) too.
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

// startStatdOutside starts rpc.statd in the namespace that NewIsolated has left.
func startStatdOutside(ctx context.Context, children *child.Runner) error {
	started := make(chan error, 1)
	go func() { // no other thread has left it
		_, _, err := children.Run(ctx, child.Command{Name: startStatd, SameProcessGroup: true})
		started <- err
	}()
	return <-started
}
