// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// opening is a Shares of a single share that is opened anew when it is lost, as by the pool.
type opening struct {
	one
	dir    string
	mu     sync.Mutex
	opened []*share.Share
}

func (o *opening) Open(context.Context, string, []string) (*share.Share, func(), error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.opened); n > 0 && !o.opened[n-1].Lost() {
		return o.opened[n-1], func() {}, nil
	}
	s, err := share.Open(o.dir, o.def, share.Options{Maker: "0a1b2c3d", Run: "run"})
	if err != nil {
		return nil, nil, err
	}
	o.opened = append(o.opened, s)
	return s, func() {}, nil
}

// unlaid is a controller of an export on which nothing of Mooring's is.
func unlaid(t *testing.T) (*opening, *Service) {
	t.Helper()
	return unlaidAt(t, t.TempDir())
}

func unlaidAt(t *testing.T, dir string) (*opening, *Service) {
	t.Helper()
	o := &opening{dir: dir}
	o.def = volume.Share{Name: "nas1", Servers: []string{"127.0.0.1"}, Path: "/export"}
	t.Cleanup(func() {
		for _, s := range o.opened {
			s.Close()
		}
	})
	return o, New(o, o, jobs.NewCopier(o, o, jobs.CopyOptions{}), noFault)
}

// TestUnlaid asks for everything but a new volume on an export on which nothing of Mooring's is.
func TestUnlaid(t *testing.T) {
	ctx := t.Context()
	o, s := unlaid(t)
	h := volume.Handle{Share: "nas1", Key: "pvc-1"}
	calls := map[string]func() error{
		"Volumes.Delete":   func() error { return s.Volumes.Delete(ctx, h, nil) },
		"Volumes.Get":      func() error { _, err := s.Volumes.Get(ctx, h); return err },
		"Volumes.Expand":   func() error { _, err := s.Volumes.Expand(ctx, h, volume.Capacity{Required: 1}); return err },
		"Volumes.Modify":   func() error { return s.Volumes.Modify(ctx, h, volume.Mutable{OnDelete: volume.Retain}) },
		"Snapshots.Create": func() error { _, err := s.Snapshots.Create(ctx, "snap-1", h); return err },
		"Snapshots.Get":    func() error { _, err := s.Snapshots.Get(ctx, h); return err },
		"Snapshots.Delete": func() error { return s.Snapshots.Delete(ctx, h) },
		"Groups.Create":    func() error { _, err := s.Groups.Create(ctx, "group-1", []volume.Handle{h}); return err },
		"Groups.Get":       func() error { _, err := s.Groups.Get(ctx, h, nil); return err },
		"Groups.Delete":    func() error { return s.Groups.Delete(ctx, h, nil) },
	}
	for call, do := range calls {
		if err := do(); volume.Kind(err) != volume.ErrPrecondition || strings.Count(err.Error(), "share nas1 (127.0.0.1:/export)") != 1 || !strings.Contains(err.Error(), "mooringctl share forget nas1") {
			t.Errorf("%s: %v", call, err)
		}
	}
	if all, next, err := s.Volumes.List(ctx, volume.Page{}); err != nil || len(all) > 0 || next != "" {
		t.Errorf("the list is %v, %q, %v", all, next, err)
	}
	if all, _, err := s.Health.List(ctx, volume.Page{}); err != nil || len(all) > 0 {
		t.Errorf("unwell are %v, %v", all, err)
	}
	if space, err := s.Volumes.Capacity(ctx, nil); err != nil || space.Total == 0 {
		t.Errorf("the capacity is %v, %v", space, err)
	}
	if conditions, err := s.Health.Volume(ctx, h); err != nil || len(conditions) != 1 || conditions[0].Reason != volume.ShareUnusable {
		t.Errorf("its health is %v, %v", conditions, err)
	}
	s.Groups.Sweep(ctx)
	if names, err := os.ReadDir(o.dir); err != nil || len(names) > 0 {
		t.Errorf("on the export are %v, %v", names, err)
	}
}

// TestLaysOut creates first volumes, all at once, on an export on which nothing is yet.
func TestLaysOut(t *testing.T) {
	ctx := t.Context()
	o, s := unlaid(t)
	if err := os.MkdirAll(filepath.Join(o.dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	errs := make([]error, 5)
	for i := range errs {
		all.Go(func() {
			name := "pvc-" + string(rune('a'+i))
			params := volume.Params{Shares: []string{"nas1"}, SubDir: volume.MustTemplate(name)}
			if i == 0 {
				params.SubDir, params.Adopt = volume.MustTemplate("data"), true
			}
			_, errs[i] = s.Volumes.Create(ctx, volume.CreateRequest{Name: name, Params: params})
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if found, _, err := s.Volumes.List(ctx, volume.Page{}); err != nil || len(found) != len(errs) {
		t.Errorf("the volumes are %v, %v", found, err)
	}
	ids := map[string]bool{}
	for _, sh := range o.opened[1:] {
		ids[sh.Identity.ID()] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("the ids are %v", ids)
	}
	for _, key := range []string{"pvc-b", "pvc-none"} {
		if err := s.Volumes.Delete(ctx, volume.Handle{Share: "nas1", Key: key}, nil); err != nil {
			t.Errorf("delete %s: %v", key, err)
		}
	}
}

// TestListsLaidOut has a controller list what another has made since it found that nothing was laid out.
func TestListsLaidOut(t *testing.T) {
	ctx := t.Context()
	o, s := unlaid(t)
	_, beside := unlaidAt(t, o.dir)
	if all, _, err := s.Volumes.List(ctx, volume.Page{}); err != nil || len(all) > 0 {
		t.Errorf("the list is %v, %v", all, err)
	}
	params := volume.Params{Shares: []string{"nas1"}, SubDir: volume.MustTemplate("pvc-1")}
	if _, err := beside.Volumes.Create(ctx, volume.CreateRequest{Name: "pvc-1", Params: params}); err != nil {
		t.Fatal(err)
	}
	if all, _, err := s.Volumes.List(ctx, volume.Page{}); err != nil || len(all) != 1 {
		t.Errorf("the list is %v, %v", all, err)
	}
}

// TestWorksOnLaidOut has a controller do something with what another has made since it found that
// nothing was laid out.
func TestWorksOnLaidOut(t *testing.T) {
	h := volume.Handle{Share: "nas1", Key: "pvc-1"}
	for what, do := range map[string]func(ctx context.Context, s *Service) error{
		"delete it": func(ctx context.Context, s *Service) error { return s.Volumes.Delete(ctx, h, nil) },
		"get it":    func(ctx context.Context, s *Service) error { _, err := s.Volumes.Get(ctx, h); return err },
		"make a snapshot": func(ctx context.Context, s *Service) error {
			_, err := s.Snapshots.Create(ctx, "snap-1", h)
			return err
		},
		"make a group": func(ctx context.Context, s *Service) error {
			_, err := s.Groups.Create(ctx, "group-1", []volume.Handle{h})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			ctx := t.Context()
			o, s := unlaid(t)
			_, beside := unlaidAt(t, o.dir)
			if _, _, err := s.Volumes.List(ctx, volume.Page{}); err != nil {
				t.Fatal(err)
			}
			params := volume.Params{Shares: []string{"nas1"}, SubDir: volume.MustTemplate("pvc-1")}
			if _, err := beside.Volumes.Create(ctx, volume.CreateRequest{Name: "pvc-1", Params: params}); err != nil {
				t.Fatal(err)
			}
			if err := do(ctx, s); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestIDWithVolume has a share from before there were ids get one with the next volume, and not with
// what else is asked.
func TestIDWithVolume(t *testing.T) {
	ctx := t.Context()
	o, s := unlaid(t)
	create := func(name string) {
		t.Helper()
		if _, err := s.Volumes.Create(ctx, volume.CreateRequest{Name: name, Params: volume.Params{Shares: []string{"nas1"}, SubDir: volume.MustTemplate(name)}}); err != nil {
			t.Fatal(err)
		}
	}
	id := func() string { return o.opened[len(o.opened)-1].Identity.ID() }
	create("pvc-1")
	if err := os.WriteFile(filepath.Join(o.dir, ".mooring/format.json"), []byte(`{"version": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	o.opened[len(o.opened)-1].MarkLost()
	if err := s.Volumes.Delete(ctx, volume.Handle{Share: "nas1", Key: "pvc-1"}, nil); err != nil || id() != "" {
		t.Errorf("a deletion gives it the id %q: %v", id(), err)
	}
	create("pvc-2")
	if id() == "" {
		t.Error("it has no id")
	}
}

// TestRoom asks for room on shares that have it, that do not, and that do not say.
func TestRoom(t *testing.T) {
	for space, want := range map[volume.Space]error{
		{Total: 10, Free: 5}: nil, {Total: 10, Free: 4}: volume.ErrFull, {Total: 4, Free: 4}: volume.ErrOutOfRange, {}: volume.ErrPrecondition,
	} {
		if err := checkSpace(volume.Share{Name: "nas1"}, space, 5); !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), "nas1") {
			t.Errorf("on %+v: %v, want %v", space, err, want)
		}
	}
}
