// SPDX-License-Identifier: Apache-2.0

package copytree

import "golang.org/x/sys/unix"

// NFSv3 has 32 unsigned bits for the seconds of a time (RFC 1813, section 2.5, nfstime3): 1970 to 2106.
// For a time that does not fit, Linux sets the nearest one, and reports success. If the time on the
// server's disk does not fit, knfsd sends its lower 32 bits: a time before 1970 is shown as one after
// 2038. A copy gets the time that is shown.

// copyTimes gives a copy the times of its source. If the copy does not keep them, it counts as lost.
func (c attributeCopier) copyTimes(t target, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	path, dir, flags := t.path, unix.AT_FDCWD, 0
	if path == "" {
		path, dir, flags = t.name, t.fd, unix.AT_SYMLINK_NOFOLLOW
	}
	if err := unix.UtimesNanoAt(dir, path, times, flags); err != nil {
		return err
	}
	kept, err := t.hasTimes(st)
	if err != nil {
		return err
	}
	if !kept || c.methods.sourceIsNFSv3 && (mayBeWrapped(st.Atim) || mayBeWrapped(st.Mtim)) {
		c.lost.Add(1)
	}
	return nil
}

// hasTimes reports whether a copy has the times of its source, to the second: the resolution differs
// between servers. The server sent them with its answer: there is no further request.
func (t target) hasTimes(st *unix.Stat_t) (bool, error) {
	var current unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC
	err := unix.Statx(t.fd, t.name, flags, unix.STATX_ATIME|unix.STATX_MTIME, &current)
	return current.Atime.Sec == st.Atim.Sec && current.Mtime.Sec == st.Mtim.Sec, err
}

// mayBeWrapped reports whether a time that NFSv3 shows may be one before 1970: 1902 to 1969 are shown as
// 2038 to 2105. A time after 2106 is shown as one after 1970, which cannot be detected.
func mayBeWrapped(t unix.Timespec) bool { return t.Sec >= 1<<31 }
