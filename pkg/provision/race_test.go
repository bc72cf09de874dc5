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

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
)

// two returns two controllers on one share, each with its own NFS client where there is NFS.
func two(t *testing.T, g ground.Ground) (services []*Service, first *one) {
	t.Helper()
	for i, dir := range []string{g.Dir, g.Other} {
		s, o := controller(t, dir, share.Options{Maker: fmt.Sprintf("%08x", i), Lease: 5 * time.Second})
		if services = append(services, s); i == 0 {
			first = o
		}
	}
	return services, first
}

// both runs work for all names on both controllers at once.
func both(t *testing.T, services []*Service, names []string, work func(s *Service, name string) error) {
	t.Helper()
	var wg sync.WaitGroup
	for _, s := range services {
		for _, name := range names {
			wg.Go(func() {
				if err := eventually(func() error { return work(s, name) }); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
	}
	wg.Wait()
}

// TestTwoControllers has two controllers create and delete the same volumes at the same time,
// as they may during a rolling update.
func TestTwoControllers(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		services, first := two(t, g)
		before := tree(t, g.Server)
		parameters := map[string]string{"subDir": "teams/${pvc.metadata.namespace}/${pvc.metadata.name}"}
		var names []string
		for i := range 6 {
			names = append(names, fmt.Sprint("pvc-", i))
		}
		for range 3 {
			both(t, services, names, func(s *Service, name string) error {
				return create(s, wish(t, name, parameters), volume.Handle{Share: "nas1", Key: name})
			})
			for _, name := range names {
				if info, err := os.Stat(filepath.Join(g.Server, "teams/default/data-"+name)); err != nil || !info.IsDir() {
					t.Errorf("%s has no directory: %v", name, err)
				}
			}
			both(t, services, names, func(s *Service, name string) error {
				return s.Volumes.Delete(context.Background(), volume.Handle{Share: "nas1", Key: name}, nil)
			})
			first.purge(t)
		}
		first.tidy(t)
		same(t, "after all are deleted", tree(t, g.Server), before)
	})
}

// TestOneDirectoryOneOwner has volumes race for one directory, and for directories one inside
// the other. One gets it, however many controllers there are, and the others leave nothing.
func TestOneDirectoryOneOwner(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		services, first := two(t, g)
		before := tree(t, g.Server)
		for round, directories := range [][]string{{"same", "same", "same", "same"}, {"a/b", "a/b/c", "a/b/d", "a/b/d/e"}} {
			var mu sync.Mutex
			owners := map[string]volume.Handle{}
			var wg sync.WaitGroup
			for i, directory := range directories {
				s, name := services[i%2], fmt.Sprintf("pvc-%d-%d", round, i)
				wg.Go(func() {
					err := eventually(func() error {
						v, err := s.Volumes.Create(context.Background(), wish(t, name, map[string]string{"subDir": directory}))
						if err == nil {
							mu.Lock()
							defer mu.Unlock()
							owners[directory] = v.Handle
						}
						return err
					})
					if err != nil && !errors.Is(err, volume.ErrPrecondition) {
						t.Errorf("%s: %v", directory, err)
					}
				})
			}
			wg.Wait()
			_, shared := owners["same"]
			_, outer := owners["a/b"]
			if n := len(owners); n == 0 || (shared || outer) && n != 1 {
				t.Errorf("owners of %q: %v", directories, owners)
			}
			for _, h := range owners {
				if err := services[0].Volumes.Delete(context.Background(), h, nil); err != nil {
					t.Error(err)
				}
			}
			first.purge(t)
		}
		first.tidy(t)
		same(t, "after all are deleted", tree(t, g.Server), before)
	})
}
