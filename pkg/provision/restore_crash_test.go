// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

func init() {
	ctx := context.Background()
	copies["delete pvc-1"] = func(s *Service) error { return s.Volumes.Delete(ctx, handle, nil) }
	copies["bring back"] = func(s *Service) error { return bringBack(s.Volumes.shares.(*one).share, "") }
	copies["bring back elsewhere"] = func(s *Service) error { return bringBack(s.Volumes.shares.(*one).share, "else/where") }
	copies["purge"] = func(s *Service) error {
		return purgeAll(s.Volumes.shares.(*one).share, func(trash int, name string) error {
			return (&copytree.Removal{Workers: 4}).Remove(ctx, trash, name)
		})
	}
	copies["purge half"] = func(s *Service) error {
		return purgeAll(s.Volumes.shares.(*one).share, func(trash int, name string) error {
			if err := syscall.Unlink(fmt.Sprintf("/proc/self/fd/%d/%s/file", trash, name)); err != nil {
				return err
			}
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		})
	}
}

// bringBack is what mooringctl does. That the volume was purged is no error.
func bringBack(sh *share.Share, directory string) error {
	ctx := context.Background()
	entries, err := sh.Trash.List(ctx)
	if err != nil {
		return err
	}
	_, err = sh.Volumes.LookupRestored(ctx, "pvc-1")
	for _, e := range entries {
		if e.Key == "pvc-1" && e.Kind() == "volume" {
			_, err = sh.Volumes.Restore(ctx, e, directory)
		}
	}
	if errors.Is(err, volume.ErrNotFound) {
		return nil
	}
	return err
}

func purgeAll(sh *share.Share, remove func(trash int, name string) error) error {
	entries, err := sh.Trash.List(context.Background())
	for _, e := range entries {
		if err == nil {
			err = sh.Trash.Purge(e, remove)
		}
	}
	return err
}

// TestKillRestore kills, before each change on the share, the one who brings a deleted volume
// back, or the one who purges it, and has others do something then. In the end the volume is
// there with all that was in it, or all of it is gone, and nothing is left in between.
func TestKillRestore(t *testing.T) {
	for _, c := range []struct {
		killed, then, want string
		or                 string // what it may come to as well
	}{
		{"bring back", "bring back", "bring back", ""},
		{"bring back elsewhere", "bring back", "bring back elsewhere", "bring back"},
		{"bring back", "bring back elsewhere", "bring back", "bring back elsewhere"},
		{"bring back", "delete pvc-1, purge", "purge", ""},
		{"bring back", "purge, bring back", "purge", "bring back"},
		{"purge", "bring back, purge", "bring back", "purge"},
		{"purge half", "bring back", "purge", ""},
	} {
		t.Run(c.killed+", then "+c.then, func(t *testing.T) {
			ground.Ends(t, func(t *testing.T, g ground.Ground) {
				want := [][]string{brought(t, g, c.want)}
				if c.or != "" {
					want = append(want, brought(t, g, c.or))
				}
				killRestore(t, g, c.killed, c.then, want)
			})
		})
	}
}

// trashed puts a deleted volume on a new share.
func trashed(t *testing.T, g ground.Ground, opt share.Options) (string, *Service, *one) {
	t.Helper()
	dir := prepareCopies(t, g)
	s, o := controller(t, dir, opt)
	if err := copies["delete pvc-1"](s); err != nil {
		t.Fatal(err)
	}
	return dir, s, o
}

// brought returns what is on the share when an operation on the deleted volume has run
// uninterrupted.
func brought(t *testing.T, g ground.Ground, operation string) []string {
	t.Helper()
	dir, s, o := trashed(t, g, share.Options{})
	if err := copies[operation](s); err != nil {
		t.Fatal(err)
	}
	if entries, err := o.share.Trash.List(context.Background()); err != nil || len(entries) > 0 {
		t.Fatalf("after %s there is in the trash %+v, %v", operation, entries, err)
	}
	return settle(t, dir, s, o)
}

func killRestore(t *testing.T, g ground.Ground, killed, then string, want [][]string) {
	for step := 1; ; step++ {
		for _, heir := range heirs {
			if step%heir.every != 0 {
				continue
			}
			dir, _, _ := trashed(t, g, share.Options{})
			v := victim{Dir: dir, Step: step, Copy: killed}
			if killed == "purge half" {
				v.Step = 0 // it kills itself
			}
			if !v.run(t) {
				if step <= 2 {
					t.Errorf("there are only %d steps", step-1)
				}
				return
			}
			what := fmt.Sprintf("killed at step %d, %s", step, heir.name)
			opt := heir.opt
			opt.Lease = lease
			s, o := controller(t, dir, opt)
			for range 2 {
				for do := range strings.SplitSeq(then, ", ") {
					if err := eventually(func() error { return copies[do](s) }); err != nil {
						t.Errorf("%s: %s: %v", what, do, err)
					}
				}
			}
			got := settle(t, dir, s, o)
			got = slices.DeleteFunc(got, func(e string) bool { // the asides of the dead one go when they are old
				return heir.opt.Maker != "" && strings.HasPrefix(e, ".mooring/staging/")
			})
			if !slices.ContainsFunc(want[1:], func(or []string) bool { return slices.Equal(got, or) }) {
				same(t, what, got, want[0])
			}
		}
		if killed == "purge half" {
			return
		}
	}
}

// TestRestoreAgainstPurge has some bring back what another purges, each with a client of its
// own. A volume that is there is whole, and what is purged leaves nothing.
func TestRestoreAgainstPurge(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		back := 0
		for range 20 {
			dir, s, o := trashed(t, g, share.Options{Maker: "00000001"})
			other := filepath.Join(g.Other, filepath.Base(dir))
			_, second := controller(t, other, share.Options{Maker: "00000002", Lease: lease})
			_, purger := controller(t, other, share.Options{Maker: "00000003"})
			var wg sync.WaitGroup
			for _, sh := range []*share.Share{o.share, second.share} {
				wg.Go(func() {
					if err := eventually(func() error { return bringBack(sh, "") }); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() {
				if err := copies["purge"](New(purger, purger, nil, noFault)); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			if err := eventually(func() error { return bringBack(second.share, "") }); err != nil {
				t.Error(err)
			}
			got := settle(t, dir, s, o)
			if slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, ".mooring/volumes/pvc-1 ") }) {
				back++
				same(t, "brought back", got, brought(t, g, "bring back"))
			} else {
				same(t, "purged", got, brought(t, g, "purge"))
			}
		}
		t.Logf("brought back: %d of 20", back)
	})
}

// TestRestoreRefuses has the place of a deleted volume be taken, by a volume or by somebody's
// directory, and names another.
func TestRestoreRefuses(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		ctx := context.Background()
		for what, c := range map[string]struct {
			take func(dir string, s *Service) error
			say  string
		}{
			"a volume": {func(_ string, s *Service) error {
				_, err := s.Volumes.Create(ctx, wish(t, "pvc-new", map[string]string{"subDir": "pvc-1"}))
				return err
			}, "that of volume pvc-new"},
			"volumes in it": {func(_ string, s *Service) error {
				_, err := s.Volumes.Create(ctx, wish(t, "pvc-new", map[string]string{"subDir": "pvc-1/inner"}))
				return err
			}, "there are volumes inside it"},
			"a directory": {func(dir string, _ *Service) error {
				// Not of this moment: an empty one that is as young as the claim could be our own.
				there, before := filepath.Join(dir, "pvc-1"), time.Now().Add(-time.Hour)
				return errors.Join(os.Mkdir(there, 0o755), os.Chtimes(there, before, before))
			}, "move it away"},
			"the volume": {func(_ string, s *Service) error {
				_, err := s.Volumes.Create(ctx, wish(t, "pvc-1", map[string]string{"subDir": "other"}))
				return err
			}, "there is a volume pvc-1"},
		} {
			dir, s, o := trashed(t, g, share.Options{})
			if err := c.take(dir, s); err != nil {
				t.Fatal(err)
			}
			before := tree(t, dir)
			err := bringBack(o.share, "")
			if volume.Kind(err) != volume.ErrPrecondition || !strings.Contains(err.Error(), c.say) {
				t.Errorf("at its place there is %s: %v", what, err)
			}
			same(t, what, tree(t, dir), before)
			if what == "the volume" {
				continue
			}
			if err := bringBack(o.share, "else/where"); err != nil {
				t.Errorf("at its place there is %s: to another: %v", what, err)
			}
			if data, err := os.ReadFile(filepath.Join(dir, "else/where/directory/inner")); string(data) != "inner" {
				t.Errorf("brought back is %q, %v", data, err)
			}
			if r, err := o.share.Volumes.Lookup(ctx, "pvc-1"); err != nil || r.Directory != "else/where" || r.State != share.Ready || r.PVC == nil || r.PVC.Name != "data-pvc-1" {
				t.Errorf("its record is %+v, %v", r, err)
			}
			if err := s.Volumes.Delete(ctx, handle, nil); err != nil {
				t.Errorf("what was brought back cannot be deleted: %v", err)
			}
		}
	})
}
