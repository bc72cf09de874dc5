// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab"
)

// removedMetrics is the address of the metrics in TestRemovedShare.
const removedMetrics = "127.0.0.1:9877"

// TestRemovedShare removes a share from the configuration of a running controller: it is unmounted, and nothing
// is said of it any more. The other share is not disturbed. When the share is back, its trash is purged.
func TestRemovedShare(t *testing.T) {
	t.Parallel()
	s := newSite(t, "trashRetention: 1h")
	without := s.config
	nas2 := s.add("nas2", lab.Exports, lab.Exports, "trashRetention: 1h")
	s.ctl = s.start("controller", "controller", "--metrics-address", removedMetrics)
	s.mustDelete(s.mustCreate("pvc-1", "").VolumeId)
	kept := s.mustCreate("pvc-2", "kept", "share", "nas2")
	mustSnapshot(t, s.ctl, kept, "snap-1")
	s.mustDelete(s.mustCreate("pvc-3", "deleted", "share", "nas2").VolumeId)
	told := func() bool { return strings.Contains(metricsAt(t, removedMetrics), `share="nas2"`) }
	// mounted returns the ids of the controller's mounts of an export.
	mounted := func(path string) (ids []int) {
		for _, m := range mountsIn(t, s.ctl.Dir) {
			if strings.HasSuffix(m.Source, ":"+path) {
				ids = append(ids, m.ID)
			}
		}
		return ids
	}
	first := mounted(s.path)
	if !told() || len(first) != 1 || len(mounted(nas2)) != 1 {
		t.Fatalf("before there are the mounts %v, and the metrics\n%s", mountsIn(t, s.ctl.Dir), metricsAt(t, removedMetrics))
	}

	rewrite(s, without, s.ctl)
	eventually(t, waitTimeout, "the share is unmounted, and not in the metrics", func() bool { return !told() && mounted(nas2) == nil })
	overdue(t, nas2)
	log := s.ctl.Log()
	purged := func(share string) func() bool {
		return func() bool {
			left, err := os.ReadDir(share + "/.mooring/trash")
			return err == nil && len(left) == 0
		}
	}
	// There was an error at each scan of the trash. When the other share's was scanned, so was this one's.
	overdue(t, s.path)
	eventually(t, waitTimeout, "the trash of the other share is purged", purged(s.path))
	if later := s.ctl.Log()[len(log):]; strings.Contains(later, "nas2") || told() || mounted(nas2) != nil {
		t.Errorf("the share is mounted as %v, its metrics are there: %v, and logged is\n%s", mounted(nas2), told(), later)
	}
	if trees, _ := filepath.Glob(nas2 + "/.mooring/trash/pvc-3.????????????????"); len(trees) != 1 {
		t.Errorf("without the share the trash has %q", trees)
	}
	s.mustDelete(s.mustCreate("pvc-4", "").VolumeId)
	if now := mounted(s.path); !slices.Equal(now, first) {
		t.Errorf("the other share was mounted as %v, and is as %v", first, now)
	}
	if found := regexp.MustCompile(`(?m)^E.*nas2.*`).FindString(s.ctl.Log()); found != "" {
		t.Error(found)
	}

	rewrite(s, s.config, s.ctl)
	eventually(t, waitTimeout, "the trash is purged", purged(nas2))
	s.mustDelete(kept.VolumeId)
	if !told() || len(mounted(nas2)) != 1 {
		t.Errorf("the share is mounted as %v, its metrics are there: %v", mounted(nas2), told())
	}
}

// overdue changes the names of the records in a share's trash, as if all had been due a minute ago.
func overdue(t *testing.T, share string) {
	t.Helper()
	records, err := filepath.Glob(share + "/.mooring/trash/*.json")
	if err != nil || records == nil {
		t.Fatalf("the records are %q, %v", records, err)
	}
	for _, record := range records {
		name, ok := volume.ParseTrashName(filepath.Base(record))
		if !ok {
			t.Fatalf("%s is no record", record)
		}
		rename(t, record, filepath.Join(filepath.Dir(record), volume.TrashRecordName(name.ID, name.Deleted, time.Now().Add(-time.Minute))))
	}
}
