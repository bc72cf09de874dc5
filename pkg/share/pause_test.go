// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// moment is that before the n-th step of an operation, or before the first that is called so.
type moment struct {
	n    int
	step string
}

// pause stops a process at a moment, until it is told to go on.
type pause struct {
	moment
	count        int
	at           string // the name of the step
	there, going chan struct{}
}

func newPause(m moment) *pause {
	return &pause{moment: m, there: make(chan struct{}), going: make(chan struct{})}
}

func (p *pause) ahead(what string) {
	if p.count++; p.at == "" && (p.count == p.n || what == p.step) {
		p.at = what
		close(p.there)
		<-p.going
	}
}

// TestPause stops an operation before each of its steps. Meanwhile another process does the same,
// the opposite, or more; to it every lease has run out. Then the first goes on. No file of a
// successor may be touched by that, the answer of the first must be true of some instant, and
// when everything is deleted in the end nothing of ours may be left.
func TestPause(t *testing.T) {
	var mu sync.Mutex
	var pairs, cases int
	var total litter
	t.Cleanup(func() { t.Logf("%d pairs, %d steps; left in the end: %+v", pairs, cases, total) })
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := stage{t, sc, inMemory}
			for _, d := range slices.Concat([]deed{{"nothing", func(*actor) error { return nil }}}, sc.deeds()) {
				n := 1
				var l litter
				for s.paused(moment{n: n}, d, &l) {
					n++
				}
				t.Logf("%s / %s: %d steps; left in the end: %+v", sc.name, d.name, n-1, l)
				mu.Lock()
				pairs, cases = pairs+1, cases+n-1
				total.add(l)
				mu.Unlock()
			}
		})
	}
}

// deeds are all that others do in a scenario.
func (sc scenario) deeds() []deed {
	again := func(a *actor) error {
		return a.until(func() error { _, err := sc.run(a); return err })
	}
	return append([]deed{
		{"the same", again},
		{"the opposite", sc.undo},
		{"the opposite, the same", func(a *actor) error { return errors.Join(sc.undo(a), again(a)) }},
	}, sc.others...)
}

// overtaken are the kinds of error of an operation that another has come before.
var overtaken = []error{volume.ErrBusy, volume.ErrNotFound, volume.ErrPrecondition, volume.ErrExists}

// paused stops the scenario's operation, and has another do something meanwhile. It reports false
// where the operation does not come to that moment.
func (s stage) paused(m moment, d deed, l *litter) (stopped bool) {
	s.Helper()
	v, before, was := s.prepared()
	p := newPause(moment{})
	s.open(v.first, "", Options{Maker: maker, Lease: over, Step: p.ahead}, func(a *actor) {
		before := history{[][]string{before}, a.copies("data", "of v1")}
		*p = *newPause(m)
		a.was = was
		done := make(chan struct{})
		var told answer
		go func() {
			defer close(done)
			told.fact, told.err = s.run(a)
		}()
		select {
		case <-p.there:
			stopped = true
		case <-done:
			return
		}
		label := fmt.Sprintf("%s stops before step %d, %q; meanwhile %s: ", s.name, p.count, p.at, d.name)
		s.open(v.other, label, Options{Maker: stranger, Lease: over}, func(b *actor) {
			b.was = maps.Clone(was)
			s.overtakes(b, d, before, func() answer {
				close(p.going)
				<-done
				told.purged = a.purged
				return told
			})
		})
		s.open(v.other, label, Options{Maker: "33333333", Lease: over}, func(c *actor) {
			l.add(c.cleared(s.yields...))
		})
	})
	return stopped
}

// answer is what comes of an operation.
type answer struct {
	fact   string
	err    error
	purged bool // what there was, by the operation itself
}

// history is what there was on a share, at one instant after the other.
type history struct {
	at  [][]string
	had int // so many files of the volume v1
}

// overtakes has b do something while an operation is stopped, and that go on then. What has come
// of it is looked at where the server sees it.
func (s stage) overtakes(b *actor, d deed, before history, goOn func() answer) {
	s.Helper()
	s.open(local(b.server), b.label, Options{ReadOnly: true}, func(eye *actor) {
		at, had := before.at, before.had
		look := func() {
			facts, nonces := factsOf(eye.ground)
			at = append(at, facts)
			maps.Copy(b.was, nonces)
		}
		look()
		if err := d.do(b); err != nil {
			s.Errorf("%sthat fails: %v", b.label, err)
		}
		look()
		told := goOn()
		look()
		if told.err == nil && !slices.ContainsFunc(at, func(facts []string) bool { return isTrue(told.fact, facts) }) {
			s.Errorf("%sit succeeds, but %q was never true: %q", b.label, told.fact, at)
		}
		if told.err != nil && !slices.Contains(overtaken, volume.Kind(told.err)) {
			s.Errorf("%sit fails: %v", b.label, told.err)
		}
		for _, id := range revived(at) {
			s.Errorf("%s%s exists again: %q", b.label, id, at)
		}
		if has := eye.copies("data", "of v1"); has > had || has < had && !told.purged && !b.purged {
			s.Errorf("%sthe volume's file is there %d times, before it was %d", b.label, has, had)
		}
		eye.successors, eye.empties, eye.snapshots = b.successors, b.empties, b.snapshots
		eye.untouched()
	})
}

// revived returns what was gone, or being deleted, at one instant and was there at a later one.
func revived(at [][]string) (ids []string) {
	over := map[string]bool{}
	for i, facts := range at {
		if i == 0 {
			continue
		}
		for _, f := range at[i-1] {
			id, ready := strings.CutSuffix(f, " is ready")
			if ready && !slices.Contains(facts, f) {
				over[id] = true
			}
		}
		for id := range over {
			if slices.Contains(facts, id+" is ready") {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// copies returns how many files of a name hold a text.
func (a *actor) copies(name, text string) (n int) {
	for _, p := range a.find(name) {
		if a.text(p) == text {
			n++
		}
	}
	return n
}

// untouched fails the test unless each of the successors stands as it was made, with its file in
// its place and nowhere else, and no directory is that of two volumes.
func (a *actor) untouched() {
	a.Helper()
	for _, s := range a.successors {
		r, err := a.Volumes.Lookup(a.Context(), s.key)
		if err != nil || r.State != Ready || r.Nonce != s.nonce || r.Directory != s.directory {
			a.Errorf("%sthe successor %+v is %+v, %v", a.label, s, r, err)
			continue
		}
		file := "precious-" + s.nonce
		if got := a.find(file); len(got) != 1 || got[0] != s.directory+"/"+file || a.text(got[0]) != s.text() {
			a.Errorf("%sthe file of the successor %+v is at %q", a.label, s, got)
		}
	}
	for _, directory := range a.empties {
		if !a.has(directory) {
			a.Errorf("%sthe directory %q of a successor is gone", a.label, directory)
		}
	}
	for _, nonce := range a.snapshots {
		if r, err := a.Snapshots.Lookup(a.Context(), "s1"); err != nil || r.Nonce != nonce {
			a.Errorf("%sthe successor of the snapshot is %+v, %v", a.label, r, err)
		}
	}
	keys, err := a.Volumes.Keys(a.Context())
	a.must(err)
	has := map[string]string{}
	for _, key := range keys {
		r, err := a.Volumes.Lookup(a.Context(), key)
		if err != nil || r.State != Ready || r.Shallow {
			continue
		}
		if other := has[r.Directory]; other != "" {
			a.Errorf("%sthe directory %q is that of %s and %s", a.label, r.Directory, other, key)
		}
		has[r.Directory] = key
		if owner, err := a.Directories.Owner(a.Context(), r.Directory); err != nil || owner != key {
			a.Errorf("%sthe claim on %q is that of %q, not of %s (%v)", a.label, r.Directory, owner, key, err)
		}
	}
}
