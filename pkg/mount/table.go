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
	Source  string // as in the call of mount(8): "server:/path/directory"
	Target  string
	Type    string   // "nfs", "nfs4", ...
	Options []string // of this mount, including "ro" or "rw"
	Super   []string // of the superblock: "vers=4.2", "addr=10.0.0.1", ...
	Device  string   // major:minor of the superblock
	Root    string   // the directory of the file system that the mount shows: "/", or another one for a bind
}

// ReadOnly reports whether this mount is read-only; its superblock may be writable.
func (e Entry) ReadOnly() bool { return slices.Contains(e.Options, "ro") }

// Table is a snapshot of the mounts in this process's namespace, oldest first. It is shared: do not
// change it.
type Table []Entry

// tables caches the mount table, and reads it again only if the kernel reports a change. With a
// thousand mounts, reading takes milliseconds, and the check for a change microseconds.
type tables struct {
	mu     sync.Mutex
	file   *os.File
	cached Table
}

// Table reads /proc/thread-self/mountinfo. This involves no server.
func (k *Kernel) Table() (Table, error) {
	if k.table != nil {
		return k.table()
	}
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
		// Not os.Open: Go's runtime would poll the file, and the kernel reports each change only to
		// the first poll. And not /proc/self: a thread may have its own mount namespace (NewIsolated).
		fd, err := unix.Open("/proc/thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, os.NewSyscallError("open /proc/thread-self/mountinfo", err)
		}
		t.file = os.NewFile(uintptr(fd), "mountinfo")
	}
	// Check before reading: the next call then sees a change during the read.
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

// changed reports whether the table has changed since the last call, or since the file was opened
// (proc_pid_mounts(5)). After an error it returns true.
func (t *tables) changed() bool {
	fds := []unix.PollFd{{Fd: int32(t.file.Fd()), Events: unix.POLLPRI}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// At returns the topmost mount at target. It compares the cleaned path only.
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

// splitOptions splits options, but not an SELinux context.
func splitOptions(s string) []string { return volume.SplitMountOptions([]string{s}) }
