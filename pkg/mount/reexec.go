// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// namespaceEnv says in which mount namespace the program has started itself anew. A namespace of
// that name is what it says, whoever has set the variable.
const namespaceEnv = "MOORING_MOUNT_NAMESPACE"

// mountDirs are directories that are there on every machine, and that nobody misses who runs in a
// namespace of his own. mount.nfs needs most others.
var mountDirs = [...]string{"/mnt", "/media", "/opt", "/srv"}

// ReexecInMountNS has the whole program run in a mount namespace of its own, so that whatever it mounts
// is gone with it, also by SIGKILL: it starts itself anew there, and so has to be called before
// anything else. It returns a directory to make mount points in, which is gone with it too.
// files are paths that the program still has to see.
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
	runtime.LockOSThread() // exec(2) ends all other threads, and goes on with this one
	if err := unix.Unshare(unix.CLONE_NEWNS); errors.Is(err, unix.EPERM) {
		return "", volume.Errorf(volume.ErrRefused, "a mount namespace cannot be made: run this as root with CAP_SYS_ADMIN, in the controller's container say (kubectl mooring), or name by --shares-dir a directory in which the shares are mounted already")
	} else if err != nil {
		return "", fmt.Errorf("make a mount namespace: %w", err)
	}
	// Else what is mounted here would be seen elsewhere.
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

// findMountDir finds one of the places that none of the files is in.
func findMountDir(files []string) (string, error) {
	for _, at := range mountDirs {
		in := false
		for _, f := range files {
			in = in || strings.HasPrefix(f, at+"/")
		}
		if st, err := os.Lstat(at); err == nil && st.IsDir() && !in {
			return at, nil
		}
	}
	return "", fmt.Errorf("none of %s is a directory to mount in", strings.Join(mountDirs[:], ", "))
}
