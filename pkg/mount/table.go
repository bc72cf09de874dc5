// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// Entry is one mount.
type Entry struct {
	Source  string // as mount(8) was told: "server:/path/directory"
	Target  string
	Type    string   // "nfs", "nfs4", ...
	Options []string // of this mount, "ro" or "rw" among them
	Super   []string // of the superblock: "vers=4.2", "addr=10.0.0.1", ...
	Device  string   // major:minor of the superblock
	Root    string   // the directory in it that is shown: "/", or that of a bind
}

// ReadOnly reports whether this mount is, which its superblock need not be.
func (e Entry) ReadOnly() bool { return slices.Contains(e.Options, "ro") }

// Table is the mounts of this process's namespace, as of one moment, oldest first. It is not to
// be changed: others have the same.
type Table []Entry

// tables is the mount table, which is read anew only when the kernel says that it has changed.
// With a thousand mounts that takes milliseconds, and asking whether it has, microseconds.
type tables struct {
	mu     sync.Mutex
	file   *os.File
	cached Table
}

// Table reads /proc/thread-self/mountinfo, which no server has a part in.
func (k *Kernel) Table() (Table, error) {
	table, err := k.tables.read()
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return table, nil
}

func (t *tables) read() (Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		// Not os.Open: Go's runtime would wait for the file's events, and the kernel tells one
		// who asks of each change once.
		// And not /proc/self: a thread may have a mount namespace of its own (NewIsolated).
		fd, err := unix.Open("/proc/thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("open /proc/thread-self/mountinfo", err)
		}
		t.file = os.NewFile(uintptr(fd), "mountinfo")
	}
	// Asked first: what changes while it is read shows the next time.
	if !t.changed() && t.cached != nil {
		return t.cached, nil
	}
	t.cached = nil
	if _, err := t.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	infos, err := mountinfo.GetMountsFromReader(t.file, nil)
	if err != nil {
		return nil, err
	}
	table := make(Table, len(infos))
	for i, m := range infos {
		table[i] = Entry{
			Source: m.Source, Target: m.Mountpoint, Type: m.FSType,
			Options: splitOptions(m.Options), Super: splitOptions(m.VFSOptions), Device: fmt.Sprintf("%d:%d", m.Major, m.Minor), Root: m.Root,
		}
	}
	t.cached = table
	return table, nil
}

// changed reports whether the table has changed since it was last asked, or the file opened
// (proc_pid_mounts(5)). What cannot be asked may have.
func (t *tables) changed() bool {
	fds := []unix.PollFd{{Fd: int32(t.file.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// At returns the topmost mount at target, of which only the lexical form counts.
func (t Table) At(target string) (Entry, bool) {
	target = filepath.Clean(target)
	for _, e := range slices.Backward(t) {
		if e.Target == target {
			return e, true
		}
	}
	return Entry{}, false
}

// stacked counts the mounts at target.
func (t Table) stacked(target string) (n int) {
	target = filepath.Clean(target)
	for _, e := range t {
		if e.Target == target {
			n++
		}
	}
	return n
}

// splitOptions leaves an SELinux context whole.
func splitOptions(s string) []string { return volume.SplitMountOptions([]string{s}) }
