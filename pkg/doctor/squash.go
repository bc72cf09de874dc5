// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// readableBy reports whether a user who is not the owner of the probe file can read it, which its mode
// gives to the owner alone: then the server takes both for one user (all_squash). It is asked by a thread
// that has that user's credentials for files (setfsuid(2)), and is root's again afterwards.
func (t *probeFile) readableBy(uid, gid int) (bool, error) {
	runtime.LockOSThread() // and never unlocked where it could not be made root's again
	if err := errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid)); err != nil {
		return false, err
	}
	fd, failed := unix.Openat(int(t.dir), t.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if failed == nil {
		_ = unix.Close(fd)
	}
	if err := errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)); err != nil {
		return false, err
	}
	runtime.UnlockOSThread()
	if errors.Is(failed, unix.EACCES) || errors.Is(failed, unix.EPERM) {
		return false, nil
	}
	return failed == nil, failed
}
