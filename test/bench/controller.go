// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// place is the environment of a controller.
type place struct {
	share, protocol string
	disk            string   // the exported file system: xfs or ext4
	retention       string   // of the share's trash
	flags           []string // further flags of the program
}

// controller is a running controller with one share.
type controller struct {
	*process
	place
	b           *bench
	export      string // the share's directory
	server      string // the same on the server itself
	config, dir string
	delays      []float64
}

// withController calls do with a warm controller on an export of its own: the share is mounted, and a
// volume was created and deleted.
func (b *bench) withController(p place, do func(*controller) error) (err error) {
	c := &controller{b: b, place: p, delays: []float64{0}}
	if p.protocol == "4.2" {
		c.delays = append(c.delays, networkDelay)
	}
	root := lab.Exports
	if p.disk == "ext4" {
		root = "/ext4"
		if err := lab.Do("export", "ext4"); err != nil {
			return err
		}
	}
	c.export = filepath.Join(root, "bench", p.share+p.protocol)
	c.server = lab.View + c.export
	c.dir = b.path(p.share + p.protocol)
	c.config = lab.Registry(p.share, c.export, "mountOptions: [nfsvers="+p.protocol+"]", "trashRetention: "+p.retention)
	if err := os.MkdirAll(c.server, 0o755); err != nil {
		return err
	}
	if c.process, err = start("controller", c.dir, c.config, p.share, p.flags...); err != nil {
		return err
	}
	volumes, err := c.volumes(1, nil)
	if err == nil {
		err = c.remove(volumes[0])
	}
	if err == nil {
		err = do(c)
	}
	return errors.Join(err, c.Stop())
}

// request is that of external-provisioner for a PVC, with further parameters of its class.
func (c *controller) request(parameters map[string]string) *csi.CreateVolumeRequest {
	number := c.b.named.Add(1)
	name := fmt.Sprintf("pvc-%08x-8f0e-4c57-9c1b-25dcb17f1a6e", number)
	r := &csi.CreateVolumeRequest{
		Name:               name,
		CapacityRange:      &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
		Parameters: map[string]string{
			"share":                            c.share,
			"csi.storage.k8s.io/pvc/name":      fmt.Sprintf("data-%d", number),
			"csi.storage.k8s.io/pvc/namespace": "default",
			"csi.storage.k8s.io/pv/name":       name,
		},
	}
	maps.Copy(r.Parameters, parameters)
	return r
}

func (c *controller) create(r *csi.CreateVolumeRequest) (*csi.Volume, error) {
	ctx, cancel := call()
	defer cancel()
	answer, err := c.Controller.CreateVolume(ctx, r)
	return answer.GetVolume(), err
}

func (c *controller) remove(v *csi.Volume) error {
	ctx, cancel := call()
	defer cancel()
	_, err := c.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.GetVolumeId()})
	return err
}

// restart replaces the controller by a new one, which mounts the share.
func (c *controller) restart() error {
	if err := c.Stop(); err != nil {
		return err
	}
	p, err := start("controller", c.dir, c.config, c.share, c.flags...)
	if err != nil {
		return err
	}
	*c.process = *p
	ctx, cancel := call()
	defer cancel()
	_, err = c.Controller.GetCapacity(ctx, &csi.GetCapacityRequest{})
	return err
}

// emptied waits until the trash is empty.
func (c *controller) emptied() error {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(c.server, ".mooring", "trash")) // on the server itself
		if err != nil || len(left) == 0 {
			return err
		}
	}
	return errors.New("the trash is not empty after two minutes")
}

// volumes creates volumes without measuring them.
func (c *controller) volumes(n int, parameters map[string]string) ([]*csi.Volume, error) {
	volumes := make([]*csi.Volume, n)
	_, err := repeat(n, 10, func(i int) (err error) {
		volumes[i], err = c.create(c.request(parameters))
		return err
	})
	return volumes, err
}
