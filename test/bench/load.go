// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// loadVolumes is the number of volumes of a node with many pods, loadPods that of its pods, and
// firstLoadPod the number of the first one.
const (
	loadVolumes  = 200
	loadPods     = 1000
	firstLoadPod = keeper + 1
)

// loads returns the rows of a node with many pods. The pods of one row exist for the next one.
func (n *node) loads() []spec {
	row := func(operation, variant string, parallel, count, before, after int, do func(i int) error) spec {
		return spec{
			operation: operation, variant: variant, protocol: n.protocol, disk: "xfs", delays: []float64{0}, parallel: parallel, n: count, on: n.process, load: true,
			prepare: func(int) (func(int) error, func() error, error) {
				err := n.loaded(before)
				n.load = after
				return do, nil, err
			},
		}
	}
	stats := func(i int) error { return n.stats(i%loadPods%loadVolumes, firstLoadPod+i%loadPods) }
	return []spec{
		row("publish", "1,000 pods of 200 volumes", 10, loadPods, 0, loadPods, n.loadPublish),
		row("stats", "200 volumes at once", loadVolumes, loadVolumes, loadPods, loadPods, stats),
		row("stats", "1,000 pods at once", loadPods, loadPods, loadPods, loadPods, stats),
		row("stats", "1,000 pods, 10 at once, ten times", 10, 10*loadPods, loadPods, loadPods, stats),
		row("unpublish", "1,000 pods of 200 volumes", 10, loadPods, loadPods, 0, n.loadUnpublish),
	}
}

// loaded has so many pods.
func (n *node) loaded(pods int) error {
	err := n.pods(firstLoadPod + loadPods)
	if err == nil && n.load < pods {
		_, err = repeat(pods, 10, n.loadPublish)
	}
	if err == nil && n.load > pods {
		_, err = repeat(n.load, 10, n.loadUnpublish) // some are already unpublished
	}
	n.load = pods
	return err
}

func (n *node) loadPublish(i int) error { return n.publish(i%loadVolumes, firstLoadPod+i) }

func (n *node) loadUnpublish(i int) error { return n.unpublish(i%loadVolumes, firstLoadPod+i) }

// alone returns the rows of a mount and a directory read without the driver, and of an RPC without them. The
// volumes are unseen: a second mount of a directory has fewer round trips.
func (n *node) alone(row func(operation, variant string, count int, prepare func(int) (func(int) error, func() error, error)) spec) []spec {
	source := func(i int) string {
		return lab.Server + ":" + n.export + "/" + n.volumes[i].GetVolumeContext()["subDir"]
	}
	mount := func(volume, i int) error {
		out, err := exec.Command("mount", "-t", "nfs", "-o", "retry=0,nfsvers="+n.protocol, source(volume), n.target(i)).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	return []spec{
		row("mount(8) alone", "as publish-first", nodeVolumes-1, func(count int) (func(int) error, func() error, error) {
			first := n.see(count)
			return func(i int) error { return mount(first+i, i) }, func() error {
				return each(count, func(i int) error { return unix.Unmount(n.target(i), 0) })
			}, each(count, func(i int) error { return os.MkdirAll(n.target(i), 0o750) })
		}),
		row("an RPC alone", "which asks nothing", 30, n.shown(func(int) error {
			ctx, cancel := call()
			defer cancel()
			_, err := n.Identity.Probe(ctx, &csi.ProbeRequest{})
			return err
		}, false)),
		row("statfs(2) alone", "as stats", 30, n.shown(func(pod int) error { return unix.Statfs(n.target(pod), new(unix.Statfs_t)) }, true)),
	}
}

// weight is the resources of processes.
type weight struct {
	cpu                time.Duration // so far
	threads, kilobytes int
}

// weigh returns the weight of a process and its descendants, and the CPU time of the ended ones.
func weigh(pid int) (w weight, err error) {
	for i, p := range append([]int{pid}, lab.Descendants(pid)...) {
		stat, e := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		status, e2 := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if e := errors.Join(e, e2); e != nil {
			if i == 0 {
				err = e
			}
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, field := range fields[11:15] { // utime, stime, cutime, cstime (proc_pid_stat(5))
			ticks, _ := strconv.Atoi(field)
			w.cpu += time.Duration(ticks) * time.Second / 100 // sysconf(_SC_CLK_TCK) of Linux
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			number, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			switch key {
			case "Threads":
				w.threads += number
			case "VmRSS":
				w.kilobytes += number
			}
		}
	}
	return w, err
}

// forks counts all processes and threads that were started on this machine.
func forks() (n int64, err error) {
	data, err := os.ReadFile("/proc/stat")
	_, after, _ := strings.Cut(string(data), "\nprocesses ")
	if err == nil {
		_, err = fmt.Sscan(after, &n)
	}
	return n, err
}

// printLoads prints the rows of many pods, with the plugin's resources.
func (b *bench) printLoads(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nmany pods\tcase\tparallel\tn\tmedian ms\tp99 ms\ttrips\tprocesses\tforks\tCPU ms\tthreads\tMB")
	for _, r := range b.rows {
		if r.Threads == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%.1f\t%.1f\t%s\t%g\t%s\t%s\t%d\t%.1f\n",
			r.Operation, r.Case, r.Parallel, r.N, r.MedianS*1e3, r.P99S*1e3, short(r.RoundTrips), r.Processes, short(r.Forks), short(r.CPUMS), r.Threads, r.MemoryMB)
	}
	_ = w.Flush()
}
