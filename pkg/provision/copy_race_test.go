// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

// fillDirectory puts something into a volume, as a pod would.
func fillDirectory(t *testing.T, g ground.Ground, directory string, files int) {
	t.Helper()
	for i := range files {
		if err := os.WriteFile(filepath.Join(g.Dir, directory, fmt.Sprint("file-", i)), fmt.Appendf(nil, "content %d of %s", i, directory), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTwoControllersCopy has two controllers make and delete the same snapshots, restores and
// clones at the same time.
func TestTwoControllersCopy(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		services, first := two(t, g)
		in := map[string]string{"subDir": "${pvc.metadata.name}"}
		ctx := context.Background()
		at := func(key string) volume.Handle { return volume.Handle{Share: "nas1", Key: key} }
		source := func(kind volume.ObjectKind, key string) *volume.Source {
			return &volume.Source{Object: volume.Object{Kind: kind, Key: key}, Share: "nas1"}
		}
		if err := create(services[0], wish(t, "pvc-1", in), at("pvc-1")); err != nil {
			t.Fatal(err)
		}
		fillDirectory(t, g, "data-pvc-1", 20)
		before := tree(t, g.Server)
		for range 2 {
			var mu sync.Mutex
			created := map[string]bool{}
			both(t, services, []string{"snap-1", "snap-2"}, func(s *Service, name string) error {
				snapshot, err := s.Snapshots.Create(ctx, name, at("pvc-1"))
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					created[fmt.Sprint(name, snapshot.Created)] = true
				}
				return err
			})
			if len(created) != 2 {
				t.Errorf("two snapshots were created at %v: not each answer has the same time", created)
			}
			for name, from := range map[string]*volume.Source{"pvc-2": source(volume.ObjectSnapshot, "snap-1"), "pvc-3": source(volume.ObjectVolume, "pvc-1")} {
				both(t, services, []string{name}, func(s *Service, name string) error {
					w := wish(t, name, in)
					w.Source = from
					return create(s, w, at(name))
				})
				same(t, name, tree(t, filepath.Join(g.Server, "data-"+name)), tree(t, filepath.Join(g.Server, "data-pvc-1")))
			}
			both(t, services, []string{"pvc-2", "pvc-3"}, func(s *Service, name string) error { return s.Volumes.Delete(ctx, at(name), nil) })
			both(t, services, []string{"snap-1", "snap-2"}, func(s *Service, name string) error { return s.Snapshots.Delete(ctx, at(name)) })
			first.purge(t)
		}
		first.tidy(t)
		same(t, "after all are deleted", tree(t, g.Server), before)
	})
}

// TestCopyAgainstDeletion has one controller restore and clone what another deletes at the same
// time. Either the deletion is first, and there is nothing to copy, or the copy is whole.
func TestCopyAgainstDeletion(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		services, first := two(t, g)
		ctx := context.Background()
		at := func(key string) volume.Handle { return volume.Handle{Share: "nas1", Key: key} }
		in := map[string]string{"subDir": "${pvc.metadata.name}"}
		won := map[bool]int{}
		for round := range 6 {
			name := fmt.Sprint("pvc-", round)
			if err := create(services[0], wish(t, name, in), at(name)); err != nil {
				t.Fatal(err)
			}
			fillDirectory(t, g, "data-"+name, 10)
			want := tree(t, filepath.Join(g.Server, "data-"+name))
			from := volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: name}, Share: "nas1"}
			if round%2 == 1 {
				if _, err := services[0].Snapshots.Create(ctx, "snap-"+name, at(name)); err != nil {
					t.Fatal(err)
				}
				from.Object = volume.Object{Kind: volume.ObjectSnapshot, Key: "snap-" + name}
			}
			copied := false
			var wg sync.WaitGroup
			wg.Go(func() {
				err := eventually(func() error {
					w := wish(t, "copy-"+name, in)
					w.Source = &from
					return create(services[0], w, at("copy-"+name))
				})
				copied = err == nil
				if err != nil && !errors.Is(err, volume.ErrNotFound) && !errors.Is(err, volume.ErrPrecondition) {
					t.Errorf("%s: copy: %v", name, err)
				}
			})
			wg.Go(func() {
				time.Sleep(time.Duration(round/2) * 10 * time.Millisecond)
				err := eventually(func() error {
					if from.Kind == volume.ObjectSnapshot {
						return services[1].Snapshots.Delete(ctx, from.Handle())
					}
					return services[1].Volumes.Delete(ctx, from.Handle(), nil)
				})
				if err != nil {
					t.Errorf("%s: delete: %v", name, err)
				}
			})
			wg.Wait()
			won[copied]++
			if copied {
				same(t, name, tree(t, filepath.Join(g.Server, "data-copy-"+name)), want)
			} else if _, err := os.Stat(filepath.Join(g.Server, "data-copy-"+name)); !os.IsNotExist(err) {
				t.Errorf("%s: something is left of a copy that failed: %v", name, err)
			}
			first.purge(t)
		}
		t.Logf("the copy was first %d times, the deletion %d times", won[true], won[false])
	})
}
