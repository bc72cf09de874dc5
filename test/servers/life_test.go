// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// kept keeps a deleted volume in the trash.
var kept = map[string]string{"trashRetention": "1h"}

// life takes a volume from its creation to its purge.
func life(s *site) {
	first := s.create(request("first", kept, nil)) // initializes the share
	if first == nil {
		return
	}
	s.delete(first)
	s.out.Create, s.out.Delete = cost(s)
	if s.out.Create == 0 {
		return
	}
	v := s.create(request("one", kept, nil))
	if v == nil {
		return
	}
	s.pod("write", v, lab.RWX(), func(dir string) error {
		return errors.Join(os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.WriteFile(filepath.Join(dir, "a/b/file"), []byte("precious"), 0o644))
	})
	s.pod("read", v, lab.RWX(), holds)
	snap := s.snapshot("snap", v)
	if snap != nil {
		s.fromSnapshot(snap)
	}
	cloned := s.create(request("cloned", nil, fromVolume(v.VolumeId)))
	s.pod("read the clone", cloned, lab.RWX(), holds)
	grown, err := s.Controller.ControllerExpandVolume(s.soon(), &csi.ControllerExpandVolumeRequest{VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30}})
	if err == nil && grown.CapacityBytes != 2<<30 {
		err = fmt.Errorf("it has %d bytes", grown.CapacityBytes)
	}
	s.broken("expand", err)
	s.delete(cloned)
	s.delete(v)
	s.trash(v)
	s.deleteSnapshot(snap)
}

// cost returns the round trips of a volume's creation, and of its deletion.
func cost(s *site) (create, remove int64) {
	var v *csi.Volume
	create = s.trips(func() { v = s.create(request("plain", kept, nil)) })
	if v == nil {
		return 0, 0
	}
	remove = s.trips(func() { s.delete(v) })
	return create, remove
}

func (s *site) trips(do func()) int64 {
	before, err := lab.Count(s.PID(), lab.All)
	s.broken("count", err)
	do()
	after, err := lab.Count(s.PID(), lab.All)
	s.broken("count", err)
	return after.Since(before).Total()
}

// holds checks that a volume has what life wrote.
func holds(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "a/b/file"))
	if err == nil && string(data) != "precious" {
		err = fmt.Errorf("it holds %q", data)
	}
	return err
}

// fromSnapshot makes a volume from a snapshot, and one that is the snapshot itself.
func (s *site) fromSnapshot(snap *csi.Snapshot) {
	restored := s.create(request("restored", nil, fromSnapshot(snap.SnapshotId)))
	s.pod("read what was restored", restored, lab.RWX(), holds)
	s.delete(restored)
	readers := lab.Mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
	r := request("shallow", map[string]string{"restore": "shallow"}, fromSnapshot(snap.SnapshotId))
	r.VolumeCapabilities = []*csi.VolumeCapability{readers}
	shallow := s.create(r)
	s.pod("read the snapshot itself", shallow, readers, func(dir string) error {
		err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600)
		if errors.Is(err, syscall.EROFS) {
			return holds(dir)
		}
		return fmt.Errorf("writing to a snapshot: %w", err)
	})
	s.delete(shallow)
}

// trash restores a deleted volume, deletes it again, and purges it.
func (s *site) trash(v *csi.Volume) {
	var listed []struct{ Handle, State string }
	out, said, err := mooringctl(s.file, "trash", "list", "-o", "json")
	err = errors.Join(err, json.Unmarshal(out, &listed))
	if s.broken("trash list: "+said, err) {
		return
	}
	found := false
	for _, row := range listed {
		found = found || row.Handle == v.VolumeId && row.State == "whole"
	}
	if !found {
		s.broken("trash list", fmt.Errorf("%s is not whole in it: %s", v.VolumeId, out))
	}
	_, said, err = mooringctl(s.file, "trash", "restore", v.VolumeId)
	if s.broken("trash restore: "+said, err) {
		return
	}
	s.pod("read what is back", v, lab.RWX(), holds)
	s.delete(v)
	_, said, err = mooringctl(s.file, "trash", "purge", "--yes", "--all")
	s.broken("trash purge: "+said, err)
}
