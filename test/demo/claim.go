// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// class is the parameters of the StorageClass managed-nfs-storage.
var class = map[string]string{"share": share}

// claim is a PersistentVolumeClaim and its volume.
type claim struct {
	namespace, name string
	mode            csi.VolumeCapability_AccessMode_Mode
	size            int64
	source          *csi.VolumeContentSource // its initial content; nil: nothing

	pv      string // name of the PersistentVolume
	id      string // handle of the volume
	context map[string]string
}

// A claim's access modes, as external-provisioner maps them for a driver with SINGLE_NODE_MULTI_WRITER.
const (
	readWriteMany = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	readWriteOnce = csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
)

func newClaim(name string, mode csi.VolumeCapability_AccessMode_Mode, size int64) *claim {
	return &claim{namespace: "default", name: name, mode: mode, size: size, pv: "pvc-" + uuid()}
}

func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)                         // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // version 4 (RFC 9562)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// directory returns the expected name of the volume's directory on the share.
func (c *claim) directory() string { return c.namespace + "-" + c.name + "-" + c.pv }

// onServer returns the local path on the server of a file in the volume.
func (c *claim) onServer(file string) string { return filepath.Join(export, c.directory(), file) }

func (c *claim) capability() *csi.VolumeCapability { return lab.Mode(c.mode) }

// provision makes the volume of a claim, as external-provisioner does, and checks the answer.
func (d *demo) provision(ctx context.Context, c *claim) error {
	parameters := map[string]string{
		"csi.storage.k8s.io/pvc/name":      c.name,
		"csi.storage.k8s.io/pvc/namespace": c.namespace,
		"csi.storage.k8s.io/pv/name":       c.pv,
	}
	for key, value := range class {
		parameters[key] = value
	}
	r, err := d.controller.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: c.pv, Parameters: parameters,
		CapacityRange:      &csi.CapacityRange{RequiredBytes: c.size},
		VolumeCapabilities: []*csi.VolumeCapability{c.capability()}, VolumeContentSource: c.source,
	})
	if err != nil {
		return fmt.Errorf("CreateVolume %s: %w", c.pv, err)
	}
	v := r.GetVolume()
	c.id, c.context = v.GetVolumeId(), v.GetVolumeContext()
	c.context["storage.kubernetes.io/csiProvisionerIdentity"] = "demo"
	if err := expect("the id of the volume for claim "+c.name, share+"/"+c.pv, c.id); err != nil {
		return err
	}
	if err := expect("the directory of the volume for claim "+c.name, c.directory(), c.context["subDir"]); err != nil {
		return err
	}
	return expect("the size of the volume for claim "+c.name, gib(c.size), gib(v.GetCapacityBytes()))
}

// remove deletes a claim's volume, as external-provisioner does.
func (d *demo) remove(ctx context.Context, c *claim) error {
	_, err := d.controller.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: c.id})
	if err != nil {
		return fmt.Errorf("DeleteVolume %s: %w", c.id, err)
	}
	return nil
}

// lookIntoTrash is the operations of the controller's scan of the trash after a deletion. The call does not
// wait for the scan, and the deletion itself uses no operation of these kinds.
var lookIntoTrash = []string{"ACCESS", "GETATTR", "READDIR"}

// counted makes a call and returns its time. It also counts the call's NFS round trips, without those of
// some kinds, and keeps the minimum of several calls in cost.
func (d *demo) counted(cost *int64, without []string, call func() error) (time.Duration, error) {
	before, err := d.asked()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = call()
	took := time.Since(start)
	if err != nil {
		return took, err
	}
	after, err := d.asked()
	asked := after.Since(before)
	for _, kind := range without {
		delete(asked.ByKind, kind)
	}
	if n := asked.Total(); *cost == 0 || n < *cost {
		*cost = n
	}
	return took, err
}

// asked returns the number of the controller's round trips so far. The nodes' mounts are in the same
// table, and do not count.
func (d *demo) asked() (lab.Counts, error) {
	return lab.Count(d.controller.PID(), func(_, target string) bool {
		return strings.HasPrefix(target, d.controller.Dir+"/")
	})
}

const giB = 1 << 30

func gib(bytes int64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(bytes)/giB), ".0") + "Gi"
}
