// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

// copies are what a controller is killed at: by name, so that a victim can be told.
var copies map[string]func(*Service) error

func init() { // they refer to one another through the victim
	made := func(source volume.Source, parameters map[string]string) func(*Service) error {
		return func(s *Service) error {
			w, err := parseWish("pvc-2", parameters)
			if err != nil {
				return err
			}
			w.Source, w.ReadOnly = &source, parameters["restore"] == "shallow"
			_, err = s.Volumes.Create(context.Background(), w)
			return err
		}
	}
	snapshot := volume.Source{Object: volume.Object{Kind: volume.ObjectSnapshot, Key: "snap-1"}, Share: "nas1"}
	origin := volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: "pvc-1"}, Share: "nas1"}
	at := func(key string) volume.Handle { return volume.Handle{Share: "nas1", Key: key} }
	copies = map[string]func(*Service) error{
		"snapshot": func(s *Service) error {
			_, err := s.Snapshots.Create(context.Background(), "snap-2", at("pvc-1"))
			return err
		},
		"delete the snapshot": func(s *Service) error { return s.Snapshots.Delete(context.Background(), at("snap-2")) },
		"group": func(s *Service) error {
			_, err := s.Groups.Create(context.Background(), "group-1", []volume.Handle{at("pvc-1"), at("pvc-other")})
			return err
		},
		"delete the group":       func(s *Service) error { return s.Groups.Delete(context.Background(), at("group-1"), nil) },
		"restore":                made(snapshot, map[string]string{"subDir": "teams/${pvc.metadata.name}"}),
		"restore, with an owner": made(snapshot, map[string]string{"mountPermissions": "2770", "uid": "1234", "gid": "5678"}),
		"restore, shallow":       made(snapshot, map[string]string{"restore": "shallow"}),
		"clone":                  made(origin, nil),
		"delete the volume":      func(s *Service) error { return s.Volumes.Delete(context.Background(), at("pvc-2"), nil) },
	}
}

// prepareCopies puts a volume with a tree in it on a new share, and a snapshot of it.
func prepareCopies(t *testing.T, g ground.Ground) string {
	t.Helper()
	dir, err := os.MkdirTemp(g.Dir, "share")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := controller(t, dir, share.Options{})
	for _, name := range []string{"pvc-1", "pvc-other"} {
		if _, err := s.Volumes.Create(context.Background(), wish(t, name, map[string]string{"subDir": name})); err != nil {
			t.Fatal(err)
		}
	}
	in := filepath.Join(dir, "pvc-1")
	for _, err := range []error{
		os.WriteFile(filepath.Join(in, "file"), []byte(strings.Repeat("mooring\n", 5000)), 0o640),
		os.Mkdir(filepath.Join(in, "directory"), 0o2775),
		os.WriteFile(filepath.Join(in, "directory", "inner"), []byte("inner"), 0o600),
		os.Link(filepath.Join(in, "file"), filepath.Join(in, "directory", "link")),
		os.Symlink("/nowhere", filepath.Join(in, "symlink")),
		os.WriteFile(filepath.Join(dir, "pvc-other", "other"), []byte("other"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Snapshots.Create(context.Background(), "snap-1", volume.Handle{Share: "nas1", Key: "pvc-1"}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// settle does what the controller does in the background, and returns what there is then.
func settle(t *testing.T, dir string, s *Service, o *one) []string {
	t.Helper()
	s.Groups.Sweep(context.Background())
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if err := o.copier.Resume(context.Background(), "nas1"); err != nil {
			t.Error(err)
		}
		left, err := o.share.Jobs.List(context.Background())
		if err != nil || len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: the copies %v are made or forgotten", patience, left)
		}
	}
	o.purge(t)
	o.tidy(t)
	// The directory of holds stays where the one who held died.
	return slices.DeleteFunc(tree(t, dir), func(e string) bool { return strings.Contains(e, "/deletion") })
}

// TestKillCopies kills a controller with SIGKILL before each change that it makes on the share
// to make a snapshot, a group of them, a restore or a clone, and to delete them. Afterwards
// the same, or its opposite, ends as if nothing had happened: all there, byte by byte, or
// nothing.
func TestKillCopies(t *testing.T) {
	for _, c := range []struct{ first, killed, then string }{
		{"", "snapshot", "snapshot"},
		{"", "snapshot", "delete the snapshot"},
		{"snapshot", "delete the snapshot", "delete the snapshot"},
		{"snapshot", "delete the snapshot", "snapshot"},
		{"", "group", "group"},
		{"", "group", "delete the group"},
		{"group", "delete the group", "delete the group"},
		{"group", "delete the group", "group"},
		{"", "restore", "restore"},
		{"", "restore", "delete the volume"},
		{"", "restore, with an owner", "restore, with an owner"},
		{"", "restore, shallow", "restore, shallow"},
		{"", "restore, shallow", "delete the volume"},
		{"restore, shallow", "delete the volume", "delete the volume"},
		{"", "clone", "clone"},
		{"", "clone", "delete the volume"},
	} {
		t.Run(c.killed+", then "+c.then, func(t *testing.T) {
			ground.Ends(t, func(t *testing.T, g ground.Ground) { killCopies(t, g, c.first, c.killed, c.then) })
		})
	}
}

func killCopies(t *testing.T, g ground.Ground, first, killed, then string) {
	begin := func() (string, *Service, *one) {
		dir := prepareCopies(t, g)
		s, o := controller(t, dir, share.Options{})
		if first != "" {
			if err := copies[first](s); err != nil {
				t.Fatal(err)
			}
		}
		return dir, s, o
	}
	dir, s, o := begin()
	for _, do := range []string{killed, then} {
		if err := copies[do](s); err != nil {
			t.Fatal(err)
		}
	}
	want := settle(t, dir, s, o)
	for step := 1; ; step++ {
		for _, heir := range heirs {
			if step%heir.every != 0 {
				continue
			}
			dir, _, _ := begin()
			v := victim{Dir: dir, Step: step, Copy: killed}
			if !v.run(t) {
				if step == 1 {
					t.Error("there are no steps")
				}
				return
			}
			what := fmt.Sprintf("killed at step %d, %s", step, heir.name)
			opt := heir.opt
			opt.Lease = lease // a job whose file was being written is nobody's before
			s, o := controller(t, dir, opt)
			for range 2 {
				if err := eventually(func() error { return copies[then](s) }); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			got := settle(t, dir, s, o)
			if heir.opt.Maker != "" { // the asides of the dead one go when they are old
				got = slices.DeleteFunc(got, func(e string) bool { return strings.HasPrefix(e, ".mooring/staging/") })
			}
			same(t, what, got, want)
			if then == "delete the volume" {
				if err := s.Snapshots.Delete(context.Background(), volume.Handle{Share: "nas1", Key: "snap-1"}); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
}
