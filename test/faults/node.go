// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
)

// node is the program under test.
type node struct {
	*lab.Driver
	dir   string
	named int // volumes so far
}

func (n *node) start() (err error) {
	config := "shares:\n" +
		"  - {name: healthy, servers: [" + lab.Server + "], path: " + healthyExport + ", mountOptions: [nfsvers=4.2]}\n" +
		"  - {name: faulty, servers: [" + secondServer + "], path: " + secondExport + ", mountOptions: [nfsvers=4.2]}\n" +
		"  - {name: xfs, servers: [" + secondServer + "], path: /disk-xfs, mountOptions: [nfsvers=4.2]}\n" +
		"  - {name: ext4, servers: [" + secondServer + "], path: /disk-ext4, mountOptions: [nfsvers=4.2]}\n" +
		"  - {name: frozen, servers: [" + lab.Server + "], path: " + frozenExport + ", mountOptions: [nfsvers=4.2]}\n"
	n.Driver, err = lab.Start("node", filepath.Join(n.dir, "node"), config)
	return err
}

// again kills and restarts the program.
func (n *node) again() error {
	if err := n.Kill(); err != nil {
		return err
	}
	return n.start()
}

// volume is a directory of one of the two servers.
type volume struct {
	n                *node
	share, name, dir string
}

// serverDir is the local directory of each share on its server.
var serverDir = map[string]string{
	"healthy": lab.View + healthyExport, "faulty": lab.View + secondExport,
	"xfs": lab.View + "/disk-xfs", "ext4": lab.View + "/disk-ext4", "frozen": lab.View + frozenExport,
}

// volumes makes new volumes on a share, without pods.
func (n *node) volumes(share string, count int) ([]*volume, error) {
	var all []*volume
	for range count {
		n.named++
		v := &volume{n: n, share: share, name: fmt.Sprintf("%s-%d", share, n.named)}
		v.dir = n.path(v.name)
		if err := os.MkdirAll(filepath.Join(serverDir[share], v.name), 0o777); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(v.dir, 0o755); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (v *volume) pod(name string) string { return filepath.Join(v.dir, name) }

// call is one RPC about a volume, with kubelet's deadline.
type call func(ctx context.Context, v *volume) error

func publish(pod string) call {
	return func(ctx context.Context, v *volume) error {
		_, err := v.n.Node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: v.name, TargetPath: v.pod(pod), VolumeCapability: lab.RWX(),
			VolumeContext: map[string]string{"share": v.share, "subDir": v.name},
		})
		return err
	}
}

func unpublish(pod string) call {
	return func(ctx context.Context, v *volume) error {
		_, err := v.n.Node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.name, TargetPath: v.pod(pod)})
		return err
	}
}

func stats(ctx context.Context, v *volume) error {
	_, err := v.n.Node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: v.name, VolumePath: v.pod("pod")})
	return err
}

// health returns the reason of an unhealthy volume as an error if the call itself succeeds.
func health(ctx context.Context, v *volume) error {
	r, err := v.n.Node.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{
		VolumeId: v.name, VolumePublishPath: v.pod("pod"),
	})
	if err != nil {
		return err
	}
	for _, c := range r.GetVolumeHealth().GetHealthStatuses() {
		return reason(c.GetReason())
	}
	return nil
}

// storage is health for the volume's share.
func storage(ctx context.Context, v *volume) error {
	r, err := v.n.Node.NodeGetStorageHealth(ctx, &csi.NodeGetStorageHealthRequest{})
	if err != nil {
		return err
	}
	for _, c := range r.GetBackendHealth() {
		if strings.Contains(c.GetMessage(), "share "+v.share) {
			return reason(c.GetReason())
		}
	}
	return nil
}

// reason is a CamelCase word of the health RPCs.
type reason string

func (r reason) Error() string { return string(r) }

// each calls do for all volumes, one after the other, and stops at an error.
func each(all []*volume, do call) error {
	for _, v := range all {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := do(ctx, v)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	return nil
}

// mounted lists the mounts of a volume, from the mount table only.
func (v *volume) mounted() ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(mountinfo.PrefixFilter(v.dir))
}
