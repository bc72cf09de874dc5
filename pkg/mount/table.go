// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Entry is one mount.
type Entry struct {
	Source  string // as mount(8) was told: "server:/path/directory"
	Target  string
	Type    string   // "nfs", "nfs4", ...
	Options []string // of this mount, "ro" or "rw" among them
	Super   []string // of the superblock: "vers=4.2", "addr=10.0.0.1", ...
	Device  string   // major:minor of the superblock
}

// ReadOnly reports whether this mount is, which its superblock need not be.
func (e Entry) ReadOnly() bool { return slices.Contains(e.Options, "ro") }

// Table is the mounts of this process's namespace, as of one moment, oldest first.
type Table []Entry

// Table reads /proc/self/mountinfo, which no server has a part in.
func (k *Kernel) Table() (Table, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	table := make(Table, len(infos))
	for i, m := range infos {
		table[i] = Entry{
			Source: m.Source, Target: m.Mountpoint, Type: m.FSType,
			Options: splitOptions(m.Options), Super: splitOptions(m.VFSOptions), Device: fmt.Sprintf("%d:%d", m.Major, m.Minor),
		}
	}
	return table, nil
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

// splitOptions leaves an SELinux context whole.
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

func splitOptions(s string) []string { return volume.SplitMountOptions([]string{s}) }
