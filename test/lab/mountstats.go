// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// Counts are the requests of NFS mounts to their servers so far.
type Counts struct {
	ByKind map[string]int64 // round trips by NFS operation
	Bytes  int64            // of file data, read and written through the client
}

// Total returns the number of round trips.
func (c Counts) Total() (n int64) {
	for _, count := range c.ByKind {
		n += count
	}
	return n
}

// Since returns the requests between an earlier count and this one.
func (c Counts) Since(before Counts) Counts {
	d := Counts{ByKind: map[string]int64{}, Bytes: c.Bytes - before.Bytes}
	for kind, n := range c.ByKind {
		if n -= before.ByKind[kind]; n != 0 {
			d.ByKind[kind] = n
		}
	}
	return d
}

// String names the operations: "LINK:2 OPEN:1".
func (c Counts) String() string {
	var kinds []string
	for kind, n := range c.ByKind {
		kinds = append(kinds, fmt.Sprintf("%s:%d", kind, n))
	}
	slices.Sort(kinds)
	return strings.Join(kinds, " ")
}

// Count reads /proc/PID/mountstats for the NFS mounts with a chosen mount point. Figures are per
// superblock: of several mounts of one, for example a volume in several pods, it counts one.
func Count(pid int, chosen func(source, target string) bool) (Counts, error) {
	devices, err := devicesOf(pid)
	if err != nil {
		return Counts{}, err
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountstats", pid))
	if err != nil {
		return Counts{}, err
	}
	defer f.Close()
	total := Counts{ByKind: map[string]int64{}}
	seen := map[string]bool{}
	counted, perOp := false, false
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 8 && fields[0] == "device": // device SOURCE mounted on TARGET with fstype TYPE ...
			device := devices[fields[4]]
			perOp = false
			counted = strings.HasPrefix(fields[7], "nfs") && fields[7] != "nfsd" && chosen(fields[1], fields[4]) && !seen[device]
			seen[device] = seen[device] || counted
		case !counted || len(fields) == 0:
		case fields[0] == "bytes:" && len(fields) >= 7: // ... bytes from and to the server: 5th and 6th
			read, _ := strconv.ParseInt(fields[5], 10, 64)
			written, _ := strconv.ParseInt(fields[6], 10, 64)
			total.Bytes += read + written
		case fields[0] == "per-op":
			perOp = true
		case perOp && len(fields) > 1 && strings.HasSuffix(fields[0], ":"):
			if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil && n > 0 {
				total.ByKind[strings.TrimSuffix(fields[0], ":")] += n
			}
		}
	}
	return total, lines.Err()
}

// devicesOf maps the mount points that a process sees to their superblocks.
func devicesOf(pid int) (map[string]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	if err != nil {
		return nil, err
	}
	devices := map[string]string{}
	for _, m := range mounts {
		devices[m.Mountpoint] = fmt.Sprintf("%d:%d", m.Major, m.Minor)
	}
	return devices, nil
}

// All chooses every mount for Count.
func All(string, string) bool { return true }

// Mounts returns the number of NFS mounts that a process sees.
func Mounts(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 2 && (fields[2] == "nfs" || fields[2] == "nfs4") {
			n++
		}
	}
	return n, nil
}
