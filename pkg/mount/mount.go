// SPDX-License-Identifier: Apache-2.0

// Package mount mounts and unmounts, and reads the table of what is mounted. It is the one
// place that runs mount(8) or calls mount(2)'s family.
//
// Two rules keep a dead NFS server from taking the driver with it. What talks to the
// server, which only mount(8) does, runs in a child process that is killed at its deadline.
// Everything else is answered by the local kernel: what is mounted is read from
// /proc/self/mountinfo and never found out by stat(2), which would ask the server; a bind
// mount is made by open_tree(2) and move_mount(2), which look at no attribute of the file
// system; and an unmount is umount2(2) itself, not umount(8), whose helper asks the server.
package mount

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	mountutils "k8s.io/mount-utils"
)

// Spec is one NFS mount to be made.
type Spec struct {
	Source  string   // "server:/path"
	Target  string   // an existing directory
	Options []string // mount(8)'s -o, in order
}

// unmountPatience is how long a plain unmount may take before the mount is detached: it
// can wait for the server where dirty pages are to be written.
const unmountPatience = 5 * time.Second

// Kernel mounts on this machine. Its zero value is ready for use.
type Kernel struct {
	children child.Children
}

// Mount runs mount(8) for the spec and waits for it until ctx ends, when the child is
// killed. The error is of the kind that the server's answer means, and says what to do.
func (k *Kernel) Mount(ctx context.Context, s Spec) error {
	args := mountutils.MakeMountArgs(s.Source, s.Target, "nfs", s.Options)
	_, stderr, err := k.children.Run(ctx, "mount", args...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		// The kernel may have finished at the last moment, with nobody left to tell.
		_ = unix.Unmount(s.Target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		return volume.Errorf(volume.ErrUnavailable, "mount %s: the server did not answer in time (%w): check that it runs and that port 2049 is reachable from here", s.Source, ctx.Err())
	}
	return explain(s.Source, stderr, err)
}

// Children counts the mount(8)s that are under way or stuck, and all there have been.
func (k *Kernel) Children() *child.Children { return &k.children }

// Bind shows the mounted directory source at the existing directory target too, read-only
// if so wished from the first moment on. It fails where target is a symbolic link.
func (k *Kernel) Bind(_ context.Context, source, target string, readOnly bool) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("bind %s: clone the mount: %w", source, err)
	}
	defer unix.Close(tree)
	if readOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return fmt.Errorf("bind %s: make the mount read-only: %w", source, err)
		}
	}
	// Without MOVE_MOUNT_T_SYMLINKS the target's last name is not followed.
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// Unmount takes away every mount at target, the topmost first. A mount that is in use, or
// whose server does not take its last pages in time, is detached: it is gone from here at
// once, and from the kernel when its last user is. Nothing mounted there is success.
//
// MNT_FORCE is never used: it fails the I/O of all who share the superblock (umount(2)).
func (k *Kernel) Unmount(ctx context.Context, target string) error {
	for range 16 { // mounts may be stacked
		table, err := k.Table()
		if err != nil {
			return err
		}
		if _, mounted := table.At(target); !mounted {
			return nil
		}
		err = umount(ctx, target, 0)
		if err != nil {
			err = umount(ctx, target, unix.MNT_DETACH)
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return fmt.Errorf("unmount %s: something mounts it again and again", target)
}

// umount gives up waiting after unmountPatience; the thread stays until the kernel is done
// with it, and holds no lock of ours.
func umount(ctx context.Context, target string, flags int) error {
	done := make(chan error, 1)
	go func() {
		err := unix.Unmount(target, flags|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) { // no mount there (any more)
			err = nil
		}
		done <- os.NewSyscallError("umount2", err)
	}()
	timer := time.NewTimer(unmountPatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}
