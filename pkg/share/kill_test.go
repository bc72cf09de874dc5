// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// scenarioRun runs a scenario on new shares.
type scenarioRun struct {
	*testing.T
	scenario
	fresh func(t *testing.T) views
}

// views are the paths of one share, which is empty at first, for two processes.
type views struct {
	first view // of the process that stops
	other view // of those that run in the meantime, or after it
}

// sameView returns a share that all processes see under the same path.
func sameView(t *testing.T) views {
	v := localView(scratchDir(t))
	return views{v, v}
}

// open opens a share, calls do with it, and closes it.
func (s scenarioRun) open(v view, label string, opt Options, do func(a *actor)) {
	s.Helper()
	if s.setProjects != nil {
		opt.beforeRename = refuseByProject
	}
	opt.Initialize = true
	sh, err := Open(v.dir, nas1, opt)
	if err != nil {
		s.Fatal(err)
	}
	defer sh.Close()
	do(&actor{testShare: &testShare{files: files{s.T, v, label}, Share: sh}})
}

// newShare returns a share with what the scenario needs, and its facts before the operation.
func (s scenarioRun) newShare() (v views, facts []string, was map[string]string) {
	s.Helper()
	v = s.fresh(s.T)
	if s.setProjects != nil {
		s.setProjects(s.T, v.first.server)
	}
	s.open(v.first, "", Options{Maker: "00000000"}, func(a *actor) {
		if s.prepare != nil {
			s.prepare(a.testShare)
		}
		facts, was = readFacts(a.testShare)
	})
	return v, facts, was
}

// runKilled runs the scenario's operation and ends its process before the n-th step. It returns the
// name of that step; "": the operation has fewer. No step follows it, not even in a deferred call.
func (s scenarioRun) runKilled(v view, was map[string]string, n int) (at string) {
	s.Helper()
	count := 0
	step := func(what string) {
		if count++; count == n {
			at = what
		}
		if count >= n && n > 0 {
			runtime.Goexit()
		}
	}
	done := make(chan struct{})
	s.open(v, "", Options{Maker: maker, Lease: expiredLease, Step: step}, func(a *actor) {
		count = 0 // without the steps of Open
		a.was = was
		go func() {
			defer close(done)
			_, err := s.run(a)
			if err != nil {
				s.Errorf("uninterrupted: %v", err)
			}
		}()
		<-done
	})
	return at
}

// successorOptions are the options of the processes that run after one that was killed.
var successorOptions = map[string]Options{
	"another instance": {Maker: otherMaker, Lease: expiredLease},
	"the next run":     {Maker: maker, Lease: expiredLease},
}

// TestKill ends a process before each step of each operation. Another process retries the
// operation, and must reach the same state as without an interruption; or does the opposite. After
// everything is deleted nothing may be left on the share.
func TestKill(t *testing.T) {
	var total atomic.Int64
	t.Cleanup(func() { t.Logf("%d operations, %d steps", len(scenarios()), total.Load()) })
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := scenarioRun{t, sc, sameView}
			v, _, was := s.newShare()
			s.runKilled(v.first, was, 0)
			want := s.runAfter(v.other, "uninterrupted", successorOptions["the next run"], nil)
			n := 1
			for ; ; n++ {
				v, _, was := s.newShare()
				at := s.runKilled(v.first, was, n)
				if at == "" {
					break
				}
				t.Logf("%2d %s", n, at)
				for who, opt := range successorOptions {
					label := at + ", then " + who
					v, _, was := s.newShare()
					s.runKilled(v.first, was, n)
					got := s.runAfter(v.other, label+" again: ", opt, func(a *actor) error {
						a.was = was
						_, err := s.run(a)
						return err
					})
					if d := diffLines(got, want); d != "" {
						t.Errorf("%s ends in another state:\n%s", label, d)
					}
					v, _, was = s.newShare()
					s.runKilled(v.first, was, n)
					s.runAfter(v.other, label+" the opposite: ", opt, func(a *actor) error {
						a.was = was
						return s.undo(a)
					})
				}
			}
			total.Add(int64(n - 1))
		})
	}
}

// volatilePaths matches what differs in harmless ways: claims, staging, holds of dead copies.
var volatilePaths = regexp.MustCompile(`^\.mooring/(claims/|staging/|.*/deletion/( |copy\.))`)

// runAfter lets a process do something after another was killed, and returns the state of the share
// then. At last it deletes everything.
func (s scenarioRun) runAfter(v view, label string, opt Options, do func(a *actor) error) (picture []string) {
	s.Helper()
	s.open(v, label, opt, func(a *actor) {
		for range 2 { // a repetition changes nothing
			if do == nil {
				break
			}
			if err := a.until(func() error { return do(a) }); err != nil {
				s.Errorf("%s%v", label, err)
			}
		}
		if _, err := a.Jobs.Abandoned(s.Context()); err != nil {
			s.Errorf("%s%v", label, err)
		}
		trash, err := a.Trash.List(s.Context())
		a.must(err)
		for _, t := range trash { // without what is purged at once
			if !t.hasTree || t.kind == volume.TrashLeftover {
				a.must(a.Trash.Purge(t, a.remove))
			}
		}
		for _, p := range a.listing() {
			if !volatilePaths.MatchString(p) {
				picture = append(picture, p)
			}
		}
		a.must(a.Directories.Walk(s.Context(), func(p PathState) error {
			key, err := a.Directories.Owner(s.Context(), p.Directory)
			if a.state(key) >= Making {
				picture = append(picture, p.Directory+" is that of "+key)
			}
			return err
		}))
	})
	s.open(v, label, Options{Maker: otherMaker, Lease: expiredLease}, func(a *actor) {
		a.deleteEverything(s.yields...)
	})
	return picture
}

// deleteEverything deletes everything. It fails the test if anything stays except empty directories
// and the files that an operation leaves to the user.
func (a *actor) deleteEverything(yields ...string) (l leftEmpty) {
	a.Helper()
	left := clearShare(a.testShare)
	// The claim of a dead volume is released when another volume wants the directory.
	for _, p := range left {
		claim, is := strings.CutSuffix(strings.TrimPrefix(p, ".mooring/claims/"), "/"+takenName)
		if !is || !strings.HasPrefix(p, ".mooring/claims/") {
			continue
		}
		l.claims++
		if err := a.makeSuccessor("last", strings.ReplaceAll(claim, "/"+takenName+"/", "/")); err != nil {
			a.Errorf("%s%v", a.label, err)
		}
	}
	for _, p := range a.tree() {
		if strings.HasPrefix(p, ".mooring") {
			continue
		}
		file := p[strings.LastIndexByte(p, '/')+1:]
		switch {
		case file == "":
			if len(a.names(p)) == 0 {
				l.directories++
			}
		case strings.HasPrefix(file, "precious-"): // in an adopted directory
		case !slices.Contains(yields, file):
			a.Errorf("%sin the end there is %s", a.label, p)
		}
	}
	for _, name := range a.names(".") {
		if name != ".mooring" {
			a.must(os.RemoveAll(filepath.Join(a.dir, name)))
		}
	}
	for _, p := range clearShare(a.testShare) {
		if strings.HasPrefix(p, ".mooring/claims/") && strings.HasSuffix(p, "/") {
			l.ours++
			continue
		}
		a.Errorf("%sin the end there is %s", a.label, p)
	}
	a.must(a.Check(a.Context(), func(p Problem) error {
		a.Errorf("%sin the end there is a problem: %+v", a.label, p)
		return nil
	}))
	return l
}

// leftEmpty counts what may stay in the end: empty directories that a late process has made, on the
// share and among the claims, and claims of dead volumes, which are harmless.
type leftEmpty struct{ directories, ours, claims int }

func (l *leftEmpty) add(more leftEmpty) {
	l.directories += more.directories
	l.ours += more.ours
	l.claims += more.claims
}
