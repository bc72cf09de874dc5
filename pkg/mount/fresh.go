// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Linux walks to the directory of a new NFSv4 mount by the names in the superblock that the mount is to
// share, and believes those that it remembers there: for acdirmax seconds, and under a delegation for
// ever (nfs4_try_get_tree, nfs_lookup_revalidate). Where a directory was deleted, or renamed into the
// trash, and another one has its name by now, the mount succeeds and shows the old one. A superblock
// of its own remembers nothing. NFSv3 asks the server's mountd for the directory that is mounted; what is
// opened in it, as an inline volume's directory is in the share, is remembered with every version.

// Views are one directory of a server, mounted twice. Both are open descriptors (O_PATH), which end with
// the process.
type Views struct {
	// Shared is by the superblock that other mounts of this machine share. -1: what the kernel
	// remembers of the path leads nowhere.
	Shared int
	// Fresh is as the server has the directory now. It is Shared, where that superblock is a new one.
	Fresh int
	Path  string // where Fresh is mounted
}

// MountFresh mounts the spec beneath its target, and a second time, with a superblock of its own, where
// the first mount may show what the kernel remembers. It is for a process that is in a mount namespace
// of its own and ends soon (NewIsolated).
func MountFresh(ctx context.Context, k *Kernel, s Spec) (v Views, err error) {
	v = Views{Shared: -1, Fresh: -1}
	within := s.Target
	// Not one on the other: nothing can be mounted on a stale directory.
	if err := unix.Mount("mooring", within, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return v, fmt.Errorf("mount a tmpfs at %s: %w", within, err)
	}
	before, known := superblocks()
	v.Shared, v.Path, err = mountIn(ctx, k, s, filepath.Join(within, "shared"))
	switch cause, _ := CauseOf(err); {
	case cause == NoPath, cause == NotDirectory, cause == Stale: // by what the kernel remembers
	case err != nil:
		return v, err
	default:
		device, err := deviceOf(v.Shared)
		if err != nil || known && !before[device] {
			v.Fresh = v.Shared
			return v, err
		}
	}
	s.Options = volume.MergeMountOptions(s.Options, []string{"nosharecache"})
	v.Fresh, v.Path, err = mountIn(ctx, k, s, filepath.Join(within, "fresh"))
	return v, err
}

// mountIn mounts the spec at a new directory, and opens that.
func mountIn(ctx context.Context, k *Kernel, s Spec, path string) (int, string, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return -1, "", err
	}
	s.Target = path
	if err := k.Mount(ctx, s); err != nil {
		return -1, "", err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", os.NewSyscallError("open "+path, err)
	}
	return fd, path, nil
}

// SameDirectory reports whether two open directories, of two mounts of one server, are one and the
// same to it.
func SameDirectory(a, b int) (bool, error) {
	first, _, err := unix.NameToHandleAt(a, "", unix.AT_EMPTY_PATH)
	if err == nil {
		var second unix.FileHandle
		second, _, err = unix.NameToHandleAt(b, "", unix.AT_EMPTY_PATH)
		if err == nil {
			return first.Type() == second.Type() && bytes.Equal(first.Bytes(), second.Bytes()), nil
		}
	}
	// The server's handles are too long for Linux to show them; or it is NFSv4.0, of which Linux shows none
	// (nfs_fill_super). Of two that the server finds now no number is that of one which is gone.
	if errors.Is(err, unix.EOVERFLOW) || errors.Is(err, unix.EOPNOTSUPP) {
		var first, second unix.Statx_t
		if err = errors.Join(statServer(a, &first), statServer(b, &second)); err == nil {
			return first.Ino == second.Ino, nil
		}
	}
	return false, fmt.Errorf("compare two mounts of a directory: %w", err)
}

// statServer asks the server for what is open, whatever the kernel remembers.
func statServer(fd int, st *unix.Statx_t) error {
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_INO, st)
	return os.NewSyscallError("statx", err)
}

// superblocks returns the devices, as major:minor, of all NFS superblocks in this network namespace,
// whichever mount namespace they are mounted in. ok is false where the kernel does not say.
func superblocks() (devices map[string]bool, ok bool) {
	f, err := os.Open("/proc/fs/nfsfs/volumes")
	if err != nil {
		return nil, false
	}
	defer f.Close()
	devices = map[string]bool{}
	lines := bufio.NewScanner(f) // NV SERVER PORT DEV FSID FSC
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 3 {
			devices[fields[3]] = true
		}
	}
	return devices, lines.Err() == nil
}
