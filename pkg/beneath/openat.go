// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"time"

	"golang.org/x/sys/unix"
)

// leaseWait is the time between two attempts to open a file on which another process has a lease.
const leaseWait = time.Millisecond

// Openat opens path under the directory dir, and returns a descriptor that the caller
// closes. dir is any descriptor of a directory, flags are those of open(2); O_NOFOLLOW and
// O_CLOEXEC are added. It cannot create files.
//
// It fails with ELOOP if a component of the path is a symbolic link, and with EXDEV if the
// path leaves dir or its file system. With O_PATH, and without O_DIRECTORY, a link that is the
// last component is not followed either, but opened itself (openat2(2)): check the type of the
// descriptor's file.
//
// Openat calls openat2(2) again for as long as that returns EINTR or EAGAIN. EAGAIN has two
// causes. The kernel could not rule out that ".." left the directory, because of a concurrent
// rename or mount (openat2(2)): the next call will succeed. Or, with O_NONBLOCK, another
// process has a lease on the file and the kernel has just asked it to release it (fcntl(2)):
// Openat waits for a moment before each further call.
//
// ESTALE: dir does not exist any more. EAGAIN: see [Dir.Resolve].
func Openat(dir int, path string, flags int) (fd int, err error) {
	err = Dir(dir).lookUp(path, func() (err error) {
		fd, err = openat(dir, path, flags)
		return err
	})
	return fd, err
}

// openat is Openat without lookUp.
func openat(dir int, path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		switch {
		case err == unix.EAGAIN && flags&unix.O_NONBLOCK != 0:
			time.Sleep(leaseWait)
		case err != unix.EINTR && err != unix.EAGAIN:
			return fd, err
		}
	}
}
