// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// output runs a shell script and returns its output.
func output(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

// connections lists the local ports of this machine's connections to the lab's NFS server.
func connections(t *testing.T) []string {
	t.Helper()
	return strings.Fields(output(t, "ss -Htn state established 'dport = :2049' | sed -E 's/.*:([0-9]+) +[^ ]+ *$/\\1/'"))
}

// TestFrozenExport freezes one export of a server. Another one of the same server continues, and the
// server answers NULL calls.
func TestFrozenExport(t *testing.T) {
	for _, c := range []struct{ frozen, well string }{{"3", "4.2"}, {"4.2", "3"}} {
		t.Run(c.frozen, func(t *testing.T) { frozenExport(t, c.frozen, c.well) })
	}
}

// frozenExport cuts all connections except that of one mount: each version has its own. Probes of the
// server, which may connect, do not use a privileged port.
func frozenExport(t *testing.T, version, other string) {
	dir, well := exportDir(t, "frozen"), exportDir(t, "well")
	mkdir(t, filepath.Join(dir, "v"))
	mkdir(t, filepath.Join(well, "v"))
	s := newSiteAt(t, dir, dir, "mountOptions: [nfsvers="+version+"]")
	s.config += strings.TrimPrefix(lab.Registry("nas2", well, "mountOptions: [nfsvers="+other+"]"), "shares:\n")
	node := s.start("node", "node")
	before := connections(t)
	h := s.held(node, static("well", "share", "nas2", "subDir", "v"))
	ports := slices.DeleteFunc(connections(t), func(port string) bool { return slices.Contains(before, port) })
	h.must(h.publish("pod", false))
	f := s.held(node, static("frozen", "share", "nas1", "subDir", "v"))
	f.must(f.publish("pod", false))
	f.must(f.publish("pod-2", false))
	if len(ports) != 1 {
		t.Fatalf("the mount has the connections %v, before there were %v", ports, before)
	}
	filter := " && tc filter add dev lo egress protocol ip prio %d u32 match ip dport 2049 0xffff match ip sport %s action %s"
	output(t, "tc qdisc add dev lo clsact"+fmt.Sprintf(filter, 1, ports[0]+" 0xffff", "ok")+fmt.Sprintf(filter, 2, "0 0xfc00", "drop"))
	heal := sync.OnceFunc(func() { output(t, "tc qdisc del dev lo clsact") })
	defer heal()
	var all sync.WaitGroup
	for _, pod := range []string{"pod", "pod-2"} {
		all.Go(func() {
			_, err := f.stats(f.target(pod))
			if status.Code(err) == codes.Aborted { // on a busy machine, the other pod's query may use up its time
				wantError(t, err, codes.Aborted, f.target(pod), "not queried yet")
				return
			}
			wantError(t, err, codes.Unavailable, f.target(pod), "its server does not answer")
		})
	}
	for range 100 {
		all.Go(func() {
			_, err := h.stats(h.target("pod"))
			wantError(t, err, codes.OK)
		})
	}
	all.Wait()
	for range 2 { // either process may have the frozen one
		_, err := f.stats(f.target("pod"))
		wantError(t, err, codes.Unavailable, f.target("pod"), "its server does not answer")
		_, err = h.stats(h.target("pod"))
		wantError(t, err, codes.OK)
	}
	wantReasons(t, f.health(f.target("pod")), "SlowResponses")
	wantReasons(t, h.health(h.target("pod")))
	eventually(t, waitTimeout, "there is one process that asks", func() bool { return len(lab.Descendants(node.PID())) <= 1 })
	heal()
	eventually(t, waitTimeout, "the frozen one answers again", func() bool { _, err := f.stats(f.target("pod")); return err == nil })
	f.leave("pod", "pod-2")
	h.leave("pod")
}

// TestUnkillable suspends a disk of this machine: a thread that waits for it cannot be killed.
func TestUnkillable(t *testing.T) {
	dir := localDir(t)
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	local := filepath.Join(at, "directory")
	mkdir(t, at)
	output(t, "modprobe -a loop dm-mod; truncate -s 64M "+image+" && mkfs.ext4 -q "+image)
	loop := output(t, "losetup -f --show "+image)
	t.Cleanup(func() { output(t, "losetup -d "+loop) })
	output(t, "dmsetup create frozen --table '0 131072 linear "+loop+" 0' && dmsetup mknodes")
	t.Cleanup(func() { output(t, "dmsetup remove --retry frozen") })
	mounted := "mount /dev/mapper/frozen " + at
	output(t, mounted+" && mkdir "+local+" && umount "+at+" && "+mounted+" && dmsetup suspend --noflush --nolockfs frozen")
	t.Cleanup(func() { output(t, "umount "+at) })
	thaw := sync.OnceFunc(func() { output(t, "dmsetup resume frozen") })
	t.Cleanup(thaw)

	w := probe.NewWorker()
	defer w.Close()
	ask := func(ctx context.Context, path string, began func()) error {
		_, err := w.Query(ctx, probe.Mount{Path: path, Server: "nas", Superblock: path, ReadOnly: true}, began)
		return err
	}
	ctx, giveUp := context.WithCancelCause(context.Background())
	late := errors.New("late")
	began, ended := make(chan bool, 1), make(chan error, 1)
	go func() { ended <- ask(ctx, local, func() { began <- true }) }()
	<-began
	eventually(t, waitTimeout, "a thread is stuck", func() bool { return slices.ContainsFunc(lab.Descendants(os.Getpid()), stuck) })
	giveUp(late)
	if err := <-ended; !errors.Is(err, late) {
		t.Errorf("the error is %v", err)
	}
	eventually(t, waitTimeout, "a process is left to itself", func() bool { return w.Abandoned() == 1 })
	if err := ask(soon(t), local, nil); !errors.Is(err, child.ErrStuck) || volume.Kind(err) != volume.ErrUnavailable {
		t.Errorf("asked again, the error is %v", err)
	}
	if err := ask(soon(t), "/", nil); err != nil {
		t.Error(err)
	}
	if _, n := w.QueueStats(); n != 1 || w.Started() != 2 {
		t.Errorf("%d superblocks are in quarantine, %d processes were started", n, w.Started())
	}
	thaw()
	eventually(t, waitTimeout, "the process is gone", func() bool { return w.Alive() == 1 })
	if err := ask(soon(t), local, nil); err != nil || w.Abandoned() != 0 {
		t.Errorf("afterwards the error is %v, and %d processes are left", err, w.Abandoned())
	}
}

// stuck reports whether a thread of the process waits in a state that cannot be killed.
func stuck(pid int) bool {
	all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return slices.ContainsFunc(all, func(file string) bool {
		stat, _ := os.ReadFile(file)
		return strings.Contains(string(stat), ") D ")
	})
}

// TestManyStats asks for the usage of 200 pods at once, five times: all calls are answered by an existing
// process.
func TestManyStats(t *testing.T) {
	s := newSite(t)
	node := s.start("node", "node")
	const volumes, pods = 20, 10
	var seats []*seat
	for i := range volumes {
		a := s.held(node, s.mustCreate(fmt.Sprint("pvc-", i), ""))
		for p := range pods {
			a.must(a.publish(fmt.Sprint("pod-", p), false))
		}
		seats = append(seats, a)
	}
	workers := lab.Descendants(node.PID())
	if len(workers) != 1 {
		t.Fatalf("there are the processes %v", workers)
	}
	before := tripsOf(s)
	start := time.Now()
	var asking sync.WaitGroup
	for range 5 {
		for _, a := range seats {
			for p := range pods {
				asking.Go(func() {
					_, err := a.stats(a.target(fmt.Sprint("pod-", p)))
					wantError(t, err, codes.OK)
				})
			}
		}
	}
	asking.Wait()
	took := time.Since(start)
	trips := tripsOf(s).Since(before)
	t.Logf("5*%d stats took %v and %s", volumes*pods, took, trips)
	if n := trips.Total(); n > 2*5*volumes*pods {
		t.Errorf("they took %d round trips: %s", n, trips)
	}
	if now := lab.Descendants(node.PID()); !slices.Equal(now, workers) {
		t.Errorf("there was the process %v, and is %v", workers, now)
	}
	one := seats[0]
	eventually(t, waitTimeout, "20 stats that start no process and no thread", func() bool {
		f, start, before := forks(t), time.Now(), tripsOf(s)
		for range 20 {
			_, err := one.stats(one.target("pod-0"))
			one.must(err)
		}
		t.Logf("20 stats: %v each, %d forks, %s", time.Since(start)/20, forks(t)-f, tripsOf(s).Since(before))
		return forks(t) == f
	})
	for _, a := range seats {
		for p := range pods {
			a.must(a.unpublish(fmt.Sprint("pod-", p)))
		}
		a.leave()
	}
}

// tripsOf counts the RPCs of the mounts of the site's nodes.
func tripsOf(s *site) lab.Counts {
	s.t.Helper()
	c, err := lab.Count(os.Getpid(), func(_, target string) bool { return strings.HasPrefix(target, s.dir) })
	if err != nil {
		s.t.Fatal(err)
	}
	delete(c.ByKind, "SEQUENCE") // sent periodically
	delete(c.ByKind, "RENEW")
	return c
}

// forks counts the processes and threads that were ever started on this machine.
func forks(t *testing.T) (n int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "\nprocesses ")
	if _, err := fmt.Sscan(after, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStoppedWorker stops the process that queries mounts: another one replaces it.
func TestStoppedWorker(t *testing.T) {
	s := newSite(t)
	a := s.held(s.start("node", "node"), s.mustCreate("pvc-1", ""))
	a.must(a.publish("pod", false))
	before := lab.Descendants(a.node.PID())
	if len(before) != 1 {
		t.Fatalf("there are the processes %v", before)
	}
	a.must(unix.Kill(before[0], unix.SIGSTOP))
	for range 2 {
		_, err := a.stats(a.target("pod"))
		a.must(err)
	}
	eventually(t, waitTimeout, "the stopped one is replaced", func() bool {
		now := lab.Descendants(a.node.PID())
		return len(now) == 1 && now[0] != before[0]
	})
	a.leave("pod")
}
