// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// cost is the number of RPCs of this machine to NFS servers, and of processes and threads that began.
type cost struct{ trips, forks int64 }

// tries is the number of measurements of which the smallest counts.
const tries = 10

// minCost does something several times, undoes it each time, and returns the smallest cost. A higher one
// includes other activity of the machine: renewed leases, threads of Go's runtime.
func minCost(t *testing.T, do, undo func() error) cost {
	t.Helper()
	var least cost
	for i := range tries {
		trips, begun := rpcs(t), forks(t)
		err := do()
		c := cost{rpcs(t) - trips, forks(t) - begun}
		if i == 0 {
			least = c
		}
		least = cost{min(least.trips, c.trips), min(least.forks, c.forks)}
		if err == nil {
			err = undo()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return least
}

// rpcs counts the RPCs of this machine's NFS client.
func rpcs(t *testing.T) (n int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/net/rpc/nfs")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "\nrpc ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// startedProcesses returns the number of processes that a node has started so far, from its metrics.
func startedProcesses(t *testing.T, metrics string) (n int) {
	t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^mooring_children_started_total{.*} (\d+)$`).FindAllStringSubmatch(metricsAt(t, metrics), -1) {
		k, _ := strconv.Atoi(found[1])
		n += k
	}
	return n
}

// unique returns a directory name as for a volume of external-provisioner.
func unique(i int) string { return fmt.Sprintf("pvc-4f9e6a7e-1f0e-4bd7-9d8b-%012d", i) }

// TestCosts counts the cost of pods. The first one of a volume costs one mount(8), with the round trips of
// a mount(8) alone with the same options; nothing else costs a process, or more than two round trips. If
// the kernel may have another directory in its cache, the first pod costs one process of the plugin, which
// mounts twice.
func TestCosts(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			mkdir(t, s.at("other"))
			for i := range 2 * tries {
				mkdir(t, s.at(unique(i)))
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			metrics := l.Addr().String()
			_ = l.Close()
			node := s.start("node", "node", "--metrics-address="+metrics)
			other := s.held(node, static("other", "share", "nas1", "subDir", "other")) // a node usually has pods
			var visited int                                                            // number of measured volumes
			var a *seat
			visit := func() error {
				a = s.seat(node, static(unique(visited), "share", "nas1", "subDir", unique(visited)))
				visited++
				return a.publish("pod", false)
			}
			publish := func() error { return a.publish("pod", false) }
			unpublish := func() error { return a.unpublish("pod") }
			asked := func() error { _, err := a.stats(a.target("pod")); return err }
			nothing := func() error { return nil }
			at := localDir(t)
			alone := minCost(t, func() error {
				return exec.Command("mount", "-t", "nfs", "-o", "retry=0,nfsvers="+version, lab.Server+":"+s.path+"/"+unique(0), at).Run()
			}, func() error { return unix.Unmount(at, 0) })
			before := startedProcesses(t, metrics)
			first := minCost(t, visit, unpublish)
			if n := startedProcesses(t, metrics) - before; n != tries || first.trips != alone.trips {
				t.Errorf("%d first pods had %d processes started and cost %+v each, and mount(8) %+v", tries, n, first, alone)
			}
			before = startedProcesses(t, metrics)
			again := minCost(t, publish, unpublish)
			if n := startedProcesses(t, metrics) - before; version != "3" && n != tries || again.trips > 3*alone.trips { // a new superblock costs requests of its own
				t.Errorf("%d times a first pod again had %d processes started and cost %+v each, and mount(8) %+v", tries, n, again, alone)
			}
			a.must(publish())
			stats := minCost(t, asked, nothing)
			if stats.trips > 2 || stats.forks > 0 {
				t.Errorf("a question costs %+v", stats)
			}
			none := map[string]cost{"the last pod's end": minCost(t, unpublish, visit)}
			a.must(a.hold())
			none["another pod's end"] = minCost(t, unpublish, publish)
			a.must(unpublish())
			none["another pod"] = minCost(t, publish, unpublish)
			for what, c := range none {
				if c != (cost{}) {
					t.Errorf("%s costs %+v", what, c)
				}
			}
			t.Logf("mount(8) costs %+v, a first pod %+v, again %+v, a question %+v", alone, first, again, stats)
			a.leave()
			other.leave()
		})
	}
}
