// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// startPod mounts a claim's volume for a new pod on one of the nodes.
func (d *demo) startPod(ctx context.Context, name string, c *claim, n *node) (*pod, error) {
	p := newPod(name, c, n)
	d.pods = append(d.pods, p)
	return p, p.start(ctx)
}

func (d *demo) stopPod(ctx context.Context, p *pod) error {
	d.pods = slices.DeleteFunc(d.pods, func(o *pod) bool { return o == p })
	return p.stop(ctx)
}

func provisionMyPVC(ctx context.Context, d *demo, n *note) error {
	d.myPVC = newClaim("my-pvc", readWriteMany, 5*giB)
	if err := d.provision(ctx, d.myPVC); err != nil {
		return err
	}
	n.add("volume %s", d.myPVC.id)
	return nil
}

func startWriter(ctx context.Context, d *demo, n *note) (err error) {
	if d.writer, err = d.startPod(ctx, "writer", d.myPVC, d.nodes[0]); err != nil {
		return err
	}
	_, err = d.writer.noteMount(n)
	return err
}

// startReader also checks that the other node has a superblock of its own: one kernel plays both nodes, and
// from a common cache it would read data that the server may not have.
func startReader(ctx context.Context, d *demo, n *note) (err error) {
	if d.reader, err = d.startPod(ctx, "reader", d.myPVC, d.nodes[1]); err != nil {
		return err
	}
	first, err := d.writer.mount()
	if err != nil {
		return err
	}
	second, err := d.reader.noteMount(n)
	if err != nil {
		return err
	}
	return expect("the nodes share a cache", false, first.Major == second.Major && first.Minor == second.Minor)
}

func writePage(_ context.Context, d *demo, n *note) error {
	if err := d.writer.write(n, "index.html", page); err != nil {
		return err
	}
	return onServer(d.myPVC, "index.html", page)
}

func readPage(_ context.Context, d *demo, n *note) error {
	return d.reader.read(n, "index.html", page)
}

// stats makes the call that kubelet makes every minute.
func stats(ctx context.Context, d *demo, n *note) error {
	r, err := d.reader.node.Node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: d.myPVC.id, VolumePath: d.reader.volume()})
	if err != nil {
		return fmt.Errorf("NodeGetVolumeStats: %w", err)
	}
	for _, u := range r.GetUsage() {
		if u.GetUnit() == csi.VolumeUsage_BYTES {
			n.add("%s free of %s, which the volumes of a share have in common", gib(u.GetAvailable()), gib(u.GetTotal()))
			return serverAgrees(u.GetTotal(), u.GetAvailable())
		}
	}
	return fmt.Errorf("NodeGetVolumeStats says nothing of bytes")
}

func provisionWeb(ctx context.Context, d *demo, n *note) error {
	for i := range 3 {
		c := newClaim(fmt.Sprintf("www-web-%d", i), readWriteOnce, 1*giB)
		d.web = append(d.web, c)
		took, err := d.counted(&d.createCost, nil, func() error { return d.provision(ctx, c) })
		if err != nil {
			return err
		}
		n.took += took
		n.add("%s", c.directory())
	}
	return look(&note{}, d.claims()...)
}

func webPage(i int) string { return fmt.Sprintf("<h1>This is web-%d</h1>\n", i) }

// startWeb starts the pods on the nodes in turn.
func startWeb(ctx context.Context, d *demo, n *note) error {
	for i, c := range d.web {
		p, err := d.startPod(ctx, fmt.Sprintf("web-%d", i), c, d.nodes[i%2])
		if err != nil {
			return err
		}
		d.webPods = append(d.webPods, p)
		if err := p.write(n, "index.html", webPage(i)); err != nil {
			return err
		}
	}
	for i, c := range d.web {
		if err := onServer(c, "index.html", webPage(i)); err != nil {
			return err
		}
	}
	return nil
}

func deleteWeb1(ctx context.Context, d *demo, n *note) error {
	p := d.webPods[1]
	if err := d.stopPod(ctx, p); err != nil {
		return err
	}
	n.add("nothing of it is mounted on %s any more", p.node.name)
	if err := onServer(p.claim, "index.html", webPage(1)); err != nil {
		return err
	}
	n.add("its page is still on the server")
	return nil
}

func recreateWeb1(ctx context.Context, d *demo, n *note) error {
	p, err := d.startPod(ctx, "web-1", d.web[1], d.nodes[0])
	if err != nil {
		return err
	}
	d.webPods[1] = p
	for i, p := range d.webPods {
		if err := p.read(n, "index.html", webPage(i)); err != nil {
			return err
		}
	}
	return nil
}

func expand(ctx context.Context, d *demo, n *note) error {
	r, err := d.controller.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: d.myPVC.id, CapacityRange: &csi.CapacityRange{RequiredBytes: 8 * giB}, VolumeCapability: d.myPVC.capability(),
	})
	if err != nil {
		return fmt.Errorf("ControllerExpandVolume: %w", err)
	}
	d.myPVC.size = 8 * giB
	if err := expect("the node has something to do for the new size", false, r.GetNodeExpansionRequired()); err != nil {
		return err
	}
	return expect("the new size", gib(d.myPVC.size), gib(r.GetCapacityBytes()))
}

func list(ctx context.Context, d *demo, n *note) error {
	r, err := d.controller.Controller.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil {
		return fmt.Errorf("ListVolumes: %w", err)
	}
	const row = "%-10s  %-4s  %s"
	var want, found []string
	names := map[string]string{}
	for _, c := range d.claims() {
		names[c.id] = c.name
		want = append(want, fmt.Sprintf(row, c.name, gib(c.size), c.id))
	}
	for _, e := range r.GetEntries() {
		id := e.GetVolume().GetVolumeId()
		found = append(found, fmt.Sprintf(row, names[id], gib(e.GetVolume().GetCapacityBytes()), id))
	}
	slices.Sort(want)
	slices.Sort(found)
	n.add(row, "CLAIM", "SIZE", "VOLUME")
	for _, line := range found {
		n.add("%s", line)
	}
	return expect("the list of volumes", strings.Join(want, "\n"), strings.Join(found, "\n"))
}

func deletePods(ctx context.Context, d *demo, n *note) error {
	for _, p := range slices.Clone(d.pods) {
		if err := d.stopPod(ctx, p); err != nil {
			return err
		}
	}
	for _, node := range d.nodes {
		if err := unmounted("mounts on "+node.name+" that are left", node.kubelet); err != nil {
			return err
		}
	}
	n.add("nothing is mounted on the nodes any more")
	return nil
}

func deleteClaims(ctx context.Context, d *demo, n *note) error {
	for _, c := range d.claims() {
		took, err := d.counted(&d.deleteCost, lookIntoTrash, func() error { return d.remove(ctx, c) })
		if err != nil {
			return err
		}
		n.took += took
		n.add("%-15s  %6s", c.name, millis(took))
	}
	return nil
}

func purged(ctx context.Context, d *demo, n *note) error {
	waiting, err := trash()
	if err != nil {
		return err
	}
	n.add("%d deleted volumes and snapshots wait in it, for %v: until then they could be brought back", waiting, retention)
	return untilPurged(ctx)
}

func stopAll(_ context.Context, d *demo, n *note) error {
	for _, p := range d.processes {
		if err := p.stop(); err != nil {
			return err
		}
	}
	mounts, err := lab.Mounts(os.Getpid())
	if err != nil {
		return err
	}
	if err := expect("NFS mounts that are left", 0, mounts-d.mounts); err != nil {
		return err
	}
	n.add("no NFS mount is left")
	return nil
}

func (d *demo) claims() []*claim {
	all := append([]*claim{d.myPVC}, d.web...)
	for _, c := range []*claim{d.restored, d.cloned} {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}
