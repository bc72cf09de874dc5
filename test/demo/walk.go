// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// retention is that of the share's deleted volumes.
const retention = 1 * time.Second

// page is the content that the first pod writes.
const page = "<h1>Hello from NFS</h1>\n"

// demo is what the walk has made so far.
type demo struct {
	root       string
	boot       time.Duration // of the lab; 0: none
	mounts     int           // NFS mounts before the demo
	processes  []*process    // all started ones
	controller *process
	nodes      [2]*node

	myPVC            *claim
	restored, cloned *claim
	snapshot         string   // its id
	web              []*claim // of the StatefulSet, by number of the pod

	pods           []*pod // running ones
	writer, reader *pod
	webPods        []*pod // by number

	createCost, deleteCost int64 // round trips
}

type step struct {
	title string
	do    func(context.Context, *demo, *note) error
}

// walk is all steps in order.
var walk = []struct {
	title string
	steps []step
}{
	{"A controller and two nodes", []step{
		{"boot the lab: Linux with an NFS server", bootLab},
		{"start the controller, with one NFS export registered", startController},
		{"start the program on two nodes", startNodes},
		{"query the free space", space},
	}},
	{"A volume for many pods: claim my-pvc (ReadWriteMany, 5Gi)", []step{
		{"provision my-pvc", provisionMyPVC},
		{"check the server", func(_ context.Context, d *demo, n *note) error { return look(n, d.myPVC) }},
		{"start pod writer on node-1, with my-pvc", startWriter},
		{"start pod reader on node-2, with my-pvc", startReader},
		{"writer writes index.html on one node", writePage},
		{"reader reads it on the other", readPage},
		{"ask node-2 how full the volume is", stats},
	}},
	{"A StatefulSet with a volume for each pod: www-web-0..2 (ReadWriteOnce, 1Gi)", []step{
		{"provision the three claims", provisionWeb},
		{"start pods web-0 to web-2: each writes a page of its own", startWeb},
		{"delete pod web-1", deleteWeb1},
		{"create web-1 again, on the other node: it finds its page", recreateWeb1},
	}},
	{"A larger size, and the list of all volumes", []step{
		{"expand my-pvc from 5Gi to 8Gi", expand},
		{"list all volumes", list},
	}},
	{"A snapshot and its use", []step{
		{"writer keeps a database in my-pvc", fillDatabase},
		{"take a snapshot of my-pvc", snapshotMyPVC},
		{"writer destroys everything", spoil},
		{"provision my-pvc-restored from the snapshot", restore},
		{"start pod rescuer with it: everything is as before", readRestored},
		{"provision my-pvc-clone, a clone of that", clone},
		{"delete the snapshot", deleteSnapshot},
	}},
	{"The end: everything is deleted", []step{
		{"delete all pods", deletePods},
		{"delete all claims", deleteClaims},
		{"check the server", func(_ context.Context, _ *demo, n *note) error { return look(n) }},
		{"wait until the trash is purged", purged},
		{"stop controller and nodes", stopAll},
	}},
}

// bootLab shows the boot of the lab.
func bootLab(ctx context.Context, d *demo, n *note) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", lab.Server+":2049")
	if err != nil {
		return fmt.Errorf("the lab's NFS server: %w", err)
	}
	_ = conn.Close()
	if d.mounts, err = lab.Mounts(os.Getpid()); err != nil {
		return err
	}
	how := "User-Mode Linux, a kernel that is a process"
	if n.took = d.boot; d.boot == 0 {
		how = "this machine's own kernel: nothing to boot"
	}
	n.add("Linux %s (%s)", unix.ByteSliceToString(name.Release[:]), how)
	return nil
}

// bootTime returns the time since the boot of the lab's kernel; 0 for the machine's own kernel.
func bootTime() time.Duration {
	var up unix.Timespec
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	if !strings.Contains(string(cpu), "User Mode Linux") || unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return 0
	}
	return time.Duration(up.Nano())
}

func startController(_ context.Context, d *demo, n *note) error {
	// Linux 7.2 loses times that a program has set ("touch -d") when it returns a delegation of NFS 4.2.
	// The demo compares such times.
	if err := os.WriteFile("/proc/sys/fs/leases-enable", []byte("0"), 0); err != nil {
		return err
	}
	if err := os.Mkdir(export, 0o755); err != nil {
		return err
	}
	registry := lab.Registry(share, export, "trashRetention: "+retention.String())
	c, err := d.launch("controller", "controller", registry)
	if err != nil {
		return err
	}
	d.controller = c
	n.add("share %s is %s:%s", share, lab.Server, export)
	return nil
}

func startNodes(ctx context.Context, d *demo, n *note) error {
	for i := range d.nodes {
		name := fmt.Sprintf("node-%d", i+1)
		// Two nodes are two machines. Here they are one kernel, which would use one cache for both.
		registry := lab.Registry(share, export, "mountOptions: [nosharecache]")
		p, err := d.launch("node", name, registry, "--node-id", name)
		if err != nil {
			return err
		}
		d.nodes[i] = &node{process: p, kubelet: filepath.Join(d.root, name, "kubelet")}
		info, err := p.Node.NodeGetInfo(ctx, &csi.NodeGetInfoRequest{})
		if err != nil {
			return fmt.Errorf("NodeGetInfo: %w", err)
		}
		if err := expect("the node's id", name, info.GetNodeId()); err != nil {
			return err
		}
	}
	n.add("each has a socket, a state directory and a /var/lib/kubelet of its own")
	return nil
}

func space(ctx context.Context, d *demo, n *note) error {
	r, err := d.controller.Controller.GetCapacity(ctx, &csi.GetCapacityRequest{Parameters: class})
	if err != nil {
		return fmt.Errorf("GetCapacity: %w", err)
	}
	total, free := r.GetMaximumVolumeSize().GetValue(), r.GetAvailableCapacity()
	n.add("%s free of %s", gib(free), gib(total))
	return serverAgrees(total, free)
}
