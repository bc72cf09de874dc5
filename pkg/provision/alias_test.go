// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// told is a Purger that notes what it is told, and of which share.
type told map[string][]share.TrashEntry

func (p told) Add(name string, e share.TrashEntry) { p[name] = append(p[name], e) }
func (p told) Rescan(string)                       {}

// registered returns a Service on a share that keeps what is deleted for a day, and what its purger
// is told.
func registered(t *testing.T) (*Service, told, string) {
	t.Helper()
	dir := t.TempDir()
	def := volume.Share{Name: "nas1", Servers: []string{"nas.example", "10.0.0.1", "fd00::1"}, Path: "/a", TrashRetention: 24 * time.Hour}
	sh, err := share.Open(dir, def, share.Options{Maker: "0a1b2c3d", Initialize: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sh.Close)
	o, purger := &one{share: sh, def: def}, told{}
	return New(o, purger, jobs.NewCopier(o, o, jobs.CopyOptions{}), noFault), purger, dir
}

// aliases are names of the share that registered has.
var aliases = []string{"nas.example:/a", "NAS.example:/a", "nas.example.:/a", "10.0.0.1:/a", "[::ffff:10.0.0.1]:/a", "[FD00:0::1]:/a"}

// TestDeleteByExport deletes volumes by handles from before the share was registered: they come to
// its trash, for as long as it keeps what is deleted.
func TestDeleteByExport(t *testing.T) {
	ctx := context.Background()
	s, purger, dir := registered(t)
	for i, alias := range aliases {
		h := volume.Handle{Share: alias, Key: "pvc-" + string(rune('a'+i))}
		if _, err := s.Volumes.Create(ctx, wish(t, h.Key, map[string]string{"subDir": h.Key})); err != nil {
			t.Fatal(err)
		}
		if v, err := s.Volumes.Get(ctx, h); err != nil || v.Handle != h {
			t.Errorf("%s is %+v, %v", h, v, err)
		}
		if err := s.Volumes.Delete(ctx, h, nil); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(dir, h.Key)); err == nil {
			t.Errorf("the directory of %s is there", h)
		}
	}
	if len(purger) != 1 || len(purger["nas1"]) != len(aliases) {
		t.Fatalf("the purger is told %v", purger)
	}
	for _, e := range purger["nas1"] {
		if kept := e.Due.Sub(e.Deleted); kept < 24*time.Hour || !e.Complete() {
			t.Errorf("%s is kept for %v", e.Name, kept)
		}
	}
}

// TestCreateByExport has a class name a registered share's export: its volumes are the share's.
func TestCreateByExport(t *testing.T) {
	ctx := context.Background()
	s, _, _ := registered(t)
	for i, server := range []string{"NAS.example.", "::ffff:10.0.0.1", "[fd00:0::1]"} {
		v, err := s.Volumes.Create(ctx, wish(t, "pvc-"+string(rune('a'+i)), map[string]string{"server": server, "share": "//a/"}))
		if err != nil {
			t.Fatal(err)
		}
		if v.Handle.Share != "nas1" || v.Location.Share != "nas1" {
			t.Errorf("the volume is %+v", v)
		}
	}
	if all, _, err := s.Volumes.List(ctx, volume.Page{}); err != nil || len(all) != 3 || all[0].Handle.String() != "nas1/pvc-a" {
		t.Errorf("the list is %+v, %v", all, err)
	}
	if _, err := s.Volumes.Create(ctx, wish(t, "pvc-x", map[string]string{"server": "10.0.0.2", "share": "/a"})); volume.Kind(err) != volume.ErrPrecondition {
		t.Errorf("an export that is not registered: %v", err)
	}
}

// TestSnapshotByExport makes snapshots, a clone, a shallow volume and a group of volumes that are named by export.
func TestSnapshotByExport(t *testing.T) {
	ctx := context.Background()
	s, purger, _ := registered(t)
	for _, name := range []string{"pvc-a", "pvc-b"} {
		if _, err := s.Volumes.Create(ctx, wish(t, name, nil)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := volume.Handle{Share: "NAS.example:/a", Key: "pvc-a"}, volume.Handle{Share: "10.0.0.1:/a", Key: "pvc-b"}
	snapshot, err := s.Snapshots.Create(ctx, "snap-1", a)
	if err != nil || snapshot.Volume != a || snapshot.Handle.Share != a.Share {
		t.Fatalf("the snapshot is %+v, %v", snapshot, err)
	}
	for _, of := range []volume.Handle{a, {Share: "nas1", Key: "pvc-a"}} {
		if found, _, err := s.Snapshots.List(ctx, volume.Page{}, &of); err != nil || len(found) != 1 || found[0].Volume != of {
			t.Errorf("the snapshots of %s are %+v, %v", of, found, err)
		}
	}
	w := wish(t, "pvc-shallow", map[string]string{"restore": "shallow"})
	w.ReadOnly, w.Source = true, &volume.Source{Object: volume.Object{Kind: volume.ObjectSnapshot, Key: "snap-1"}, Share: a.Share}
	shallow, err := s.Volumes.Create(ctx, w)
	if err != nil || !shallow.Shallow || *shallow.Source != *w.Source {
		t.Errorf("the snapshot itself is %+v, %v", shallow, err)
	}
	w = wish(t, "pvc-clone", nil)
	w.Source = &volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: "pvc-b"}, Share: "[::ffff:10.0.0.1]:/a"}
	for range 2 {
		if clone, err := s.Volumes.Create(ctx, w); err != nil || clone.Handle.Share != "nas1" || *clone.Source != *w.Source {
			t.Errorf("the clone is %+v, %v", clone, err)
		}
	}
	group, err := s.Groups.Create(ctx, "group-1", []volume.Handle{a, b})
	if err != nil || len(group.Snapshots) != 2 || group.Snapshots[0].Volume != a || group.Snapshots[1].Volume != b {
		t.Fatalf("the group is %+v, %v", group, err)
	}
	if err := s.Groups.Delete(ctx, group.Handle, nil); err != nil || len(purger["nas1"]) != 2 || len(purger) != 1 {
		t.Errorf("the group is deleted: %v, and the purger is told %v", err, purger)
	}
}

// several is one, and knows other exports, too.
type several struct {
	*one
	registry *volume.Registry
	known    []string
}

func (s several) Registry() *volume.Registry { return s.registry }
func (s several) Known() []string            { return s.known }

// TestNested has a class name an export that lies inside another, or holds one: it gets no new volumes,
// and those that it has say so.
func TestNested(t *testing.T) {
	ctx := context.Background()
	registry := &volume.Registry{Unregistered: true, Shares: []volume.Share{{Name: "nas1", Servers: []string{"nas"}, Path: "/a"}}}
	for _, c := range []struct {
		export string
		known  []string
		says   string // "": volumes can be made there
	}{
		{"NAS:/a/b", nil, `use share "nas1"`},
		{"nas:/", nil, `use share "nas1"`},
		{"nas:/b/media", nil, ""},
		{"nas:/b/media", []string{"nas1", "nas:/b", "nas:/b/media"}, "export nas:/b/media lies inside export nas:/b,"},
		{"nas:/b", []string{"nas1", "nas:/b", "nas:/b/media"}, ""},
		{"other:/b/media", []string{"nas:/b"}, ""},
		{"nas1", []string{"nas:/"}, ""}, // who registers it means it
	} {
		def, err := registry.Resolve(c.export)
		if err != nil {
			t.Fatal(err)
		}
		sh, err := share.Open(t.TempDir(), def, share.Options{Maker: "0a1b2c3d", Initialize: true})
		if err != nil {
			t.Fatal(err)
		}
		o := &one{share: sh, def: def}
		s := New(several{o, registry, c.known}, o, nil, noFault)
		w := wish(t, "pvc-1", map[string]string{"share": "nas1", "subDir": "one"})
		w.Params.Shares = []string{c.export}
		_, err = s.Volumes.Create(ctx, w)
		if c.says == "" && err != nil || c.says != "" && (volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: a new volume: %v", c.export, err)
		}
		if c.says != "" {
			s = New(several{o, &volume.Registry{Unregistered: true}, nil}, o, nil, noFault)
			if _, err = s.Volumes.Create(ctx, w); err != nil {
				t.Errorf("%s: without others: %v", c.export, err)
			}
			s = New(several{o, registry, c.known}, o, nil, noFault)
		}
		found, err := s.Health.Volume(ctx, volume.Handle{Share: def.Name, Key: "pvc-1"})
		if overlaps := len(found) == 1 && found[0].Reason == volume.SharesOverlap; err != nil || overlaps != (c.says != "") {
			t.Errorf("%s: its health is %+v, %v", c.export, found, err)
		}
		sh.Close()
	}
}
