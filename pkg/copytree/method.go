// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Methods remembers what a pair of file systems refuses, so that it is not tried again for
// every file. Its zero value is ready for use, by several copies at a time.
type Methods struct {
	clone, copy method
	// noAttributes: the source has none to ask for. The others are what the target does not take.
	noAttributes                            atomic.Bool
	noUserAttributes, noPOSIXACL, noNFS4ACL atomic.Bool
	once                                    sync.Once
	// wantNone is the flag by which an NFS client asks for no delegation of a file that it
	// opens. With one, Linux keeps the times that are set to itself, until it gives the
	// delegation back (RFC 9754), minutes later, or never, if it dies: but the copy is called
	// whole before. And tenants would wait for each to be given back.
	noDelegationFlag int
	// from3: the source is on NFSv3: see wrapped.
	sourceIsNFSv3 bool
	buffers       sync.Pool
	plainACLs     sync.Map // of what a new file has: see plainACL
	calls         attributeCalls
}

// attributeCalls are the system's, where tests have nothing that stands in for them.
type attributeCalls struct {
	set    func(path, name, value string) error
	remove func(path, name string) error
}

func (a attributeCalls) setxattr(path, name, value string) error {
	if a.set != nil {
		return a.set(path, name, value)
	}
	return unix.Setxattr(path, name, []byte(value), 0)
}

func (a attributeCalls) removexattr(path, name string) error {
	if a.remove != nil {
		return a.remove(path, name)
	}
	return unix.Removexattr(path, name)
}

// method is what is known of a way to copy data.
type method struct {
	works, unusable atomic.Bool
	invalid         atomic.Int32
}

// trials is how many files may be refused for what they are (EINVAL), and none ever copied,
// before a way is given up.
const maxInvalid = 8

func (m *method) usable() bool { return !m.unusable.Load() }

// note remembers how a trial ended, and returns its error.
func (m *method) record(err error) error {
	switch {
	case err == nil:
		if !m.works.Load() {
			m.works.Store(true)
		}
	case !isRefused(err):
	case !errors.Is(err, unix.EINVAL), !m.works.Load() && m.invalid.Add(1) >= maxInvalid:
		m.unusable.Store(true)
	}
	return err
}

// refused reports whether an error says that a way to copy cannot be had, and nothing else is
// wrong.
func isRefused(err error) bool {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EINVAL, unix.EBADF} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// learn finds out whether copy_file_range(2) would have the server copy, and how the source shows times.
// By NFS before 4.2, or from another mount, the call reads and writes as we do, but fills the holes.
func (m *Methods) detect(source, target int, sameDevice bool) {
	m.once.Do(func() {
		_, options := findMount(source)
		m.sourceIsNFSv3 = hasOption(options, "vers=3")
		fsType, options := findMount(target)
		if !strings.HasPrefix(fsType, "nfs") {
			return
		}
		m.noDelegationFlag = unix.O_DIRECT
		m.copy.unusable.Store(!sameDevice || !hasOption(options, "vers=4.2"))
	})
}

func hasOption(options, option string) bool {
	return strings.Contains(","+options+",", ","+option+",")
}

// nfs reports whether the target is on NFS.
func (m *Methods) targetIsNFS() bool { return m.noDelegationFlag != 0 }

// pagesFilled is how many bytes the calling thread has put into the page cache to be written.
func bytesWrittenByThread() (n int64) {
	data, err := os.ReadFile("/proc/thread-self/io")
	if err != nil {
		return 0
	}
	if _, after, ok := strings.Cut(string(data), "\nwrite_bytes: "); ok {
		_, _ = fmt.Sscan(after, &n)
	}
	return n
}

// mountOf returns type and options of the mount that fd is open on, as the kernel's table has them, which
// asks no server (proc_pid_mountinfo(5)).
func findMount(fd int) (fsType, options string) {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st) != nil {
		return "", ""
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), fmt.Sprintf("%d ", st.Mnt_id)) {
			continue
		}
		if _, after, ok := strings.Cut(lines.Text(), " - "); ok {
			if fields := strings.Fields(after); len(fields) >= 3 {
				return fields[0], fields[2]
			}
		}
	}
	return "", ""
}

func (m *Methods) getBuffer() *[]byte {
	if b, ok := m.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, bufferSize)
	return &b
}

func (m *Methods) putBuffer(b *[]byte) { m.buffers.Put(b) }
