// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bufio"
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
	noClone, noCopy         atomic.Bool
	noAttributes, noSetting atomic.Bool
	once                    sync.Once
	// wantNone is the flag by which an NFS client asks for no delegation of a file that it
	// opens. With one, Linux keeps the times that are set to itself, until it gives the
	// delegation back (RFC 9754), minutes later, or never, if it dies: but the copy is called
	// whole before. And tenants would wait for each to be given back.
	wantNone int
	buffers  sync.Pool
	lists    sync.Map // of what a new file has: see plainACL
}

// learn finds out whether copy_file_range(2) would have the server copy. By NFS before 4.2 it
// reads and writes as we do, but fills the holes.
func (m *Methods) learn(target int) {
	m.once.Do(func() {
		var st unix.Statx_t
		if unix.Statx(target, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st) != nil {
			return
		}
		fsType, options := mountOf(st.Mnt_id)
		nfs := strings.HasPrefix(fsType, "nfs")
		if nfs {
			m.wantNone = unix.O_DIRECT
		}
		m.noCopy.Store(nfs && !strings.Contains(","+options+",", ",vers=4.2,"))
	})
}

// mountOf returns type and options of a mount as the kernel's table has them, which asks no
// server (proc_pid_mountinfo(5)).
func mountOf(id uint64) (fsType, options string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), fmt.Sprintf("%d ", id)) {
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

func (m *Methods) buffer() *[]byte {
	if b, ok := m.buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, buffer)
	return &b
}

func (m *Methods) release(b *[]byte) { m.buffers.Put(b) }
