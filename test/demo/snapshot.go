// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// A pod's file in my-pvc: not small, with an owner and a time of its own.
const (
	database     = "orders.db"
	databaseSize = 256 << 20
	databaseUser = 999
)

// databaseTime is its modification time.
var databaseTime = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

// spoilt is the damaged content of the page.
const spoilt = "<h1>404</h1>\n"

// fillDatabase writes the file that the snapshot keeps.
func fillDatabase(_ context.Context, d *demo, n *note) error {
	path := filepath.Join(d.writer.volume(), database)
	block := []byte(strings.Repeat("42 anchors, 7 buoys, 1 quay\n", 1<<20/28+1))[:1<<20]
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for range databaseSize / len(block) {
		if _, err := f.Write(block); err != nil {
			_ = f.Close()
			return err
		}
	}
	err = errors.Join(f.Close(), os.Chmod(path, 0o640), os.Chown(path, databaseUser, databaseUser), os.Chtimes(path, databaseTime, databaseTime))
	n.add("%s: 256Mi, mode 0640, owner %d, last written %s", database, databaseUser, databaseTime.Format(time.RFC3339))
	return err
}

func snapshotMyPVC(ctx context.Context, d *demo, n *note) error {
	before, err := d.asked()
	if err != nil {
		return err
	}
	r, err := d.controller.Controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "snapshot-" + uuid(), SourceVolumeId: d.myPVC.id})
	if err != nil {
		return fmt.Errorf("CreateSnapshot: %w", err)
	}
	after, err := d.asked()
	if err != nil {
		return err
	}
	s := r.GetSnapshot()
	d.snapshot = s.GetSnapshotId()
	n.add("snapshot %s", d.snapshot)
	n.add("the server shared the blocks: %d NFS round trips, %d bytes through the controller", after.Since(before).Total(), after.Since(before).Bytes)
	if err := expect("the snapshot is ready", true, s.GetReadyToUse()); err != nil {
		return err
	}
	if moved := after.Since(before).Bytes; moved > 1<<20 {
		return expect("bytes that went through the controller", int64(0), moved)
	}
	return expect("what the snapshot is of", d.myPVC.id, s.GetSourceVolumeId())
}

// spoil damages the pod's data.
func spoil(_ context.Context, d *demo, n *note) error {
	if err := os.Remove(filepath.Join(d.writer.volume(), database)); err != nil {
		return err
	}
	n.add("%s on %s removes  %s", d.writer.name, d.writer.node.name, database)
	if err := d.writer.write(n, "index.html", spoilt); err != nil {
		return err
	}
	return onServer(d.myPVC, "index.html", spoilt)
}

func restore(ctx context.Context, d *demo, n *note) error {
	d.restored = newClaim("my-pvc-restored", readWriteMany, 8*giB)
	d.restored.source = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: d.snapshot},
	}}
	if err := d.provision(ctx, d.restored); err != nil {
		return err
	}
	n.add("volume %s", d.restored.id)
	return nil
}

// readRestored checks content, mode, owner and time of the restored files in a pod.
func readRestored(ctx context.Context, d *demo, n *note) error {
	p, err := d.startPod(ctx, "rescuer", d.restored, d.nodes[1])
	if err != nil {
		return err
	}
	if err := p.read(n, "index.html", page); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(p.volume(), database))
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	found := fmt.Sprintf("%dMi, mode %04o, owner %d, last written %s", info.Size()>>20, info.Mode().Perm(), owner, info.ModTime().UTC().Format(time.RFC3339Nano))
	n.add("%s: %s", database, found)
	return expect("the restored "+database, fmt.Sprintf("256Mi, mode 0640, owner %d, last written %s", databaseUser, databaseTime.Format(time.RFC3339Nano)), found)
}

func clone(ctx context.Context, d *demo, n *note) error {
	d.cloned = newClaim("my-pvc-clone", readWriteMany, 8*giB)
	d.cloned.source = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: d.restored.id},
	}}
	if err := d.provision(ctx, d.cloned); err != nil {
		return err
	}
	n.add("volume %s", d.cloned.id)
	return onServer(d.cloned, "index.html", page)
}

func deleteSnapshot(ctx context.Context, d *demo, n *note) error {
	_, err := d.controller.Controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: d.snapshot})
	if err != nil {
		return fmt.Errorf("DeleteSnapshot: %w", err)
	}
	_, err = os.Stat(filepath.Join(export, stateDir, "snapshots", filepath.Base(d.snapshot)))
	if err := expect("the snapshot is gone from its place", true, errors.Is(err, fs.ErrNotExist)); err != nil {
		return err
	}
	n.add("what was restored from it stays")
	return onServer(d.restored, "index.html", page)
}
