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

// cost is what was asked of NFS servers by this machine, and how many processes and threads began.
type cost struct{ trips, forks int64 }

// tries is how often is tried what something costs at least.
const tries = 10

// least does something several times, and undoes it, and returns the least that it has cost. More is
// what else there is on a machine: leases that are renewed, threads that Go's runtime wants.
func least(t *testing.T, do, undo func() error) cost {
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

// rpcs counts what this machine's NFS client has asked.
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

// started asks a node how many processes it has started so far.
func started(t *testing.T, metrics string) (n int) {
	t.Helper()
	for _, found := range regexp.MustCompile(`(?m)^mooring_children_started_total{.*} (\d+)$`).FindAllStringSubmatch(metricsAt(t, metrics), -1) {
		k, _ := strconv.Atoi(found[1])
		n += k
	}
	return n
}

// unique names a directory as that of a volume which external-provisioner asks for.
func unique(i int) string { return fmt.Sprintf("pvc-4f9e6a7e-1f0e-4bd7-9d8b-%012d", i) }

// TestCosts counts what pods cost: the first one of a volume one mount(8), and the round trips of one
// that is run alone with the same options; nothing else a process, or more than two round trips. Where the
// kernel may remember another directory, the first pod costs one process of the plugin, which mounts twice.
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
			other := s.held(node, static("other", "share", "nas1", "subDir", "other")) // as on a node with pods
			var visited int                                                            // of the volumes that are measured
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
			alone := least(t, func() error {
				return exec.Command("mount", "-t", "nfs", "-o", "retry=0,nfsvers="+version, lab.Server+":"+s.path+"/"+unique(0), at).Run()
			}, func() error { return unix.Unmount(at, 0) })
			before := started(t, metrics)
			first := least(t, visit, unpublish)
			if n := started(t, metrics) - before; n != tries || first.trips != alone.trips {
				t.Errorf("%d first pods had %d processes started and cost %+v each, and mount(8) %+v", tries, n, first, alone)
			}
			before = started(t, metrics)
			again := least(t, publish, unpublish)
			if n := started(t, metrics) - before; version != "3" && n != tries || again.trips > 3*alone.trips { // what is to be known of a new superblock is asked, too
				t.Errorf("%d times a first pod again had %d processes started and cost %+v each, and mount(8) %+v", tries, n, again, alone)
			}
			a.must(publish())
			stats := least(t, asked, nothing)
			if stats.trips > 2 || stats.forks > 0 {
				t.Errorf("a question costs %+v", stats)
			}
			none := map[string]cost{"the last pod's end": least(t, unpublish, visit)}
			a.must(a.hold())
			none["another pod's end"] = least(t, unpublish, publish)
			a.must(unpublish())
			none["another pod"] = least(t, publish, unpublish)
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
