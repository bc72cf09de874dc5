// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// namespaceEnv has the name of the mount namespace in which the program has restarted itself. If it
// is the current namespace, the variable is right, whoever has set it.
const namespaceEnv = "MOORING_MOUNT_NAMESPACE"

// mountDirs are directories that exist on every machine and that the program does not need.
// mount.nfs needs most others.
var mountDirs = [...]string{"/mnt", "/media", "/opt", "/srv"}

// ReexecInMountNS restarts the program in its own mount namespace, so that its mounts end with it,
// even after SIGKILL. Call it before anything else. It returns a directory for mount points, which
// also disappears with the program. files are paths that the program still needs to access.
func ReexecInMountNS(files ...string) (string, error) {
	now, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return "", fmt.Errorf("read the name of the mount namespace: %w", err)
	}
	at, err := findMountDir(files)
	if err != nil {
		return "", err
	}
	if os.Getenv(namespaceEnv) == now {
		return at, nil
	}
	runtime.LockOSThread() // exec(2) keeps this thread only
	if err := unix.Unshare(unix.CLONE_NEWNS); errors.Is(err, unix.EPERM) {
		return "", volume.Errorf(volume.ErrRefused, "this process cannot create a mount namespace: run it as root with CAP_SYS_ADMIN, for example in the controller's container (kubectl mooring), or set --shares-dir to a directory in which the shares are already mounted")
	} else if err != nil {
		return "", fmt.Errorf("make a mount namespace: %w", err)
	}
	// Otherwise mounts would propagate to other namespaces.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("mooring", at, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "mode=700,size=1m"); err != nil {
		return "", fmt.Errorf("mount a tmpfs at %s: %w", at, err)
	}
	if now, err = os.Readlink("/proc/thread-self/ns/mnt"); err != nil {
		return "", fmt.Errorf("read the name of the mount namespace: %w", err)
	}
	env := append(os.Environ(), namespaceEnv+"="+now)
	return "", os.NewSyscallError("execve", unix.Exec("/proc/self/exe", os.Args, env))
}

// findMountDir returns one of mountDirs that contains none of the files.
func findMountDir(files []string) (string, error) {
	for _, at := range mountDirs {
		st, err := os.Lstat(at)
		if err != nil || !st.IsDir() || slices.ContainsFunc(files, func(f string) bool { return strings.HasPrefix(f, at+"/") }) {
			continue
		}
		return at, nil
	}
	return "", fmt.Errorf("none of %s is a directory to mount in", strings.Join(mountDirs[:], ", "))
}
