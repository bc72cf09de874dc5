// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// readableBy reports whether a user that does not own the probe file can read it, although its mode
// allows only the owner to read: then the server maps both to one user (all_squash). The thread takes
// that user's file system credentials (setfsuid(2)), and root's again afterwards.
func (t *probeFile) readableBy(uid, gid int) (bool, error) {
	runtime.LockOSThread() // stays locked if the thread cannot get root's credentials back
	if err := errors.Join(unix.Setfsgid(gid), unix.Setfsuid(uid)); err != nil {
		return false, err
	}
	fd, openErr := unix.Openat(int(t.dir), t.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	_ = unix.Close(fd) // -1 if it was not opened
	if err := errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)); err != nil {
		return false, err
	}
	runtime.UnlockOSThread()
	switch {
	case errors.Is(openErr, unix.EACCES), errors.Is(openErr, unix.EPERM):
		return false, nil
	case openErr != nil:
		return false, openErr
	}
	return true, nil
}
