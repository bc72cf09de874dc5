// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"testing"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// TestRegisteredSince has volumes whose handles name the export of a share that was registered later.
func TestRegisteredSince(t *testing.T) {
	p := newPool(t, "a")
	p.shares[0].Servers, p.shares[0].Path = []string{"10.0.0.1"}, "/a"
	p.create("a", "pvc-live", "live", "shop/db")
	p.create("a", "pvc-mapped", "mapped", "shop/db2")
	p.create("a", "pvc-deleted", "deleted", "shop/db3")
	p.delete("a", "pvc-deleted")
	s, errs := p.service()
	found := map[string]string{}
	known := cluster{volumes: []kube.PersistentVolume{
		{Name: "pv-live", Handle: "10.0.0.1:/a/pvc-live"},
		{Name: "pv-mapped", Handle: "[::ffff:10.0.0.1]:/a/pvc-mapped"},
		{Name: "pv-gone", Handle: "[::ffff:a00:1]:/a/pvc-gone"},
		{Name: "pv-other", Handle: "10.0.0.2:/a/pvc-other"},
	}, contents: []kube.SnapshotContent{{Name: "content-gone", Handle: "10.0.0.1:/a/snap-gone"}}}
	err := s.Orphans(t.Context(), Filter{Shares: []string{"10.0.0.1:/a", "a"}}, known, "d", func(o Orphan) error {
		found[o.Kind+" "+o.Name] += o.Share
		return nil
	})
	if err != nil || len(found) != 2 || found["PersistentVolume pv-gone"] != "a" || found["VolumeSnapshotContent content-gone"] != "a" {
		t.Errorf("the orphans are %q, %v", found, err)
	}
	var handles []string
	err = s.Volumes(t.Context(), Filter{Shares: []string{"[::ffff:10.0.0.1]:/a"}}, func(v Volume) error {
		handles = append(handles, v.Handle)
		return nil
	})
	if err != nil || len(handles) != 2 || handles[0] != "a/pvc-live" {
		t.Errorf("the volumes are %q, %v", handles, err)
	}
	name, r, err := s.Restore(t.Context(), Filter{}, "[::ffff:10.0.0.1]:/a/pvc-deleted", "")
	if err != nil || name != "a" || r.Key != "pvc-deleted" {
		t.Errorf("brought back is %v on %s: %v", r, name, err)
	}
	if _, _, err := s.Restore(t.Context(), Filter{}, "10.0.0.2:/a/pvc-deleted", ""); volume.Kind(err) != volume.ErrPrecondition {
		t.Errorf("of another server: %v", err)
	}
	if all := errs(); all != "" {
		t.Errorf("there were errors: %s", all)
	}
}
