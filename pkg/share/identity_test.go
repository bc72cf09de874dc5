// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// noCalls returns a step function that must not be called.
func noCalls(t *testing.T) func(string) {
	return func(what string) { t.Errorf("it does the step %q", what) }
}

// TestNotInitialized has an export without .mooring: it is not laid out to delete, to read or to list, and no deletion
// succeeds.
func TestNotInitialized(t *testing.T) {
	for what, prepare := range map[string]func(g *testShare){
		"an empty export":          func(*testShare) {},
		"an empty .mooring":        func(g *testShare) { g.must(os.MkdirAll(g.at(".mooring/inline/x"), 0o755)) },
		"an empty format":          func(g *testShare) { g.put(".mooring/format.json", "") },
		"an export with others'":   func(g *testShare) { g.put("v1/data", "x") },
		"a half laid out .mooring": func(g *testShare) { g.must(os.MkdirAll(g.at(".mooring/volumes"), 0o700)) },
	} {
		g := emptyShare(t)
		prepare(g)
		g.label = what + ": "
		before := g.listing()
		s, err := Open(g.dir, nas1, Options{Maker: maker, Step: noCalls(t)})
		g.must(err)
		defer s.Close()
		for call, err := range tryChanges(t, s) {
			g.wantError(call, err, volume.ErrPrecondition, "nothing of Mooring's is on the export", "is the right disk exported", "mooringctl share forget nas1")
		}
		g.checkEmpty(s)
		if d := diffLines(g.listing(), before); d != "" || s.Initialized() || s.Identity.ID() != "" {
			t.Errorf("%s: it has changed\n%s", what, d)
		}
	}
}

// tryChanges makes every change that is refused on a share that is not laid out, and returns the errors.
func tryChanges(t *testing.T, s *Share) map[string]error {
	t.Helper()
	ctx := t.Context()
	all := map[string]error{"Check": s.Identity.Check()}
	_, all["Volumes.Delete"] = s.Volumes.Delete(ctx, "v1")
	_, all["Volumes.Update"] = s.Volumes.Update(ctx, "v1", nil)
	_, _, all["Volumes.Begin"] = s.Volumes.Begin(ctx, record("v1", "v1"))
	_, all["Volumes.Restore"] = s.Volumes.Restore(ctx, TrashEntry{}, "")
	_, all["Snapshots.Delete"] = s.Snapshots.Delete(ctx, "s1", nil)
	_, _, all["Snapshots.Begin"] = s.Snapshots.Begin(ctx, volume.SnapshotRecord{Key: "s1"})
	_, all["Groups.Delete"] = s.Groups.Delete(ctx, "g1", nil)
	_, all["Groups.Begin"] = s.Groups.Begin(ctx, groupRecord("g1"))
	_, all["Now"] = s.Now(ctx)
	_, _, all["Renew"] = s.Identity.Renew(ctx)
	return all
}

// checkEmpty checks that everything that only reads finds nothing.
func (g *testShare) checkEmpty(s *Share) {
	g.Helper()
	ctx := g.Context()
	keys, err := s.Volumes.Keys(ctx)
	g.must(err)
	snapshots, err := s.Snapshots.Keys(ctx)
	g.must(err)
	groups, err := s.Groups.Abandoned(ctx)
	g.must(err)
	entries, err := s.Trash.List(ctx)
	g.must(err)
	jobs, err := s.Jobs.List(ctx)
	g.must(err)
	if len(keys)+len(snapshots)+len(groups)+len(entries)+len(jobs) > 0 {
		g.Errorf("%sit lists %q, %q, %q, %v, %v", g.label, keys, snapshots, groups, entries, jobs)
	}
	_, err = s.Volumes.Lookup(ctx, "v1")
	g.wantError("no volume", err, volume.ErrNotFound)
	g.must(s.Tidy(ctx, 0))
	_, err = s.Space(ctx)
	g.must(err)
}

// TestInitialize lays out a share that was opened before, by many processes at once.
func TestInitialize(t *testing.T) {
	g := emptyShare(t)
	var mu sync.Mutex
	var told []string
	opt := Options{Maker: maker, OnInitialized: func(def volume.Share, id string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, def.Name+" "+id)
	}}
	s, err := Open(g.dir, nas1, opt)
	g.must(err)
	defer s.Close()
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() { ids[i], _ = s.Identity.LayOut(t.Context()) })
	}
	all.Wait()
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(ids[0]) {
		t.Fatalf("the ids are %q", ids)
	}
	if !slices.Equal(told, []string{"nas1 " + ids[0]}) || !s.Lost() || s.Initialized() {
		t.Errorf("reported: %q; lost: %v", told, s.Lost())
	}
	again, err := Open(g.dir, nas1, opt)
	g.must(err)
	defer again.Close()
	if again.Identity.ID() != ids[0] || !again.Initialized() || len(told) != 1 || again.Identity.Check() != nil {
		t.Errorf("opened again it is %q, reported %q", again.Identity.ID(), told)
	}
	if _, err := again.Volumes.Delete(t.Context(), "v1"); err != nil {
		t.Errorf("a volume that does not exist: %v", err)
	}
	for _, name := range g.names(".mooring") {
		if strings.HasPrefix(name, "format.") && name != formatFile {
			t.Errorf("%s is left", name)
		}
	}
}

// TestInitializedLater has an open share that was not laid out: that is not assumed forever.
func TestInitializedLater(t *testing.T) {
	g := emptyShare(t)
	s, err := Open(g.dir, nas1, Options{Maker: maker})
	g.must(err)
	defer s.Close()
	if s.Lost() {
		t.Error("it is lost at once")
	}
	s.opened = s.opened.Add(-remountInterval - time.Second)
	if s.Lost() {
		t.Error("it is lost without any request")
	}
	_ = s.Identity.Check()
	if !s.Lost() {
		t.Error("it is refused forever")
	}
	s.lost.Store(false)
	if s.opened = s.opened.Add(-layoutRecheckInterval); !s.Lost() {
		t.Error("it is not opened again")
	}
}

// TestConfiguredID opens exports whose id the registry has.
func TestConfiguredID(t *testing.T) {
	want := volume.NewShareID()
	pinned := nas1
	pinned.ID = want
	for what, c := range map[string]struct {
		format string
		says   []string // nil: it is opened
	}{
		"the right one": {`{"version": 1, "id": "` + want + `"}`, nil},
		"an empty disk": {"", []string{want, "nothing of Mooring's", "mounted on the server", "share forget nas1"}},
		"another disk":  {`{"version": 1, "id": "0b1c2d3e-0000-4000-8000-000000000000"}`, []string{want, "the share 0b1c2d3e-0000-4000-8000-000000000000", "set its id"}},
		"an older one":  {`{"version": 1}`, []string{want, "has none", "share reidentify nas1"}},
	} {
		g := emptyShare(t)
		if c.format != "" {
			g.put(".mooring/format.json", c.format)
		}
		before := g.listing()
		for _, opt := range []Options{{Maker: maker}, {Maker: maker, Initialize: true}, {ReadOnly: true}} {
			s, err := Open(g.dir, pinned, opt)
			switch {
			case c.says == nil && err == nil:
				s.Close()
			case c.says == nil:
				t.Errorf("%s: %v", what, err)
			default:
				g.wantError(what, err, volume.ErrPrecondition, c.says...)
			}
		}
		_, err := OpenInline(g.dir, pinned, true)
		if c.says != nil {
			g.wantError(what+" for a pod", err, volume.ErrPrecondition, c.says...)
			if d := diffLines(g.listing(), before); d != "" {
				t.Errorf("%s: it has changed\n%s", what, d)
			}
		}
		s, err := Open(g.dir, pinned, Options{Maker: maker, Initialize: true, AnyID: true})
		g.must(err)
		s.Close()
	}
}

// TestRenew gives a share another id: the rest of its format stays, and other processes notice.
func TestRenew(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "v1")
	other := g.withExpiredLease()
	text := strings.Replace(g.text(".mooring/format.json"), `"version": 1`, `"version": 1, "colour": "red"`, 1)
	g.must(os.WriteFile(g.at(".mooring/format.json"), []byte(text), 0o600))
	before, now, err := g.Identity.Renew(t.Context())
	g.must(err)
	if before != other.Identity.ID() || now == before || !g.Lost() || other.Lost() {
		t.Errorf("it is %q, and was %q", now, before)
	}
	if got := g.text(".mooring/format.json"); !strings.Contains(got, `"colour": "red"`) || !strings.Contains(got, now) || strings.Contains(got, before) {
		t.Errorf("the format is %s", got)
	}
	if err := other.Tidy(t.Context(), time.Hour); err != nil || !other.Lost() {
		t.Errorf("another does not notice: %v", err)
	}
	if s := g.nextRun(); s.Identity.ID() != now {
		t.Errorf("it is opened as %q", s.Identity.ID())
	}
	// A process that died has left a temporary format: it is ignored.
	if left, err := filepath.Glob(g.at(".mooring/format.*")); err != nil || len(left) != 1 {
		t.Errorf("left: %q", left)
	}
	g.put(".mooring/format.json", `{"version": 2, "requires": ["teleport"], "id": "`+now+`"}`)
	_, _, err = g.Identity.Renew(t.Context())
	g.wantError("what requires something", err, volume.ErrPrecondition, "teleport")
}

// TestRenewStops lets the process die before each step: the share has the old id, or the new one.
func TestRenewStops(t *testing.T) {
	for n := 1; n <= 3; n++ {
		g := newTestShare(t)
		a := &actor{testShare: g}
		a.killed(n, func(b *actor) error { _, _, err := b.Identity.Renew(t.Context()); return err })
		if s := g.nextRun(); s.Identity.ID() == "" || (s.Identity.ID() == g.Identity.ID()) != (n < 3) {
			t.Errorf("killed before step %d it is %q", n, s.Identity.ID())
		}
	}
}

// withoutID changes a share to one from before there were ids.
func withoutID(g *testShare) {
	g.Helper()
	g.must(os.WriteFile(g.at(".mooring/"+formatFile), []byte("{\n  \"version\": 1\n}\n"), 0o600))
}

// TestWithoutID uses a share from before there were ids: it gets one when something is created, and not
// before.
func TestWithoutID(t *testing.T) {
	g := newTestShare(t)
	g.create("v1", "v1")
	withoutID(g)
	before := g.names(".mooring")
	for _, opt := range []Options{{Maker: maker}, {Maker: maker, ReadOnly: true, Initialize: true}} {
		s, err := Open(g.dir, nas1, opt)
		g.must(err)
		defer s.Close()
		if !opt.ReadOnly {
			_, err = s.Volumes.Delete(t.Context(), "v1")
			g.must(err)
			g.must(s.Tidy(t.Context(), time.Hour))
		}
		if got := g.names(".mooring"); !slices.Equal(got, before) || s.Identity.ID() != "" || s.Lost() {
			t.Errorf("it got the id %q: %q", s.Identity.ID(), got)
		}
	}
	pinned := nas1
	pinned.ID = volume.NewShareID()
	_, err := Open(g.dir, pinned, Options{Maker: maker, Initialize: true})
	g.wantError("another is expected", err, volume.ErrPrecondition, "has none")
	other, err := Open(g.dir, nas1, Options{Maker: maker, OnInitialized: func(volume.Share, string) { t.Error("it is laid out again") }})
	g.must(err)
	defer other.Close()

	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() { ids[i], _ = other.Identity.LayOut(t.Context()) })
	}
	all.Wait()
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 || ids[0] == "" {
		t.Fatalf("the ids are %q", ids)
	}
	if got := g.text(".mooring/" + formatFile); strings.Contains(got, "id") {
		t.Errorf("the format is %s", got)
	}
	if s := g.nextRun(); s.Identity.ID() != ids[0] {
		t.Errorf("it is opened as %q", s.Identity.ID())
	}
	g.must(other.Tidy(t.Context(), time.Hour))
	if other.Identity.ID() != ids[0] || !other.Lost() {
		t.Errorf("a process that had it open has the id %q", other.Identity.ID())
	}
	was, now, err := g.nextRun().Identity.Renew(t.Context())
	g.must(err)
	if s := g.nextRun(); was != ids[0] || now == was || s.Identity.ID() != now {
		t.Errorf("it was %q, and is %q", was, s.Identity.ID())
	}
}

// TestBadID refuses an id that cannot be read.
func TestBadID(t *testing.T) {
	g := newTestShare(t)
	g.put(".mooring/"+formatFile, `{"version": 1, "id": "nas1"}`)
	_, err := Open(g.dir, nas1, Options{Maker: maker})
	g.wantError("a bad id", err, volume.ErrDamaged, `its id is "nas1"`, "restore .mooring/format.json", "backup")
	withoutID(g)
	g.put(".mooring/"+idFile, "{")
	_, err = Open(g.dir, nas1, Options{Maker: maker})
	g.wantError("a damaged id", err, volume.ErrDamaged, "remove .mooring/id.json")
	g.put(".mooring/"+idFile, "")
	if s := g.nextRun(); s.Identity.ID() == "" {
		t.Error("an empty format from a crash stays empty")
	}
}

// TestIDIsFirst stops a process before it links an id, and continues it after another process has linked one:
// that one stays.
func TestIDIsFirst(t *testing.T) {
	for what, prepare := range map[string]func(g *testShare){"not laid out": func(*testShare) {}, "without an id": func(g *testShare) {
		openTestShare(t, g.dir, Options{Maker: maker})
		withoutID(g)
	}} {
		g := emptyShare(t)
		prepare(g)
		other := func() string { return openTestShare(t, g.dir, Options{Maker: otherMaker}).Identity.ID() }
		first := ""
		step := func(step string) {
			if step == "link the format" {
				first = other()
			}
		}
		s, err := Open(g.dir, nas1, Options{Maker: maker, Initialize: true, Step: step})
		g.must(err)
		defer s.Close()
		if last := other(); first == "" || s.Identity.ID() != first || last != first {
			t.Errorf("%s: it is %q, then %q, then %q", what, first, s.Identity.ID(), last)
		}
	}
}

// TestAddIDStops lets the process die before each step: the share has no id, or one.
func TestAddIDStops(t *testing.T) {
	for n := 1; n <= 3; n++ {
		g := newTestShare(t)
		withoutID(g)
		a := &actor{testShare: g}
		a.killed(n, func(b *actor) error { _, err := b.Identity.LayOut(t.Context()); return err })
		s, err := Open(g.dir, nas1, Options{ReadOnly: true})
		g.must(err)
		defer s.Close()
		if (s.Identity.ID() == "") != (n < 3) {
			t.Errorf("killed before step %d it is %q", n, s.Identity.ID())
		}
	}
}
