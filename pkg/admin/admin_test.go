// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// pool is one of shares on temporary directories, some of which cannot be opened.
type pool struct {
	t      *testing.T
	dir    string
	shares []volume.Share
	silent map[string]error // what is said instead of opening a share
	lost   map[string]error // and when it is asked later
}

func (p *pool) Registry() *volume.Registry { return &volume.Registry{Shares: p.shares} }

func (p *pool) Open(_ context.Context, name string, _ []string) (*share.Share, func(), error) {
	if err := p.silent[name]; err != nil {
		return nil, nil, err
	}
	return p.open(name, false), func() {}, nil
}

func (p *pool) Answers(_ context.Context, name string) error { return p.lost[name] }

func (p *pool) open(name string, readOnly bool) *share.Share {
	p.t.Helper()
	s, err := share.Open(filepath.Join(p.dir, name), volume.Share{Name: name, Servers: []string{"10.0.0.1"}, Path: "/" + name, TrashRetention: time.Hour},
		share.Options{Maker: "0a1b2c3d", ReadOnly: readOnly})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(s.Close)
	return s
}

// newPool makes shares of these names.
func newPool(t *testing.T, names ...string) *pool {
	t.Helper()
	p := &pool{t: t, dir: t.TempDir(), silent: map[string]error{}, lost: map[string]error{}}
	for _, name := range names {
		p.shares = append(p.shares, volume.Share{Name: name})
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// create makes a volume of a claim "namespace/name", long ago.
func (p *pool) create(name, key, directory, claim string) {
	p.t.Helper()
	ctx, s := p.t.Context(), p.open(name, false)
	r := volume.Record{Key: key, Name: key, Directory: directory, Capacity: 1 << 30, OnDelete: volume.Delete, Created: time.Unix(1e9, 0).UTC()}
	if namespace, name, ok := strings.Cut(claim, "/"); ok {
		r.PVC = &volume.PVC{Namespace: namespace, Name: name}
	}
	m, _, err := s.Begin(ctx, r)
	if err == nil {
		err = errors.Join(m.Claim(ctx), m.MakeDirectory(ctx))
	}
	if err == nil {
		_, err = m.Commit(ctx)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) delete(name, key string) {
	p.t.Helper()
	s := p.open(name, false)
	r, err := s.Lookup(p.t.Context(), key)
	if err == nil {
		_, _, err = s.Trash(p.t.Context(), r, time.Now())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) at(elements ...string) string {
	return filepath.Join(append([]string{p.dir}, elements...)...)
}

// service returns a Service, and what is reported to it.
func (p *pool) service() (*Service, func() string) {
	var mu sync.Mutex
	var all []error
	report := func(err error) { mu.Lock(); defer mu.Unlock(); all = append(all, err) }
	return New(p, report), func() string {
		mu.Lock()
		defer mu.Unlock()
		if all == nil {
			return ""
		}
		return errors.Join(all...).Error()
	}
}

// handles lists the volumes.
func handles(t *testing.T, s *Service, f Filter) []string {
	t.Helper()
	var all []string
	if err := s.Volumes(t.Context(), f, func(v Volume) error { all = append(all, v.Handle); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, not %q", what, got, want)
	}
}

// TestShares has one share that cannot be opened, one with a damaged record, and a filter.
func TestShares(t *testing.T) {
	p := newPool(t, "a", "b", "c")
	for i := range 40 { // more than are read at once
		p.create("a", fmt.Sprintf("pvc-%02d", i), fmt.Sprint("d", i), []string{"shop/db", "play/x", ""}[i%3])
	}
	p.create("c", "pvc-1", "d", "shop/db")
	p.silent["b"] = volume.Errorf(volume.ErrUnavailable, "share b does not answer")
	if err := os.Truncate(p.at("a/.mooring/volumes/pvc-07.json"), 9); err != nil {
		t.Fatal(err)
	}
	s, reported := p.service()
	all := handles(t, s, Filter{})
	if len(all) != 40 || !slices.IsSorted(all) || all[0] != "a/pvc-00" || all[39] != "c/pvc-1" {
		t.Errorf("the volumes are %q", all)
	}
	if said := reported(); !strings.Contains(said, "share b does not answer") || !strings.Contains(said, "pvc-07 cannot be believed") {
		t.Errorf("reported is %q", said)
	}
	if all := handles(t, s, Filter{Shares: []string{"a"}, Namespace: "shop"}); len(all) != 14 {
		t.Errorf("of a namespace there are %q", all)
	}
	if err := s.Volumes(t.Context(), Filter{Shares: []string{"z"}}, nil); volume.Kind(err) != volume.ErrConflict {
		t.Errorf("of a share that is not registered: %v", err)
	}
	enough := errors.New("enough")
	if err := s.Volumes(t.Context(), Filter{}, func(Volume) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("who wants no more gets %v", err)
	}
}

// TestLost has a share's server die while it is at work, in a call that does not come back.
func TestLost(t *testing.T) {
	p := newPool(t, "a", "b")
	p.create("b", "pvc-1", "d", "")
	p.lost["a"] = volume.Errorf(volume.ErrUnavailable, "the server does not answer")
	s, reported := p.service()
	never := make(chan struct{})
	defer close(never)
	var got []string
	err := onShares(t.Context(), s, Filter{}, func(row string) error { got = append(got, row); return nil },
		func(_ context.Context, sh *share.Share, emit emitter[string]) error {
			name := sh.Definition().Name
			err := emit(name)
			if name == "a" {
				<-never
			}
			return err
		})
	same(t, "what was done", got, "a", "b")
	if said := reported(); err != nil || !strings.Contains(said, "share a: given up: the server does not answer") {
		t.Errorf("it ends with %v, and %q", err, said)
	}
}

func TestTrash(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a", "b")
	p.create("a", "pvc-1", "one", "shop/db")
	p.create("a", "pvc-2", "two", "play/x")
	if err := os.WriteFile(p.at("a/one/data"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.delete("a", "pvc-1")
	p.delete("a", "pvc-2")
	s, reported := p.service()
	list := func(f Filter) (all []Deleted) {
		t.Helper()
		if err := s.Trash(ctx, f, func(d Deleted) error { all = append(all, d); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := list(Filter{Namespace: "shop"})
	if len(all) != 1 || all[0].Handle != "a/pvc-1" || all[0].State != "whole" || all[0].Directory != "one" || all[0].Due.Sub(all[0].Deleted) != time.Hour {
		t.Fatalf("in the trash is %+v", all)
	}
	for _, ref := range []string{"pvc-1", "b/pvc-1", "a/pvc-3", "x/pvc-1"} {
		if _, _, err := s.Restore(ctx, Filter{}, ref, ""); err == nil || !strings.Contains(err.Error(), strings.Split(ref, "/")[0]) {
			t.Errorf("%s is brought back: %v", ref, err)
		}
	}
	if name, r, err := s.DeletedRecord(ctx, Filter{Shares: []string{"a"}}, "pvc-1"); err != nil || name != "a" || r.PVC.Name != "db" {
		t.Errorf("the deleted one is %s, %+v, %v", name, r, err)
	}
	if name, r, err := s.Restore(ctx, Filter{}, all[0].Entry, "else/where"); err != nil || name != "a" || r.Directory != "else/where" {
		t.Errorf("brought back is %s, %+v, %v", name, r, err)
	}
	if _, err := os.Stat(p.at("a/else/where/data")); err != nil {
		t.Error(err)
	}
	if _, r, err := s.Restore(ctx, Filter{}, "a/pvc-1", ""); err != nil || r.Directory != "else/where" {
		t.Errorf("brought back again is %+v, %v", r, err)
	}
	p.delete("a", "pvc-1")
	var purged []string
	each := func(d Purged) error { purged = append(purged, strings.Split(d.Entry, ".")[0]); return nil }
	if err := s.Purge(ctx, Filter{}, []string{"a/pvc-1", "a/pvc-9"}, each); err != nil || !strings.Contains(reported(), "a/pvc-9 is not in the trash") {
		t.Errorf("a purge ends with %v, and %q", err, reported())
	}
	same(t, "purged", purged, "a/pvc-1")
	if err := s.Purge(ctx, Filter{}, nil, each); err != nil || len(list(Filter{})) != 0 {
		t.Errorf("a purge of all ends with %v, and there is %+v", err, list(Filter{}))
	}
	same(t, "purged", purged, "a/pvc-1", "a/pvc-2")
}

// TestTwice has one handle in the trash twice: the user has to say which.
func TestTwice(t *testing.T) {
	p := newPool(t, "a")
	for range 2 {
		p.create("a", "pvc-1", "one", "shop/db")
		p.delete("a", "pvc-1")
	}
	s, _ := p.service()
	if _, _, err := s.Restore(t.Context(), Filter{}, "a/pvc-1", ""); err == nil || !strings.Contains(err.Error(), "in the trash 2 times: say which one: a/pvc-1.") {
		t.Errorf("it is %v", err)
	}
}

func TestUsage(t *testing.T) {
	p := newPool(t, "a")
	p.create("a", "pvc-1", "one", "")
	p.create("a", "pvc-2", "two", "shop/db")
	for name, size := range map[string]int{"one/small": 10, "two/big": 1 << 20, "two/more": 1 << 20} {
		if err := os.WriteFile(p.at("a", name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, reported := p.service()
	var progress Progress
	all, err := s.Usage(t.Context(), Filter{}, &progress)
	if err != nil || len(all) != 2 || all[0].Handle != "a/pvc-2" || all[0].Bytes != 2<<20 || all[0].Files != 2 || all[1].Bytes != 10 || reported() != "" {
		t.Errorf("it is %+v, %v, %q", all, err, reported())
	}
	if progress.Volumes.Load() != 2 || progress.Measured.Load() != 2 || progress.Bytes.Load() != 2<<20+10 {
		t.Errorf("the progress ends as %s", fmt.Sprint(progress.Volumes.Load(), progress.Measured.Load(), progress.Bytes.Load()))
	}
}

// cluster has these PersistentVolumes and VolumeSnapshotContents.
type cluster struct {
	volumes  []kube.PersistentVolume
	contents []kube.SnapshotContent
	err      error
}

func (c cluster) PersistentVolumes(_ context.Context, _ string, each func(kube.PersistentVolume) error) error {
	for _, v := range c.volumes {
		if err := each(v); err != nil {
			return err
		}
	}
	return c.err
}

func (c cluster) SnapshotContents(_ context.Context, _ string, each func(kube.SnapshotContent) error) error {
	for _, s := range c.contents {
		if err := each(s); err != nil {
			return err
		}
	}
	return nil
}

func TestOrphans(t *testing.T) {
	p := newPool(t, "a", "b")
	p.create("a", "pvc-good", "team/good", "shop/db")
	p.create("a", "pvc-away", "away", "")
	p.create("a", "pvc-unclaimed", "unclaimed", "")
	p.create("a", "pvc-forgotten", "forgotten", "")
	for _, err := range []error{
		os.Remove(p.at("a/away")), os.Mkdir(p.at("a/stray"), 0o755), os.Mkdir(p.at("a/archived-x"), 0o755),
		os.Remove(p.at("a/.mooring/volumes/pvc-forgotten.json")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	find := func(in Cluster) (found []string, said string) {
		t.Helper()
		s, reported := p.service()
		err := s.Orphans(t.Context(), Filter{}, in, "d", func(o Orphan) error {
			if o.Why == "" || o.Remedy == "" {
				t.Errorf("not said is why, or what to do: %+v", o)
			}
			found = append(found, o.Share+" "+o.Kind+" "+o.Name)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found, reported()
	}
	onShare := []string{"a claim forgotten", "a directory archived-x", "a directory stray", "a record a/pvc-away"}
	got, said := find(nil)
	same(t, "without a cluster", got, onShare...)
	if said != "" {
		t.Errorf("reported is %q", said)
	}
	got, _ = find(cluster{
		volumes: []kube.PersistentVolume{
			{Name: "pv-good", Handle: "a/pvc-good"}, {Name: "pv-away", Handle: "a/pvc-away"},
			{Name: "pv-lost", Handle: "b/pvc-lost"}, {Name: "static", Handle: "any"}, {Name: "elsewhere", Handle: "z/pvc-1"},
		},
		contents: []kube.SnapshotContent{{Name: "c-lost", Handle: "a/snap-lost"}, {Name: "c-new", Handle: ""}},
	})
	same(t, "in a cluster", got, slices.Sorted(slices.Values(append(slices.Clone(onShare),
		"a VolumeSnapshotContent c-lost", "a volume a/pvc-unclaimed", "b PersistentVolume pv-lost")))...)
	got, said = find(cluster{err: errors.New("forbidden")})
	same(t, "in a cluster that does not tell", got, onShare...)
	if said != "forbidden" {
		t.Errorf("reported is %q", said)
	}
}
