// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc/codes"
)

// TestOnDelete deletes volumes with each onDelete, twice each, like a retry.
func TestOnDelete(t *testing.T) {
	for _, c := range []struct {
		name, onDelete, dir string
		there               []string // files before
		left                []string // files afterwards, besides those
	}{
		{"delete", "delete", "dir", nil, nil},
		{"the default", "", "dir", nil, nil},
		{"delete, nested", "delete", "a/b/c", nil, nil},
		{"delete, nested in what was there", "delete", "a/b/c", []string{"a/data"}, []string{"a"}},
		{"retain", "retain", "dir", nil, []string{"dir", "dir/data"}},
		{"retain, nested", "Retain", "a/b", nil, []string{"a", "a/b", "a/b/data"}},
		{"archive", "archive", "dir", nil, []string{"archived-dir", "archived-dir/data"}},
		{"archive, nested", "archive", "a/b", nil, []string{"a", "a/archived-b", "a/archived-b/data"}},
		{"archive, taken by a directory", "archive", "dir", []string{"archived-dir/old"}, []string{"archived-dir", "archived-dirSUFFIX", "archived-dirSUFFIX/data"}},
		{"archive, taken by a file", "archive", "dir", []string{"archived-dir"}, []string{"archived-dirSUFFIX", "archived-dirSUFFIX/data"}},
		{"archive, taken twice", "archive", "dir", []string{"archived-dir/old", "archived-dirSUFFIX/old"},
			[]string{"archived-dir", "archived-dirSUFFIX", "archived-dirSUFFIX-2", "archived-dirSUFFIX-2/data"}},
		{"archive, a long name", "archive", strings.Repeat("x", 255), nil,
			[]string{"archived-" + strings.Repeat("x", 229) + "-NONCE", "archived-" + strings.Repeat("x", 229) + "-NONCE/data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			for _, name := range c.there {
				if !strings.Contains(name, "SUFFIX") {
					write(t, s.at(name), "from before")
				}
			}
			v := s.mustCreate("pvc-1", c.dir, "onDelete", c.onDelete)
			suffix := "-" + recordOf(s, "pvc-1").Nonce[:8]
			for _, name := range c.there {
				if strings.Contains(name, "SUFFIX") {
					write(t, s.at(strings.Replace(name, "SUFFIX", suffix, 1)), "from before")
				}
			}
			write(t, s.at(c.dir, "data"), "data")
			s.mustDelete(v.VolumeId, v.VolumeId)
			s.restart()
			s.mustDelete(v.VolumeId)
			s.empty(trashNames(s, append(c.there, c.left...), suffix)...)
			_, err := s.controller().ControllerGetVolume(soon(t), &csi.ControllerGetVolumeRequest{VolumeId: v.VolumeId})
			wantCode(t, err, codes.NotFound, "there is no volume pvc-1")
		})
	}
}

// recordOf reads the record of a volume on the server.
func recordOf(s *site, key string) *volume.Record {
	s.t.Helper()
	data, err := os.ReadFile(s.at(".mooring/volumes", key, "record.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := volume.DecodeRecord(key, data)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// trashNames replaces nonces in the names of the trash.
func trashNames(s *site, names []string, suffix string) []string {
	s.t.Helper()
	var filled []string
	for _, name := range names {
		name = strings.Replace(name, "SUFFIX", suffix, 1)
		if head, tail, ok := strings.Cut(name, "NONCE"); ok {
			entries, _ := os.ReadDir(s.export)
			for _, e := range entries {
				if strings.HasPrefix(e.Name(), head) {
					name = e.Name() + tail
				}
			}
		}
		filled = append(filled, name)
	}
	return filled
}

// TestArchivesOfAVolume archives volumes of one directory one after the other.
func TestArchivesOfAVolume(t *testing.T) {
	s := newSite(t)
	for i := range 3 {
		v := s.mustCreate(fmt.Sprintf("pvc-%d", i), "dir", "onDelete", "archive")
		write(t, s.at("dir/data"), fmt.Sprint(i))
		s.mustDelete(v.VolumeId)
	}
	found := map[string]bool{}
	for name := range tree(t, s.export) {
		if strings.HasPrefix(name, "archived-dir") && strings.HasSuffix(name, "/data") {
			data, err := os.ReadFile(s.at(name))
			if err != nil {
				t.Fatal(err)
			}
			found[string(data)] = true
		}
	}
	if len(found) != 3 {
		t.Errorf("the archives are of %v", found)
	}
}

// TestParents checks that volumes share parents, which exist as long as a volume needs them and can be
// used again. Package share tests when they are removed: some time later.
func TestParents(t *testing.T) {
	s := newSite(t)
	mkdir(t, s.at("kept"))
	dirs := []string{"kept/a", "kept/b/c", "team/a", "team/b", "team/deep/er/c"}
	for range 2 {
		for _, dir := range dirs {
			s.mustCreate(name(dir), dir)
		}
		for i, dir := range dirs {
			s.mustDelete("nas1/" + name(dir))
			for _, other := range dirs[i+1:] {
				if info, err := os.Stat(s.at(other)); err != nil || info.Mode() != os.ModeDir|0o755 {
					t.Errorf("without %s, %s is %v (%v)", dir, other, info, err)
				}
			}
		}
		s.empty("kept")
		s.restart()
	}
	for _, dir := range []string{"team", "kept/b"} { // a former parent can be a volume
		s.mustCreate("pvc-1", dir)
		s.mustDelete("nas1/pvc-1")
	}
	_, err := s.create("pvc-1", params{"subDir": "kept"})
	wantCode(t, err, codes.FailedPrecondition, "nas1", `"kept" exists already`)
	s.empty("kept")
}

func name(dir string) string { return "pvc-" + strings.ReplaceAll(dir, "/", "-") }

// TestTrash sets the retention of a deleted volume in each of its three places, and restarts the
// controller meanwhile.
func TestTrash(t *testing.T) {
	for _, c := range []struct {
		name           string
		share          []string
		class, mutable string
		kept           bool
	}{
		{"nowhere", nil, "", "", false},
		{"share", []string{"trashRetention: 1h"}, "", "", true},
		{"class", nil, "1h", "", true},
		{"mutable", nil, "", "1h", true},
		{"the class overrides the share", []string{"trashRetention: 1h"}, "0s", "", false},
		{"mutable overrides both", []string{"trashRetention: 2h"}, "1h", "0s", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.share...)
			v := s.mustCreate("pvc-1", "dir", "trashRetention", c.class)
			write(t, s.at("dir/sub/data"), "precious")
			if c.mutable != "" {
				modify(s, v.VolumeId, params{"trashRetention": c.mutable})
			}
			s.mustDelete(v.VolumeId)
			if !c.kept {
				s.empty()
				return
			}
			wantInTrash(t, s)
			s.restart()
			other := s.mustCreate("pvc-2", "other", "trashRetention", "0s") // once it is purged, the trash was scanned
			s.mustDelete(other.VolumeId)
			eventually(t, waitTimeout, "the other volume is purged", func() bool { return len(inTrash(t, s)) == 2 })
			wantInTrash(t, s)
			again := s.mustCreate("pvc-1", "dir") // now another volume
			if entries, _ := os.ReadDir(s.at("dir")); len(entries) != 0 {
				t.Errorf("the new volume holds %v", entries)
			}
			modify(s, again.VolumeId, params{"trashRetention": "0s"})
			s.mustDelete(again.VolumeId)
			eventually(t, waitTimeout, "the new volume is purged", func() bool { return len(inTrash(t, s)) == 2 })
			wantInTrash(t, s)
		})
	}
}

func modify(s *site, id string, p params) {
	s.t.Helper()
	if _, err := s.controller().ControllerModifyVolume(soon(s.t), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: p}); err != nil {
		s.t.Fatal(err)
	}
}

func inTrash(t *testing.T, s *site) []string {
	t.Helper()
	entries, err := os.ReadDir(s.at(".mooring/trash"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// wantInTrash checks that a volume and its record are in the trash, whole.
func wantInTrash(t *testing.T, s *site) {
	t.Helper()
	names := inTrash(t, s)
	if len(names) != 2 || !strings.HasPrefix(names[0], "pvc-1.") || !strings.HasPrefix(names[1], names[0]+".") || !strings.HasSuffix(names[1], ".json") {
		t.Fatalf("in the trash: %v", names)
	}
	if data, err := os.ReadFile(s.at(".mooring/trash", names[0], "sub/data")); string(data) != "precious" {
		t.Errorf("the deleted volume holds %q (%v)", data, err)
	}
	if info, err := os.Stat(s.at(".mooring/trash", names[1])); err != nil || info.Size() < 100 {
		t.Errorf("its record is %v (%v)", info, err)
	}
}

// TestTrashInTime checks that a controller that started after a deletion purges the volume after its
// retention, and not before.
func TestTrashInTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.mustCreate("pvc-1", "dir", "trashRetention", "3s")
	write(t, s.at("dir/data"), "precious")
	start := time.Now()
	s.mustDelete(v.VolumeId)
	s.restart()
	eventually(t, waitTimeout, "it is purged", func() bool { return len(inTrash(t, s)) == 0 })
	if took := time.Since(start); took < 3*time.Second {
		t.Errorf("it was purged after %v", took)
	}
	s.empty()
}

// TestManyDeletions deletes many volumes at a time. Each is purged soon: a scan of the trash during the
// deletion must not miss one.
func TestManyDeletions(t *testing.T) {
	s := newSite(t)
	s.open()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 10 {
				name := fmt.Sprintf("pvc-%d-%d", i, j)
				if _, err := s.create(name, params{"subDir": fmt.Sprintf("team%d/%s", j%3, name)}); err != nil {
					t.Error(err)
				}
				if err := s.delete("nas1/" + name); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	s.empty()
}
