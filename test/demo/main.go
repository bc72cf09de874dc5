// SPDX-License-Identifier: Apache-2.0

// Command demo shows a volume's life from beginning to end, with the real program and a real NFS server,
// and checks everything that it shows. "make demo" runs it in the lab.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// The NFS export of the demo, and the name of its share.
const (
	export = lab.Exports + "/kubernetes"
	share  = "nas1"
)

// callTimeout is the timeout of the walk's calls, and cleanupWithin that of the cleanup after one of them.
const (
	callTimeout   = 90 * time.Second
	cleanupWithin = 60 * time.Second
)

const intro = `What runs in Kubernetes runs in pods, which come and go: what they store has to
outlive them. Mooring makes a directory on an NFS server for each claim of
storage, mounts it on the machines (nodes) where the claim's pods run, and
removes it when the claim is deleted. Here it runs for real, once as controller
and twice as node, beside a real NFS server. The demo plays Kubernetes and the
pods: it makes the calls that Kubernetes makes (CSI, the container storage
interface), and checks on the server and the nodes what came of each.`

func main() {
	if os.Getenv("MOORING_LAB") == "" {
		fmt.Fprintln(os.Stderr, "demo: this makes an NFS export and mounts it, and is for the lab alone: run it by make demo")
		os.Exit(2)
	}
	// In the lab standard output is always a terminal, that of the guest: the Makefile checks that of the
	// caller, and sets FORCE_COLOR.
	s := &screen{out: os.Stdout, colour: os.Getenv("FORCE_COLOR") != "" && os.Getenv("NO_COLOR") == ""}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	ok := run(ctx, s)
	cancel()
	stop()
	if !ok {
		os.Exit(1)
	}
}

// run shows the walk and reports whether everything was as expected. It leaves no process and no mount of
// the demo.
func run(ctx context.Context, s *screen) bool {
	// If a server does not answer, a pod's read does not end, and neither does the walk.
	defer time.AfterFunc(callTimeout+cleanupWithin, func() {
		s.failure(fmt.Errorf("step %d does not end", s.number))
		os.Exit(1)
	}).Stop()
	boot := bootTime()
	start := time.Now().Add(-boot)
	s.intro("Mooring: the life of a volume", intro)
	root, err := os.MkdirTemp("", "mooring-demo")
	if err != nil {
		s.failure(err)
		return false
	}
	d := &demo{root: root, boot: boot}
	defer d.cleanup()
	for _, part := range walk {
		s.section(part.title)
		for _, step := range part.steps {
			if err := s.step(step.title, func(n *note) error { return step.do(ctx, d, n) }); err != nil {
				s.failure(err)
				s.logs(d.processes)
				s.summary(false, fmt.Sprintf("Step %d failed, %s after the start.", s.number, seconds(start)))
				return false
			}
		}
	}
	s.summary(true, fmt.Sprintf("All as it should be: %d steps in %s. NFS round trips: CreateVolume %d, DeleteVolume %d.",
		s.number, seconds(start), d.createCost, d.deleteCost))
	return true
}

func seconds(start time.Time) string { return fmt.Sprintf("%.1f s", time.Since(start).Seconds()) }

// process is the program in a role.
type process struct {
	*lab.Driver
	name  string
	ended bool
}

// launch starts the program with its files in a directory of that name.
func (d *demo) launch(role, name, registry string, args ...string) (*process, error) {
	driver, err := lab.Start(role, filepath.Join(d.root, name), registry, args...)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{Driver: driver, name: name}
	d.processes = append(d.processes, p)
	return p, nil
}

func (p *process) stop() error {
	p.ended = true
	if err := p.Stop(); err != nil {
		return fmt.Errorf("%s did not end well: %w", p.name, err)
	}
	return nil
}

// cleanup ends the processes and mounts of a failed walk.
func (d *demo) cleanup() {
	for _, p := range d.processes {
		if !p.ended {
			_ = p.stop()
		}
	}
	mounts, err := mountsBeneath(d.root)
	for _, m := range mounts {
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if left, again := mountsBeneath(d.root); err != nil || again != nil || len(left) > 0 {
		return // a removal under a mount would remove files on the server
	}
	_ = os.RemoveAll(d.root)
}
