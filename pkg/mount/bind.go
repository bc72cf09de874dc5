// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"fmt"
	"os"
	"runtime"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Bind also mounts the mount at source at the existing directory target, read-only from the start
// if readOnly is set. It fails with ErrUnavailable if source is not mounted any more or has another
// superblock, and fails if target is a symbolic link.
func (k *Kernel) Bind(_ context.Context, source Entry, target string, readOnly bool) error {
	tree, err := clone(unix.AT_FDCWD, source.Target, unix.AT_SYMLINK_NOFOLLOW, readOnly)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source.Target, err)
	}
	defer tree.Close()
	device, err := deviceOf(tree.fd)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source.Target, err)
	}
	if device != source.Device {
		return volume.Errorf(volume.ErrUnavailable, "bind %s: %s is not mounted there any more", source.Target, source.Source)
	}
	return tree.Attach(target)
}

// Restrict makes the mount at target read-only, and no other mount.
func (k *Kernel) Restrict(target string) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_SYMLINK_NOFOLLOW, &attr)
	if err != nil {
		return fmt.Errorf("make the mount at %s read-only: %w", target, err)
	}
	return nil
}

// Tree is a mount that is not attached yet. It disappears with Close, or with this process.
type Tree struct{ fd int }

// Clone returns a second mount of the file system of the open directory dir, which shows only that
// directory.
func Clone(dir int, readOnly bool) (*Tree, error) {
	return clone(dir, "", unix.AT_EMPTY_PATH, readOnly)
}

func clone(dir int, path string, flags uint, readOnly bool) (*Tree, error) {
	fd, err := unix.OpenTree(dir, path, flags|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("clone the mount: %w", err)
	}
	t := &Tree{fd}
	// A clone is a peer of what it is cloned from: what one pod mounts in its volume would be mounted in
	// the other's too (mount_namespaces(7)).
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		t.Close()
		return nil, fmt.Errorf("set the mount's attributes: %w", err)
	}
	return t, nil
}

// deviceOf returns the device of an open file's superblock, in the format of the mount table. It
// sends nothing to the server (statx(2), AT_STATX_DONT_SYNC).
func deviceOf(fd int) (string, error) {
	var stat unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &stat); err != nil {
		return "", fmt.Errorf("stat the mount: %w", err)
	}
	return fmt.Sprintf("%d:%d", stat.Dev_major, stat.Dev_minor), nil
}

// Attach mounts the tree at target, which must not be a symbolic link.
func (t *Tree) Attach(target string) error {
	// Without MOVE_MOUNT_T_SYMLINKS the target's last name is not followed.
	if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	return nil
}

// Close closes the tree. An attached tree stays mounted.
func (t *Tree) Close() { _ = unix.Close(t.fd) }

// Enter moves this goroutine to another mount namespace, with its root as the working directory.
// The goroutine must not end before the process does.
func Enter(namespace *os.File) error {
	runtime.LockOSThread()
	return child.EnterMountNamespace(namespace)
}

// Detach detaches the topmost mount at target at once, even if it is in use.
func Detach(target string) error {
	return os.NewSyscallError("umount2", unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
}
