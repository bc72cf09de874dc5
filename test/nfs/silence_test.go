// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
)

// TestNodeInSilence cuts the server off while volumes are in use: pods must still come and go, and the
// number of waiting threads and processes must not grow.
func TestNodeInSilence(t *testing.T) {
	pairs := map[string]*pair{}
	for _, version := range []string{"3", "4.2"} {
		pairs[version] = newPair(t, version)
	}
	time.Sleep(expiry)
	over := outage(t, "cut", "heal")
	t.Run("cut", func(t *testing.T) {
		for version, p := range pairs {
			t.Run(version, func(t *testing.T) {
				t.Parallel()
				p.inSilence(t)
			})
		}
	})
	over()
	for _, p := range pairs {
		p.afterwards()
	}
}

// pair is two volumes of a node. The usage of one was queried, and a pod writes to it.
type pair struct {
	*site
	node       *lab.Driver
	used, idle *seat
	size       size
	tenant     *exec.Cmd
}

func newPair(t *testing.T, version string) *pair {
	t.Helper()
	dir := exportDir(t, version)
	s := newSiteAt(t, dir, dir, "mountOptions: [nfsvers="+version+"]")
	p := &pair{site: s, node: s.start("node", "node")}
	p.used = s.held(p.node, s.mustCreate("pvc-used", ""))
	p.idle = s.held(p.node, s.mustCreate("pvc-idle", ""))
	for i, pod := range []string{"pod", "pod-2", "pod-3"} {
		p.used.must(p.used.publish(pod, i == 1))
	}
	p.idle.must(p.idle.publish("pod", false))
	_, err := p.used.stats(p.used.target("pod"))
	p.used.must(err)
	p.used.must(os.WriteFile(p.used.target("pod/data"), []byte("before"), 0o600))
	p.size = sizeOf(t, p.node.PID())
	return p
}

func (p *pair) inSilence(t *testing.T) {
	used, idle := p.used.withT(t), p.idle.withT(t)
	p.tenant = used.writer(used.target("pod/data"))
	used.publishesNot("pod-4")
	idle.publishesNot("pod-4")
	used.askConcurrently(codes.OK)
	idle.askConcurrently(codes.Unavailable)
	used.leaves("pod", "pod-2", "pod-3", "pod-4")
	idle.leaves("pod", "pod-4")
	used.publishesNot(holder)
	used.mounted()
	after := sizeOf(t, p.node.PID())
	t.Logf("the node's process was %+v, is %+v", p.size, after)
	if after.children > p.size.children || after.threads > p.size.threads+16 || after.files > p.size.files+8 || after.kilobytes > p.size.kilobytes+40_000 {
		t.Errorf("the node's process has grown from %+v to %+v", p.size, after)
	}
}

// withT is the seat in another test.
func (a *seat) withT(t *testing.T) *seat {
	b := *a
	b.t = t
	return &b
}

func (p *pair) afterwards() {
	t := p.t
	t.Helper()
	if p.tenant != nil { // not earlier: even killed it waits until its pages are written
		_ = p.tenant.Process.Kill()
		_ = p.tenant.Wait()
	}
	for _, a := range []*seat{p.used, p.idle} {
		eventually(t, waitTimeout, "the volume can be mounted again", func() bool { return a.hold() == nil })
		a.must(a.publish("pod", false))
		_, err := a.stats(a.target("pod"))
		a.must(err)
	}
	if data, err := os.ReadFile(p.used.target("pod/data")); !strings.HasPrefix(string(data), "before") {
		t.Errorf("the volume holds %q (%v)", data, err)
	}
	p.used.leave("pod")
	p.idle.leave("pod")
	p.mustDelete("nas1/pvc-used", "nas1/pvc-idle")
	p.empty()
}

// writer is a pod's process that waits for the server with data that it writes to an open file.
func (a *seat) writer(file string) *exec.Cmd {
	a.t.Helper()
	cmd := exec.Command("sh", "-c", `exec >>"$1"; while echo more; do sleep 0.05; done`, "sh", file)
	a.must(cmd.Start())
	return cmd
}

// mustBeQuick fails the test if an answer takes as long as for a call that waits for the server.
func (a *seat) mustBeQuick(what string, do func() error) error {
	a.t.Helper()
	start := time.Now()
	err := do()
	if took := time.Since(start); took > prompt {
		a.t.Errorf("%s took %v", what, took)
	}
	return err
}

func (a *seat) publishesNot(pod string) {
	a.t.Helper()
	err := a.mustBeQuick("publish", func() error { return a.publish(pod, false) })
	wantCode(a.t, err, codes.Unavailable, a.volume.VolumeId, "does not answer")
}

// leaves unpublishes the volume from all pods.
func (a *seat) leaves(pods ...string) {
	a.t.Helper()
	for _, pod := range pods {
		a.must(a.mustBeQuick("unpublish", func() error { return a.unpublish(pod) }))
		a.must(a.mustBeQuick("unpublish again", func() error { return a.unpublish(pod) }))
		if _, err := os.Lstat(a.target(pod)); !os.IsNotExist(err) {
			a.t.Errorf("the target of %s is still there: %v", pod, err)
		}
	}
	a.must(a.mustBeQuick("the last one", a.release))
	a.mounted()
}

// askConcurrently makes many calls for a volume's usage at once.
func (a *seat) askConcurrently(code codes.Code) {
	a.t.Helper()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_ = a.mustBeQuick("stats", func() error {
				_, err := a.stats(a.target("pod"))
				wantError(a.t, err, code, a.target("pod"), "does not answer")
				return nil
			})
		})
	}
	time.Sleep(time.Second)                                 // more children must not start
	if now := sizeOf(a.t, a.node.PID()); now.children > 2 { // the abandoned worker and the next one
		a.t.Errorf("%d children ask for the usage of one volume", now.children)
	}
	all.Wait()
}

// size is the resources of a process.
type size struct{ threads, children, files, kilobytes int }

func sizeOf(t *testing.T, pid int) size {
	t.Helper()
	var s size
	proc := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch key {
		case "Threads":
			s.threads = n
		case "VmRSS":
			s.kilobytes = n
		}
	}
	s.children = len(lab.Descendants(pid))
	files, _ := os.ReadDir(proc + "/fd")
	s.files = len(files)
	return s
}
