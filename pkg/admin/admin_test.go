// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"cmp"
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

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// pool is one of shares on temporary directories, some of which cannot be opened.
type pool struct {
	t      *testing.T
	dir    string
	shares []volume.Share
	silent map[string]error // what is said instead of opening a share
	lost   map[string]error // of work on a share, soon after that is opened
	opt    share.Options
	asIs   bool              // nothing is laid out
	ids    map[string]string // that the registry says
}

func (p *pool) Registry() *volume.Registry { return &volume.Registry{Shares: p.shares} }

func (p *pool) Versions() map[string]string { return map[string]string{"a": "4.2"} }

func (p *pool) Open(ctx context.Context, name string, _ []string) (*share.Share, func(), error) {
	if err := p.silent[name]; err != nil {
		return nil, nil, err
	}
	if lost, abandon := p.lost[name], bounded.AbandonFunc(ctx); lost != nil && abandon != nil {
		time.AfterFunc(100*time.Millisecond, func() { abandon(lost) })
	}
	return p.open(name, p.opt), func() {}, nil
}

// maker is the instance of the driver that does what is done on the shares, in runs of its own.
const maker = "0a1b2c3d"

func (p *pool) open(name string, opt share.Options) *share.Share {
	p.t.Helper()
	opt.Maker, opt.Initialize = cmp.Or(opt.Maker, maker), !p.asIs
	s, err := share.Open(filepath.Join(p.dir, name), volume.Share{Name: name, Servers: []string{"10.0.0.1"}, Path: "/" + name, ID: p.ids[name], TrashRetention: time.Hour}, opt)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(s.Close)
	return s
}

// until has a process do something on a share, and die before it takes a step. It reports
// whether it did.
func (p *pool) until(name string, opt share.Options, last func(step string) bool, do func(*share.Share) error) (died bool) {
	p.t.Helper()
	type death struct{}
	armed := false
	opt.Step = func(step string) {
		if armed && last(step) {
			panic(death{})
		}
	}
	s := p.open(name, opt)
	armed = true
	defer func() {
		armed = false
		switch r := recover().(type) {
		case nil:
		case death:
			died = true
		default:
			panic(r)
		}
	}()
	if err := do(s); err != nil {
		p.t.Fatal(err)
	}
	return false
}

func at(step string) func(string) bool { return func(s string) bool { return s == step } }

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

// record is that of a volume of a claim "namespace/name", which was made long ago.
func record(key, directory, claim string) volume.Record {
	r := volume.Record{Key: key, Name: key, Directory: directory, Capacity: 1 << 30, OnDelete: volume.Delete, Created: time.Unix(1e9, 0).UTC()}
	if namespace, name, ok := strings.Cut(claim, "/"); ok {
		r.PVC = &volume.PVC{Namespace: namespace, Name: name}
	}
	return r
}

// begin begins to make a volume, with its directory.
func begin(ctx context.Context, s *share.Share, r volume.Record) (*share.Pending, error) {
	m, found, err := s.Volumes.Begin(ctx, r)
	if err != nil {
		return nil, err
	}
	if found != nil {
		return nil, fmt.Errorf("there is %+v", found)
	}
	return m, m.MakeDirectory(ctx)
}

func (p *pool) create(name, key, directory, claim string) {
	p.t.Helper()
	m, err := begin(p.t.Context(), p.open(name, share.Options{}), record(key, directory, claim))
	if err == nil {
		_, err = m.Commit(p.t.Context())
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) delete(name, key string) {
	p.t.Helper()
	if _, err := p.open(name, share.Options{}).Volumes.Delete(p.t.Context(), key); err != nil {
		p.t.Fatal(err)
	}
}

// age makes a file or directory an hour older.
func (p *pool) age(path string) {
	p.t.Helper()
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(p.at(path), past, past); err != nil {
		p.t.Fatal(err)
	}
}

// damage cuts a file off.
func (p *pool) damage(path string) {
	p.t.Helper()
	if err := os.Truncate(p.at(path), 9); err != nil {
		p.t.Fatal(err)
	}
}

// trashed lists the trash.
func trashed(t *testing.T, s *Service, f Filter) (all []Deleted) {
	t.Helper()
	if err := s.Trash(t.Context(), f, func(d Deleted) error { all = append(all, d); return nil }); err != nil {
		t.Fatal(err)
	}
	return all
}

func (p *pool) at(elements ...string) string {
	return filepath.Join(append([]string{p.dir}, elements...)...)
}

// lists has the shares be opened as commands that list do, which change nothing.
func (p *pool) lists() {
	p.opt = share.Options{ReadOnly: true, Step: func(step string) { p.t.Errorf("a list makes a change: %s", step) }}
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

// handles lists the volumes, with their states where those are not "ready".
func handles(t *testing.T, s *Service, f Filter) []string {
	t.Helper()
	var all []string
	err := s.Volumes(t.Context(), f, func(v Volume) error {
		if v.State != "ready" {
			v.Handle += " " + v.State
		}
		all = append(all, v.Handle)
		return nil
	})
	if err != nil {
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
	p.damage("a/.mooring/volumes/pvc-07/record.json")
	s, reported := p.service()
	all := handles(t, s, Filter{})
	if len(all) != 41 || !slices.IsSorted(all) || all[0] != "a/pvc-00" || all[7] != "a/pvc-07 unreadable" || all[40] != "c/pvc-1" {
		t.Errorf("the volumes are %q", all)
	}
	if said := reported(); !strings.Contains(said, "share b does not answer") || !strings.Contains(said, "pvc-07 cannot be believed") {
		t.Errorf("reported is %q", said)
	}
	if all := handles(t, s, Filter{Shares: []string{"a"}, Namespace: "shop"}); len(all) != 14 {
		t.Errorf("of a namespace there are %q", all)
	}
	if err := s.Volumes(t.Context(), Filter{Shares: []string{"z"}}, nil); volume.Kind(err) != volume.ErrPrecondition {
		t.Errorf("of a share that is not registered: %v", err)
	}
	enough := errors.New("enough")
	if err := s.Volumes(t.Context(), Filter{Shares: []string{"a"}}, func(Volume) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("who wants no more gets %v", err)
	}
}

// TestLost has a share's server die while it is at work, in a call that does not come back.
func TestLost(t *testing.T) {
	p := newPool(t, "a", "b")
	p.create("b", "pvc-1", "d", "")
	p.lost["a"] = volume.Errorf(volume.ErrUnavailable, "share a: the server does not answer")
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
	if said := reported(); err != nil || !strings.Contains(said, "given up: share a: the server does not answer") {
		t.Errorf("it ends with %v, and %q", err, said)
	}
}

// TestStates has volumes that are not finished.
func TestStates(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	p.create("a", "pvc-deleting", "one", "")
	p.until("a", share.Options{}, at("move the tree into the trash"), func(s *share.Share) error {
		_, err := s.Volumes.Delete(ctx, "pvc-deleting")
		return err
	})
	p.until("a", share.Options{}, at("commit"), func(s *share.Share) error {
		m, err := begin(ctx, s, record("pvc-creating", "two", ""))
		if err != nil {
			return err
		}
		_, err = m.Commit(ctx)
		return err
	})
	p.until("a", share.Options{}, at("take the directory away"), func(s *share.Share) error {
		m, err := begin(ctx, s, record("pvc-undoing", "three", ""))
		if err != nil {
			return err
		}
		return m.Abort()
	})
	p.lists()
	s, reported := p.service()
	same(t, "the volumes", handles(t, s, Filter{}), "a/pvc-creating creating", "a/pvc-deleting deleting", "a/pvc-undoing undoing")
	var progress Progress
	if all, err := s.Usage(ctx, Filter{}, &progress); len(all) > 0 || err != nil || reported() != "" {
		t.Errorf("measured is %+v, %v, %q", all, err, reported())
	}
}

// TestEmpty lists what is on a share that Mooring has never written to.
func TestEmpty(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	p.lists()
	s, reported := p.service()
	rows := len(handles(t, s, Filter{})) + len(trashed(t, s, Filter{}))
	usage, err := s.Usage(ctx, Filter{}, &Progress{})
	if err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"snapshots": s.Snapshots(ctx, Filter{}, func(Snapshot) error { rows++; return nil }),
		"jobs":      s.Jobs(ctx, Filter{}, func(Job) error { rows++; return nil }),
		"orphans":   s.Orphans(ctx, Filter{}, cluster{}, "d", func(Orphan) error { rows++; return nil }),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if rows+len(usage) > 0 || reported() != "" {
		t.Errorf("there are %d, and reported is %q", rows+len(usage), reported())
	}
	if _, err := os.Stat(p.at("a/.mooring")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was laid out: %v", err)
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

func TestJobs(t *testing.T) {
	ctx := t.Context()
	p := newPool(t, "a")
	p.create("a", "pvc-1", "one", "")
	copyInto := func(s *share.Share, key string) error {
		r := record(key, key, "")
		r.Source = &volume.Source{Object: volume.Object{Kind: volume.ObjectVolume, Key: "pvc-1"}, Share: "a"}
		m, err := begin(ctx, s, r)
		if err != nil {
			return err
		}
		_, err = m.BeginCopy(ctx, s)
		return err
	}
	for key, by := range map[string]string{"pvc-2": "ffffffff", "pvc-3": maker, "pvc-4": maker} {
		if err := copyInto(p.open("a", share.Options{Maker: by}), key); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(p.at("a/.mooring/volumes/pvc-4/making.json"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("}")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	p.lists()
	s, reported := p.service()
	var all []string
	err = s.Jobs(ctx, Filter{}, func(j Job) error {
		if known := j.State != "unreadable"; known != (time.Since(j.Began) < time.Hour) || known != (j.Source == "volume a/pvc-1") {
			t.Errorf("a job is %+v", j)
		}
		all = append(all, j.Target+" "+j.State)
		return nil
	})
	slices.Sort(all)
	if same(t, "the jobs", all, "volume pvc-2 copying", "volume pvc-3 waiting", "volume pvc-4 unreadable"); err != nil || !strings.Contains(reported(), "pvc-4") {
		t.Errorf("it ends with %v, and %q", err, reported())
	}
}
