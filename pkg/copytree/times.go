// SPDX-License-Identifier: Apache-2.0

package copytree

import "golang.org/x/sys/unix"

// NFSv3 has 32 bits without a sign for the seconds of a time (RFC 1813, section 2.5, nfstime3): 1970 to
// 2106. Linux sets what is nearest to a time that does not fit, and reports success. A server that has one
// on its disk sends its lower 32 bits (knfsd): what is from before 1970 is shown as from
// after 2038. A copy gets what is shown.

// times gives a copy the times of its source, and counts it as lost if it does not have them then.
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

// hasTimes reports whether a copy has the times of its source, to the second: servers differ in how fine
// they keep them. They came with the answer to what set them: the server is not asked again.
func (t target) hasTimes(st *unix.Stat_t) (bool, error) {
	var now unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW | unix.AT_STATX_DONT_SYNC
	err := unix.Statx(t.fd, t.name, flags, unix.STATX_ATIME|unix.STATX_MTIME, &now)
	return now.Atime.Sec == st.Atim.Sec && now.Mtime.Sec == st.Mtim.Sec, err
}

// wrapped reports whether a time that NFSv3 shows may be one from before 1970: 1902 to 1969 are shown as
// 2038 to 2105. One from after 2106 is shown as from after 1970, which nobody can tell.
func mayBeWrapped(t unix.Timespec) bool { return t.Sec >= 1<<31 }
