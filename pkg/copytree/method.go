// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Methods records the operations that a pair of file systems does not support, so that a copy does
// not try them for every file. Its zero value is ready for use. Copies may use it concurrently.
type Methods struct {
	clone, copy method
	// noAttributes: the source does not support extended attributes. The others are those that the
	// target does not accept.
	noAttributes                            atomic.Bool
	noUserAttributes, noPOSIXACL, noNFS4ACL atomic.Bool
	once                                    sync.Once
	// noDelegationFlag is the open(2) flag with which an NFS client asks for no delegation of the file.
	// With a delegation Linux caches the times that are set, until it returns the delegation (RFC 9754):
	// minutes later, or never if the client crashes. But the copy is reported complete before that.
	// And tenants would have to wait until each delegation is returned.
	noDelegationFlag int
	// sourceIsNFSv3: see mayBeWrapped.
	sourceIsNFSv3 bool
	buffers       sync.Pool
	plainACLs     sync.Map // by mode, those of new files: see isPlainACL
	calls         attributeCalls
}

// attributeCalls are the system calls for extended attributes. Tests may replace them.
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

// method records whether a method to copy data works.
type method struct {
	works, unusable atomic.Bool
	invalid         atomic.Int32
}

// maxInvalid is the number of files that may fail with EINVAL, which may depend on the file, before a
// method is given up that never copied one.
const maxInvalid = 8

func (m *method) usable() bool { return !m.unusable.Load() }

// record records the result of a trial, and returns its error.
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

// isRefused reports whether an error means only that a method to copy is not available.
func isRefused(err error) bool {
	for _, errno := range []unix.Errno{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EINVAL, unix.EBADF} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// detect finds out whether copy_file_range(2) makes the server copy, and whether the source is on NFSv3.
// On NFS before 4.2, or from another mount, the call reads and writes as readAndWrite does, but fills holes.
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

// targetIsNFS reports whether the target is on NFS.
func (m *Methods) targetIsNFS() bool { return m.noDelegationFlag != 0 }

// bytesWrittenByThread returns the number of bytes that the calling thread has written to the page cache.
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

// findMount returns the file system type and the superblock options of the mount of fd. It reads them from
// the kernel's mount table, which needs no request to the server (proc_pid_mountinfo(5)). The table is that
// of the main thread: doctor's child mounts in a namespace of that thread alone, and copies in others.
func findMount(fd int) (fsType, options string) {
	var st unix.Statx_t
	if unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st) != nil {
		return "", ""
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	defer table.Close()
	mounts, err := mountinfo.GetMountsFromReader(table, func(m *mountinfo.Info) (skip, stop bool) {
		found := uint64(m.ID) == st.Mnt_id
		return !found, found
	})
	if err != nil || len(mounts) == 0 {
		return "", ""
	}
	return mounts[0].FSType, mounts[0].VFSOptions
}

func (m *Methods) getBuffer() *[]byte {
	if b, ok := m.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, bufferSize)
	return &b
}

func (m *Methods) putBuffer(b *[]byte) { m.buffers.Put(b) }
