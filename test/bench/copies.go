// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// oneWorker is the suffix of cases in which the controller makes one call at a time.
const oneWorker = ", one worker"

// longDelay is the round trip of a slow network, in milliseconds.
const longDelay = 5

// copying is a tree with its measurements.
type copying struct {
	tree
	operations []string
	delays     []float64
	n          int
}

// copies measures the copying of trees on a server that clones, on one that copies, and on one where the
// client must read and write; and with one worker, for comparison. It omits what adds nothing: 4.1 and
// 4.0, which are like 3; delays with 3; the deep tree with a delay, on ext4 and as a clone, where its files
// cost as much as the 2,000.
//
// longDelay shows how well a copy hides a network's delay: at networkDelay the lab's only CPU, which is
// client, server and driver, is too slow for that. Several directories show it better: in one directory the
// kernel makes one file at a time.
func (b *bench) copies(protocol string) error {
	var (
		all      = []string{"snapshot", "restore", "clone"}
		some     = all[:2]
		restored = all[1:2]
		none     = []float64{0}
		delayed  = []float64{networkDelay}
		long     = []float64{longDelay}
		both     = []float64{0, networkDelay}
	)
	xfs := place{share: "copies", protocol: protocol, disk: "xfs", retention: "0s"}
	if protocol == "3" {
		return b.copiesAt(xfs, copying{largeFile, all, none, 1}, copying{manyFiles, all, none, 1})
	}
	if protocol != "4.2" {
		return nil
	}
	err := b.copiesAt(xfs, copying{largeFile, all, both, 2}, copying{sparseFile, all, both, 2}, copying{manyFiles, all, both, 2},
		copying{spreadFiles, restored, long, 2}, copying{deepTree, some, none, 1})
	if err == nil {
		ext4 := place{share: "copies-ext4", protocol: protocol, disk: "ext4", retention: "0s"}
		err = b.copiesAt(ext4, copying{largeFile, all, both, 2}, copying{sparseFile, all, both, 2}, copying{manyFiles, some, both, 1})
	}
	if err == nil {
		single := place{share: "copies-single", protocol: protocol, disk: "xfs", retention: "0s", flags: []string{"--copy-workers=1"}}
		err = b.copiesAt(single, copying{manyFiles.by(oneWorker), some, delayed, 1}, copying{spreadFiles.by(oneWorker), restored, long, 1})
	}
	return err
}

// by returns the tree with a suffix of its case's name.
func (t tree) by(name string) tree {
	t.name += name
	return t
}

// copiesAt measures the selected copies of trees in one place.
func (b *bench) copiesAt(p place, copyings ...copying) error {
	sources := make([]source, len(copyings))
	wanted := false
	for i, k := range copyings {
		sources[i].copying = k
		wanted = wanted || sources[i].specs(&controller{b: b, place: p}) != nil
	}
	if !wanted {
		return nil
	}
	return b.withController(p, func(c *controller) error {
		return each(len(sources), func(i int) error { return sources[i].measure(c) })
	})
}

// source is a volume with a tree, and a snapshot of it.
type source struct {
	copying
	*controller
	volume   *csi.Volume
	snapshot *csi.Snapshot
}

// specs returns the selected rows.
func (s *source) specs(c *controller) (specs []spec) {
	s.controller = c
	prepare := map[string]func() (func(int) error, func() error, error){
		"snapshot": s.toSnapshot, "restore": s.toRestore, "clone": s.toClone,
	}
	for _, operation := range s.operations {
		r := spec{
			operation: operation, variant: s.name, protocol: c.protocol, disk: c.disk, delays: s.copying.delays,
			parallel: 1, n: s.n, files: s.files, on: c.process, apart: true,
			prepare: func(int) (func(int) error, func() error, error) {
				if err := s.cool(); err != nil {
					return nil, nil, err
				}
				return prepare[operation]()
			},
		}
		if c.b.wanted(r) {
			specs = append(specs, r)
		}
	}
	return specs
}

// measure measures all operations with the tree.
func (s *source) measure(c *controller) (err error) {
	specs := s.specs(c)
	if specs == nil {
		return nil
	}
	if s.volume, err = c.planted(s.tree); err != nil {
		return err
	}
	if s.snapshot, err = c.snap(c.snapshotName(), s.volume); err == nil {
		err = c.b.measure(specs...)
		err = errors.Join(err, c.unsnap(s.snapshot))
	}
	return errors.Join(err, c.remove(s.volume), c.emptied())
}

// planted creates a volume with a tree in it.
func (c *controller) planted(t tree) (*csi.Volume, error) {
	volumes, err := c.volumes(1, nil)
	if err != nil {
		return nil, err
	}
	return volumes[0], t.plant(c.directory(volumes[0]))
}

// cool prepares the state of a controller that has copied before, but not this tree: a new one has nothing
// of the source in its cache, and finds the method of copying with the first file.
func (s *source) cool() error {
	if err := s.restart(); err != nil {
		return err
	}
	volumes, err := s.volumes(1, nil)
	if err != nil {
		return err
	}
	v := volumes[0]
	if err := os.WriteFile(filepath.Join(s.directory(v), "file"), []byte("data"), 0o644); err != nil {
		return err
	}
	snapshot, err := s.snap(s.snapshotName(), v)
	if err != nil {
		return err
	}
	replica, err := s.createFrom(s.request(nil), fromSnapshot(snapshot))
	if err == nil {
		err = s.remove(replica)
	}
	return errors.Join(err, s.unsnap(snapshot), s.remove(v), s.emptied())
}

func (s *source) toSnapshot() (do func(int) error, clean func() error, err error) {
	name := s.snapshotName()
	var made *csi.Snapshot
	return func(int) (err error) {
		made, err = s.snap(name, s.volume)
		return err
	}, func() error { return errors.Join(s.unsnap(made), s.emptied()) }, nil
}

func (s *source) toRestore() (do func(int) error, clean func() error, err error) {
	return s.toCopy(fromSnapshot(s.snapshot))
}

func (s *source) toClone() (do func(int) error, clean func() error, err error) {
	return s.toCopy(&csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: s.volume.GetVolumeId()},
	}})
}

func fromSnapshot(snapshot *csi.Snapshot) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: snapshot.GetSnapshotId()},
	}}
}

// toCopy creates a volume from a source, and then checks and deletes it.
func (s *source) toCopy(from *csi.VolumeContentSource) (do func(int) error, clean func() error, err error) {
	request := s.request(nil)
	request.CapacityRange.RequiredBytes = max(request.CapacityRange.RequiredBytes, s.snapshot.GetSizeBytes())
	var made *csi.Volume
	return func(int) (err error) {
			made, err = s.createFrom(request, from)
			return err
		}, func() error {
			if made == nil {
				return nil
			}
			return errors.Join(same(s.directory(s.volume), s.directory(made)), s.remove(made), s.emptied())
		}, nil
}

func (c *controller) snapshotName() string {
	return fmt.Sprintf("snapshot-%08x-5e7c-4d8a-b0c4-1f8a0f6d9b11", c.b.named.Add(1))
}

// snap makes a snapshot as external-snapshotter does: until it is ready to use.
func (c *controller) snap(name string, of *csi.Volume) (s *csi.Snapshot, err error) {
	err = again(func(ctx context.Context) (bool, error) {
		r, err := c.Controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: of.GetVolumeId()})
		s = r.GetSnapshot()
		return s.GetReadyToUse(), err
	})
	return s, err
}

// unsnap deletes a snapshot if there is one.
func (c *controller) unsnap(s *csi.Snapshot) error {
	if s == nil {
		return nil
	}
	ctx, cancel := call()
	defer cancel()
	_, err := c.Controller.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.GetSnapshotId()})
	return err
}

func (c *controller) createFrom(request *csi.CreateVolumeRequest, from *csi.VolumeContentSource) (v *csi.Volume, err error) {
	request.VolumeContentSource = from
	err = again(func(ctx context.Context) (bool, error) {
		r, err := c.Controller.CreateVolume(ctx, request)
		v = r.GetVolume()
		return true, err
	})
	return v, err
}

// again repeats a call until it succeeds, like the sidecars: after a call that ended with its deadline the
// work continues, and the next one waits for it.
func again(do func(context.Context) (done bool, err error)) error {
	for deadline := time.Now().Add(10 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		ctx, cancel := call()
		done, err := do(ctx)
		cancel()
		code := status.Code(err)
		if code != codes.DeadlineExceeded && code != codes.Aborted && (err != nil || done) {
			return err
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("not done after ten minutes"), err)
		}
	}
}
