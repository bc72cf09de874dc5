// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
)

// preparation is a spec's prepare without a cleanup.
type preparation func(n int) (func(i int) error, error)

// rows returns the rows of a controller's volumes.
type rows struct{ *controller }

// spec returns the spec of a row of this controller.
func (c rows) spec(operation, variant string, parallel, n int, prepare preparation) spec {
	return spec{
		operation: operation, variant: variant, protocol: c.protocol, disk: c.disk, delays: c.delays, parallel: parallel, n: n, on: c.process,
		prepare: func(n int) (func(int) error, func() error, error) {
			do, err := prepare(n)
			return do, nil, err
		},
	}
}

// creating prepares calls of CreateVolume; change, if not nil, changes each request before.
func (c rows) creating(parameters map[string]string, change func(*csi.CreateVolumeRequest) error) preparation {
	return func(n int) (func(int) error, error) {
		requests := make([]*csi.CreateVolumeRequest, n)
		for i := range requests {
			requests[i] = c.request(parameters)
			if change == nil {
				continue
			}
			if err := change(requests[i]); err != nil {
				return nil, err
			}
		}
		return func(i int) error { _, err := c.create(requests[i]); return err }, nil
	}
}

// nested is the parameters of a class with a directory for each namespace.
var nested = map[string]string{"subDir": "${pvc.metadata.namespace}/${pvc.metadata.name}"}

// creates returns the rows of CreateVolume.
func (c rows) creates() []spec {
	serial := c.spec("create", "plain", 1, 100, c.creating(nil, nil))
	if c.protocol != "4.2" {
		return []spec{serial}
	}
	owned := map[string]string{"uid": "1000", "gid": "1000", "mountPermissions": "0770"}
	return []spec{
		serial,
		c.spec("create", "plain", 10, 100, c.creating(nil, nil)),
		c.spec("create", "subDir in a namespace that is there", 1, 50, func(n int) (func(int) error, error) {
			if _, err := c.volumes(1, nested); err != nil {
				return nil, err
			}
			return c.creating(nested, nil)(n)
		}),
		c.spec("create", "subDir in a new namespace", 1, 50, c.creating(nested, newNamespace)),
		c.spec("create", "uid, gid, mountPermissions", 1, 50, c.creating(owned, nil)),
		c.spec("create", "again: it is there", 1, 50, c.creating(nil, func(r *csi.CreateVolumeRequest) error {
			_, err := c.create(r)
			return err
		})),
	}
}

// newNamespace puts a PVC into a namespace of its own.
func newNamespace(r *csi.CreateVolumeRequest) error {
	r.Parameters["csi.storage.k8s.io/pvc/namespace"] = r.GetName()
	return nil
}

// deletes returns the rows of DeleteVolume. After each answer the purger scans the trash, where nothing is
// due. The cost of that is a row of its own, "trash-look"; it cannot be separated when volumes are deleted
// in parallel.
func (c rows) deletes() []spec {
	row := func(variant string, n int, prepare func(n int) ([]*csi.Volume, error)) spec {
		s := c.spec("delete", variant, 1, n, func(n int) (func(int) error, error) {
			volumes, err := prepare(n)
			return func(i int) error { return c.remove(volumes[i]) }, err
		})
		s.each = true
		return s
	}
	filled := func(dirs, files int) func(int) ([]*csi.Volume, error) {
		return func(n int) ([]*csi.Volume, error) { return c.filled(n, dirs, files) }
	}
	empty := row("empty", 30, filled(0, 0))
	empty.rest = "trash-look"
	if c.protocol != "4.2" {
		return []spec{empty}
	}
	parallel := row("empty, with looks at the trash", 100, filled(0, 0))
	parallel.parallel, parallel.each = 10, false
	return []spec{
		empty,
		row("1 file", 20, filled(1, 1)),
		row("10,000 files", 6, filled(treeDirectories, treeFiles)),
		row("controller restarted since", 20, func(n int) ([]*csi.Volume, error) {
			volumes, err := c.volumes(n, nil)
			return volumes, errors.Join(err, c.restart())
		}),
		row("controller restarted since, directories in it", 10, func(n int) ([]*csi.Volume, error) {
			volumes, err := c.filled(n, 2, 1)
			return volumes, errors.Join(err, c.restart())
		}),
		row("the last of its namespace", 15, func(n int) ([]*csi.Volume, error) {
			volumes := make([]*csi.Volume, n)
			return volumes, each(n, func(i int) (err error) {
				r := c.request(nested)
				_ = newNamespace(r)
				volumes[i], err = c.create(r)
				return err
			})
		}),
		parallel,
	}
}

// purge returns the row of the removal of a deleted volume's tree: from the call of DeleteVolume, with its
// few round trips, until the trash is empty.
func (c rows) purge() spec {
	return c.spec("purge", "10,000 files in 100 directories", 1, 2, func(n int) (func(int) error, error) {
		volumes, err := c.filled(n, treeDirectories, treeFiles)
		return func(i int) error {
			if err := c.remove(volumes[i]); err != nil {
				return err
			}
			return c.emptied()
		}, err
	})
}

// A tree of 10,000 files, and the number of its entries.
const (
	treeDirectories = 100
	treeFiles       = 100 // in each
	treeEntries     = 1 + treeDirectories + treeDirectories*treeFiles
)

// directory returns a volume's directory, on the server itself.
func (c *controller) directory(v *csi.Volume) string {
	return filepath.Join(c.server, v.GetVolumeContext()["subDir"])
}

// filled creates volumes with a tree in each, without measuring them.
func (c *controller) filled(n, dirs, files int) ([]*csi.Volume, error) {
	volumes, err := c.volumes(n, nil)
	for _, v := range volumes {
		if err == nil {
			err = fill(c.directory(v), dirs, files)
		}
	}
	return volumes, err
}

// fill makes a tree on the server itself: dirs directories with files files in each; the files of a single
// directory are in that of the volume.
func fill(directory string, dirs, files int) error {
	for d := range dirs {
		sub := directory
		if dirs > 1 {
			sub = filepath.Join(directory, fmt.Sprintf("directory-%d", d))
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
		}
		for f := range files {
			if err := unix.Mknod(filepath.Join(sub, fmt.Sprintf("file-%d", f)), unix.S_IFREG|0o644, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// others returns the rows of calls that query a volume or change its record.
func (c rows) others() []spec {
	row := func(operation string, do func(*csi.Volume) error) spec {
		return c.spec(operation, "", 1, 50, func(n int) (func(int) error, error) {
			volumes, err := c.volumes(n, nil)
			return func(i int) error { return do(volumes[i]) }, err
		})
	}
	specs := []spec{
		row("get", func(v *csi.Volume) error {
			ctx, cancel := call()
			defer cancel()
			_, err := c.Controller.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: v.GetVolumeId()})
			return err
		}),
		row("expand", func(v *csi.Volume) error {
			ctx, cancel := call()
			defer cancel()
			_, err := c.Controller.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
				VolumeId: v.GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30},
			})
			return err
		}),
	}
	if c.protocol != "4.2" {
		return nil
	}
	return specs
}

// measureLists measures ListVolumes with 100 and with 1,000 volumes on the only share: the first call of a
// process, which has nothing in its cache, and further ones.
func (c rows) measureLists() error {
	have := 0
	for _, want := range []int{100, 1000} {
		if _, err := c.volumes(want-have, nil); err != nil {
			return err
		}
		have = want
		list := func(int) error { return c.list(want) }
		err := c.b.measure(
			c.spec("list", fmt.Sprintf("%d volumes, first", want), 1, 1, func(int) (func(int) error, error) { return list, c.restart() }),
			c.spec("list", fmt.Sprintf("%d volumes, again", want), 1, 3, func(int) (func(int) error, error) { return list, list(0) }),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// list lists all volumes, and counts them.
func (c *controller) list(want int) error {
	ctx, cancel := call()
	defer cancel()
	r, err := c.Controller.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err == nil && len(r.GetEntries()) != want {
		err = fmt.Errorf("%d of %d volumes are listed", len(r.GetEntries()), want)
	}
	return err
}
