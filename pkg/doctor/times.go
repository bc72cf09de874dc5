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

// A server may keep a time that a program sets only as long as the client has no delegation of the
// file. By NFS 4.2 a client may have delegated to it the times, too (RFC 9754): it keeps what is set to
// itself, and shows it, until the delegation ends; and Linux 7.2's server then takes the time of now. By
// the client that has set it this cannot be seen, so another one looks: a mount by another minor version
// (RFC 8881, section 2.4), to which the server has to say what it has.

const (
	timesSuffix = ".times"
	// olderBy is by how much a probe file is made older: less than staleTrial, or another trial
	// would sweep it.
	olderBy = 10 * time.Minute
)

// Times are what a trial of times found. Each is what came back for the time that was set, in seconds: 0
// where it is the same.
type Times struct {
	Offset int64 `json:"off"`
	// DelegatedOffset is of a file that is opened as programs do, as another client has it, which Seen says
	// that there was.
	DelegatedOffset int64 `json:"delegated"`
	OtherClient     bool  `json:"seen"`
}

// mountAsOtherClient mounts the share once more where it is mounted already, as another client of the server, and
// returns its root. None where there is no other client, or none that is needed.
func (r request) mountAsOtherClient(kernel *mount.Kernel, version string) beneath.Dir {
	if version != "4.2" { // none has the times delegated
		return beneath.None
	}
	for _, other := range []string{"4.1", "4.0"} {
		if tryMount(kernel, r.specForVersion(other)).Error != "" {
			continue
		}
		if root, err := beneath.OpenRoot(r.At); err == nil {
			return root
		}
	}
	return beneath.None
}

// times sets times, and looks at what the server has for them. other is the share's root as another
// client has it.
func (t *probeFile) times(other beneath.Dir) (found Times, err error) {
	// The probe file is not delegated: see beneath.Dir.Open.
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
	found.OtherClient = err == nil
	return found, err
}

// makeOlder makes a file older, and returns by how many seconds what comes back is off.
func makeOlder(f *os.File, look func() (int64, error)) (off int64, err error) {
	now, err := mtime(int(f.Fd()), "")
	if err != nil {
		return 0, err
	}
	want := now - int64(olderBy/time.Second)
	set := []unix.Timespec{{Sec: want}, {Sec: want}}
	if err := unix.UtimesNanoAt(int(f.Fd()), "", set, unix.AT_EMPTY_PATH); err != nil {
		return 0, os.NewSyscallError("utimensat", err)
	}
	got, err := look()
	return got - want, err
}

// mtime asks for when a file was modified.
func mtime(at int, name string) (seconds int64, err error) {
	var st unix.Statx_t
	err = unix.Statx(at, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_MTIME, &st)
	return st.Mtime.Sec, os.NewSyscallError("statx", err)
}

// judgeTimes says whether times are kept.
func judgeTimes(s *reportBuilder, f *Facts, m mountResult) {
	off := func(seconds int64) string {
		return strings.TrimPrefix(formatDuration(time.Duration(seconds)*time.Second), "-")
	}
	switch {
	case !f.succeeded(stepTimes):
		s.failure("times", stepTimes, f)
	case f.Times.Offset != 0:
		s.problem("times", "not-kept", "what came back for the time that was set is %s off", off(f.Times.Offset))
	case f.Times.DelegatedOffset != 0:
		s.problem("times", "delegated", "to another client the time that was set is %s off", off(f.Times.DelegatedOffset))
	case f.Times.OtherClient:
		s.ok("times", "another client sees the time that was set")
	case m.version() == "4.2":
		s.ok("times", "the time that was set comes back; no other client could look")
	default:
		s.ok("times", "the time that was set comes back")
	}
}
