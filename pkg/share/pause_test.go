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

// stopPoint is the moment before the n-th step of an operation, or before the first step of a name.
type stopPoint struct {
	n    int
	step string
}

// pause stops a process at a stopPoint until it is released.
type pause struct {
	stopPoint
	count        int
	at           string // the name of the step
	there, going chan struct{}
}

func newPause(m stopPoint) *pause {
	return &pause{stopPoint: m, there: make(chan struct{}), going: make(chan struct{})}
}

func (p *pause) ahead(what string) {
	if p.count++; p.at == "" && (p.count == p.n || what == p.step) {
		p.at = what
		close(p.there)
		<-p.going
	}
}

// TestPause stops an operation before each of its steps. In the meantime another process does the
// same, the opposite, or more; for it every lease has expired. Then the first continues. That must
// not change any file of a successor; the result of the first must have been true at some instant;
// and after everything is deleted nothing of Mooring may be left.
func TestPause(t *testing.T) {
	var mu sync.Mutex
	var pairs, cases int
	var total leftEmpty
	t.Cleanup(func() { t.Logf("%d pairs, %d steps; left in the end: %+v", pairs, cases, total) })
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := scenarioRun{t, sc, sameView}
			for _, d := range slices.Concat([]action{{"nothing", func(*actor) error { return nil }}}, sc.actions()) {
				n := 1
				var l leftEmpty
				for s.runPaused(stopPoint{n: n}, d, &l) {
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

// actions are all actions of other processes in a scenario.
func (sc scenario) actions() []action {
	again := func(a *actor) error {
		return a.until(func() error { _, err := sc.run(a); return err })
	}
	return append([]action{
		{"the same", again},
		{"the opposite", sc.undo},
		{"the opposite, the same", func(a *actor) error { return errors.Join(sc.undo(a), again(a)) }},
	}, sc.others...)
}

// expectedErrors are the kinds of error of an operation that another process was faster than.
var expectedErrors = []error{volume.ErrBusy, volume.ErrNotFound, volume.ErrPrecondition, volume.ErrExists}

// runPaused stops the scenario's operation, and lets another process act in the meantime. stopped
// is false if the operation does not reach that moment.
func (s scenarioRun) runPaused(m stopPoint, d action, l *leftEmpty) (stopped bool) {
	s.Helper()
	v, before, was := s.newShare()
	p := newPause(stopPoint{})
	s.open(v.first, "", Options{Maker: maker, Lease: expiredLease, Step: p.ahead}, func(a *actor) {
		before := history{[][]string{before}, a.copies("data", "of v1")}
		*p = *newPause(m)
		a.was = was
		done := make(chan struct{})
		var told outcome
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
		s.open(v.other, label, Options{Maker: otherMaker, Lease: expiredLease}, func(b *actor) {
			b.was = maps.Clone(was)
			s.runMeanwhile(b, d, before, func() outcome {
				close(p.going)
				<-done
				told.purged = a.purged
				return told
			})
		})
		s.open(v.other, label, Options{Maker: "33333333", Lease: expiredLease}, func(c *actor) {
			l.add(c.deleteEverything(s.yields...))
		})
	})
	return stopped
}

// outcome is the result of an operation.
type outcome struct {
	fact   string
	err    error
	purged bool // the operation itself has purged what there was
}

// history has the facts of a share, at one instant after the other.
type history struct {
	at  [][]string
	had int // the number of files of the volume v1
}

// runMeanwhile lets b act while an operation is stopped, and then releases the operation. It checks
// the result on the server.
func (s scenarioRun) runMeanwhile(b *actor, d action, before history, goOn func() outcome) {
	s.Helper()
	s.open(localView(b.server), b.label, Options{ReadOnly: true}, func(eye *actor) {
		at, had := before.at, before.had
		look := func() {
			dropCaches()
			facts, nonces := readFacts(eye.testShare)
			at = append(at, facts)
			maps.Copy(b.was, nonces)
		}
		look()
		if err := d.do(b); err != nil {
			s.Errorf("%sthe other process fails: %v", b.label, err)
		}
		look()
		told := goOn()
		look()
		if told.err == nil && !slices.ContainsFunc(at, func(facts []string) bool { return isTrue(told.fact, facts) }) {
			s.Errorf("%sit succeeds, but %q was never true: %q", b.label, told.fact, at)
		}
		if told.err != nil && !slices.Contains(expectedErrors, volume.Kind(told.err)) {
			s.Errorf("%sthe operation fails: %v", b.label, told.err)
		}
		for _, id := range reappeared(at) {
			s.Errorf("%s%s exists again: %q", b.label, id, at)
		}
		if has := eye.copies("data", "of v1"); has > had || has < had && !told.purged && !b.purged {
			s.Errorf("%sthe volume's file is there %d times, before it was %d", b.label, has, had)
		}
		eye.successors, eye.empties, eye.snapshots = b.successors, b.empties, b.snapshots
		eye.checkSuccessors()
	})
}

// reappeared returns what was gone or being deleted at one instant, and existed at a later one.
func reappeared(at [][]string) (ids []string) {
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

// copies returns how many files of a name have a text.
func (a *actor) copies(name, text string) (n int) {
	for _, p := range a.find(name) {
		if a.text(p) == text {
			n++
		}
	}
	return n
}

// checkSuccessors fails the test unless each successor is as it was made, with its file in its
// place and nowhere else, and no directory belongs to two volumes.
func (a *actor) checkSuccessors() {
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
