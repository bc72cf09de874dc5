// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Linux looks up the directory of a new NFSv4 mount in the superblock that the mount will share, and
// trusts the names that are cached there: for acdirmax seconds, and with a delegation forever
// (nfs4_try_get_tree, nfs_lookup_revalidate). If a directory was deleted, or renamed into the trash,
// and another one has its name now, the mount succeeds and shows the old one. A separate superblock
// has nothing cached. NFSv3 asks the server's mountd for the directory to mount; but what is opened in
// it, such as an inline volume's directory in the share, is cached with every version.

// Views are two mounts of one directory of a server. Both are open descriptors (O_PATH), which end
// with the process.
type Views struct {
	// Shared uses the superblock of this machine's other mounts. It is -1 if the kernel's cached
	// path leads nowhere.
	Shared int
	// Fresh shows the directory that the server has now. It equals Shared if that superblock is
	// new.
	Fresh int
	Path  string // the mount point of Fresh
}

// MountFresh mounts the spec below its target, and a second time with a separate superblock if the
// first mount may show a cached directory. It is for a process that runs in its own mount namespace
// and ends soon (NewIsolated).
func MountFresh(ctx context.Context, k *Kernel, s Spec) (v Views, err error) {
	v = Views{Shared: -1, Fresh: -1}
	within := s.Target
	// The mounts are not stacked: nothing can be mounted on a stale directory.
	if err := unix.Mount("mooring", within, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
		return v, fmt.Errorf("mount a tmpfs at %s: %w", within, err)
	}
	before, known := superblocks()
	v.Shared, v.Path, err = mountIn(ctx, k, s, filepath.Join(within, "shared"))
	switch cause, _ := CauseOf(err); {
	case cause == NoPath, cause == NotDirectory, cause == Stale: // because of a cached name
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

// mountIn mounts the spec at a new directory, and opens it.
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

// SameDirectory reports whether two open directories, in two mounts of one server, are the same
// directory on the server.
func SameDirectory(a, b int) (bool, error) {
	first, _, err := unix.NameToHandleAt(a, "", unix.AT_EMPTY_PATH)
	second, _, errB := unix.NameToHandleAt(b, "", unix.AT_EMPTY_PATH)
	switch err = cmp.Or(err, errB); {
	case errors.Is(err, unix.EOVERFLOW), errors.Is(err, unix.EOPNOTSUPP):
		// Linux does not return the server's long handles, and none of NFSv4.0 (nfs_fill_super). If the
		// server finds both directories now, the same inode number means the same directory.
		var first, second unix.Statx_t
		if err := errors.Join(statServer(a, &first), statServer(b, &second)); err != nil {
			return false, fmt.Errorf("compare two mounts of a directory: %w", err)
		}
		return first.Ino == second.Ino, nil
	case err != nil:
		return false, fmt.Errorf("compare two mounts of a directory: %w", err)
	}
	return first.Type() == second.Type() && bytes.Equal(first.Bytes(), second.Bytes()), nil
}

// statServer asks the server for the inode number of an open file, and bypasses the kernel's cache.
func statServer(fd int, st *unix.Statx_t) error {
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_INO, st)
	return os.NewSyscallError("statx", err)
}

// superblocks returns the devices, as major:minor, of all NFS superblocks in this network
// namespace, of all mount namespaces. ok is false if the kernel does not report them.
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
