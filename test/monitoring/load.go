// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// Metrics is the address of the metrics of a Load's driver.
const Metrics = "127.0.0.1:9810"

// config has a share on each of the lab's two servers.
const config = `
shares:
  - {name: nas1, servers: [127.0.0.1], path: /exports/nas1}
  - {name: nas2, servers: [10.77.0.2], path: /second}
`

// Load is a driver and the client that makes calls to it.
type Load struct {
	Driver *lab.Driver
	dir    string
	number atomic.Int64
}

// StartLoad starts a driver with that name, with its state in dir, on both servers of the lab.
func StartLoad(dir, driver string) (*Load, error) {
	if err := lab.Do("second"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll("/exports/nas1", 0o755); err != nil {
		return nil, err
	}
	d, err := lab.Start("all", filepath.Join(dir, "driver"), config, "--metrics-address", Metrics, "--driver-name", driver)
	if err != nil {
		return nil, err
	}
	return &Load{Driver: d, dir: dir}, nil
}

// Create creates a volume on a share.
func (l *Load) Create(ctx context.Context, share string, from *csi.VolumeContentSource) (*csi.Volume, error) {
	r, err := l.Driver.Controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: fmt.Sprintf("pvc-%d", l.number.Add(1)), VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
		Parameters: map[string]string{"share": share}, VolumeContentSource: from,
	})
	if err != nil {
		return nil, err
	}
	return r.GetVolume(), nil
}

// Delete deletes a volume.
func (l *Load) Delete(ctx context.Context, id string) error {
	_, err := l.Driver.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

// Round creates a volume on a share, mounts it, writes files of some KiB to it, makes a snapshot, restores
// that, and deletes all of it.
func (l *Load) Round(ctx context.Context, share string, files int) error {
	v, err := l.Create(ctx, share, nil)
	if err != nil {
		return err
	}
	if err := l.use(ctx, v, files); err != nil {
		return err
	}
	s, err := l.Driver.Controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: fmt.Sprintf("snapshot-%d", l.number.Add(1)), SourceVolumeId: v.GetVolumeId()})
	if err != nil {
		return err
	}
	id := s.GetSnapshot().GetSnapshotId()
	restored, err := l.Create(ctx, share, &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id},
	}})
	if err != nil {
		return err
	}
	_, err = l.Driver.Controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
	return errors.Join(err, l.Delete(ctx, v.GetVolumeId()), l.Delete(ctx, restored.GetVolumeId()))
}

// use mounts a volume as for a pod, writes to it, and unmounts it.
func (l *Load) use(ctx context.Context, v *csi.Volume, files int) error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return err
	}
	node, id, pod := l.Driver.Node, v.GetVolumeId(), filepath.Join(l.dir, "pod")
	_, err := node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, TargetPath: pod, VolumeCapability: lab.RWX(), VolumeContext: v.GetVolumeContext(),
	})
	for i := 0; err == nil && i < files; i++ {
		err = os.WriteFile(filepath.Join(pod, fmt.Sprint("file-", i)), make([]byte, 4096*(1+i%8)), 0o644)
	}
	if err == nil {
		_, err = node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: pod})
	}
	_, unpublish := node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: pod})
	return errors.Join(err, unpublish)
}

// Mistake makes a call that fails because of its request: the share is not registered.
func (l *Load) Mistake(ctx context.Context) error {
	if _, err := l.Create(ctx, "nas9", nil); err == nil {
		return errors.New("a volume was created on a share that does not exist")
	}
	return nil
}

// Stuck deletes a volume of nas1 that cannot be purged until the returned function is called.
func (l *Load) Stuck(ctx context.Context) (release func() error, err error) {
	v, err := l.Create(ctx, "nas1", nil)
	if err != nil {
		return nil, err
	}
	// On the server: nothing can be removed from a directory with the attribute "immutable".
	entries, err := filepath.Glob(lab.View + "/exports/nas1/pvc-*")
	if err != nil || len(entries) == 0 {
		return nil, fmt.Errorf("the server has no directory of the volume: %v", err)
	}
	inside := filepath.Join(entries[len(entries)-1], "kept")
	if err := errors.Join(os.Mkdir(inside, 0o755), os.WriteFile(inside+"/file", nil, 0o644), attribute("+i", inside)); err != nil {
		return nil, err
	}
	return func() error {
		kept, err := filepath.Glob(lab.View + "/exports/nas1/.mooring/trash/*/kept")
		for _, name := range kept {
			err = errors.Join(err, attribute("-i", name))
		}
		return err
	}, l.Delete(ctx, v.GetVolumeId())
}

func attribute(change, name string) error {
	if out, err := exec.Command("chattr", change, name).CombinedOutput(); err != nil {
		return fmt.Errorf("chattr %s %s: %w: %s", change, name, err, out)
	}
	return nil
}
