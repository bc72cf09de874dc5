// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/mount"
	"golang.org/x/sys/unix"
)

// Some servers keep the time that a program sets only if the client holds no delegation of the file.
// With NFS 4.2 a delegation can include the times (RFC 9754): the client caches the new time until the
// delegation ends, and the server of Linux 7.2 then sets the current time instead. The client that set
// the time cannot see this, so the doctor uses another client: a mount with another minor version
// (RFC 8881, section 2.4), for which the server must return the time that it has.

const (
	timesSuffix = ".times"
	// olderBy is the age that a probe file gets. It is less than staleAfter, so that other trials do
	// not sweep the file.
	olderBy = 10 * time.Minute
)

// Times has the results of the test of times. An offset is the difference between the time that the
// server returned and the time that was set, in seconds.
type Times struct {
	Offset int64 `json:"off"`
	// DelegatedOffset is the offset that another client sees of a file that was opened as programs
	// open it; OtherClient says whether there was another client.
	DelegatedOffset int64 `json:"delegated"`
	OtherClient     bool  `json:"seen"`
}

// mountAsOtherClient mounts the share again at the same place, as another client of the server, and
// returns its root. It returns None if that fails or is not needed.
func (r request) mountAsOtherClient(kernel *mount.Kernel, version string) beneath.Dir {
	if version != "4.2" { // older versions do not delegate times
		return beneath.None
	}
	for _, other := range []string{"4.1", "4.0"} {
		if tryMount(kernel, r.specForVersion(other)).Error != "" {
			continue
		}
		root, err := beneath.OpenRoot(r.At)
		if err != nil {
			continue
		}
		return root
	}
	return beneath.None
}

// times sets the times of files, and compares them with those that the server returns. other is the
// share's root in the mount of another client.
func (t *probeFile) times(other beneath.Dir) (found Times, err error) {
	// The client gets no delegation of the probe file: see beneath.Dir.Open.
	if found.Offset, err = makeOlder(t.source, func() (int64, error) { return mtime(int(t.source.Fd()), "") }); err != nil || other == beneath.None {
		return found, err
	}
	name := t.name + timesSuffix
	fd, err := unix.Openat(int(t.dir), name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return found, os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	in, err := other.Resolve(t.dirPath)
	if err != nil {
		return found, err
	}
	defer in.Close()
	found.DelegatedOffset, err = makeOlder(f, func() (int64, error) { return mtime(int(in), name) })
	if err != nil {
		return found, err
	}
	found.OtherClient = true
	return found, nil
}

// makeOlder sets a file's time back, and returns the offset in seconds of the time that read returns.
func makeOlder(f *os.File, read func() (int64, error)) (off int64, err error) {
	now, err := mtime(int(f.Fd()), "")
	if err != nil {
		return 0, err
	}
	want := now - int64(olderBy/time.Second)
	set := []unix.Timespec{{Sec: want}, {Sec: want}}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", set, unix.AT_EMPTY_PATH); err != nil {
		return 0, os.NewSyscallError("utimensat", err)
	}
	got, err := read()
	return got - want, err
}

// mtime returns a file's modification time as the server has it.
func mtime(at int, name string) (seconds int64, err error) {
	var st unix.Statx_t
	err = unix.Statx(at, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_MTIME, &st)
	return st.Mtime.Sec, os.NewSyscallError("statx", err)
}

// judgeTimes reports whether the server keeps times.
func judgeTimes(s *reportBuilder, f *Facts, m mountResult) {
	off := func(seconds int64) string {
		return strings.TrimPrefix(formatDuration(time.Duration(seconds)*time.Second), "-")
	}
	switch {
	case !f.succeeded(stepTimes):
		s.failure("times", stepTimes, f)
	case f.Times.Offset != 0:
		s.problem("times", "not-kept", "the server returns a time that differs by %s from the one that was set", off(f.Times.Offset))
	case f.Times.DelegatedOffset != 0:
		s.problem("times", "delegated", "another client sees a time that differs by %s from the one that was set", off(f.Times.DelegatedOffset))
	case f.Times.OtherClient:
		s.ok("times", "another client sees the time that was set")
	case m.version() == "4.2":
		s.ok("times", "the server returns the time that was set; a mount as another client was not possible")
	default:
		s.ok("times", "the server returns the time that was set")
	}
}
