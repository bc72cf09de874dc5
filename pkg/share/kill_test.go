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

// stage runs a scenario on shares of their own.
type stage struct {
	*testing.T
	scenario
	fresh func(t *testing.T) views
}

// views are of one share, which is empty at first.
type views struct {
	first view // of the process that is stopped
	other view // of those that come meanwhile, or after it
}

// inMemory is a share that all see in the same place.
func inMemory(t *testing.T) views {
	v := local(scratch(t))
	return views{v, v}
}

// open opens a share and calls do with it; then it is closed.
func (s stage) open(v view, label string, opt Options, do func(a *actor)) {
	s.Helper()
	if s.lay != nil {
		opt.beforeRename = projects
	}
	opt.Initialize = true
	sh, err := Open(v.dir, nas1, opt)
	if err != nil {
		s.Fatal(err)
	}
	defer sh.Close()
	do(&actor{ground: &ground{files: files{s.T, v, label}, Share: sh}})
}

// prepared returns a share with what the scenario needs, and what there is then.
func (s stage) prepared() (v views, facts []string, was map[string]string) {
	s.Helper()
	v = s.fresh(s.T)
	if s.lay != nil {
		s.lay(s.T, v.first.server)
	}
	s.open(v.first, "", Options{Maker: "00000000"}, func(a *actor) {
		if s.prepare != nil {
			s.prepare(a.ground)
		}
		facts, was = factsOf(a.ground)
	})
	return v, facts, was
}

// killed runs the scenario's operation and ends its process before the n-th step. It returns the
// name of that; "": there are fewer. No step comes after it, in no deferred call either.
func (s stage) killed(v view, was map[string]string, n int) (at string) {
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
	s.open(v, "", Options{Maker: maker, Lease: over, Step: step}, func(a *actor) {
		count = 0 // without those of the opening
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

// survivors are the processes that come after one that was killed.
var survivors = map[string]Options{
	"another instance": {Maker: stranger, Lease: over},
	"the next run":     {Maker: maker, Lease: over},
}

// TestKill ends a process before each step of each operation. Another tries the same again, and
// has to come to where one that was not interrupted comes to; or does the opposite. When
// everything is deleted in the end nothing must be left on the share.
func TestKill(t *testing.T) {
	var total atomic.Int64
	t.Cleanup(func() { t.Logf("%d operations, %d steps", len(scenarios()), total.Load()) })
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := stage{t, sc, inMemory}
			v, _, was := s.prepared()
			s.killed(v.first, was, 0)
			want := s.after(v.other, "uninterrupted", survivors["the next run"], nil)
			n := 1
			for ; ; n++ {
				v, _, was := s.prepared()
				at := s.killed(v.first, was, n)
				if at == "" {
					break
				}
				t.Logf("%2d %s", n, at)
				for who, opt := range survivors {
					label := at + ", then " + who
					v, _, was := s.prepared()
					s.killed(v.first, was, n)
					got := s.after(v.other, label+" again: ", opt, func(a *actor) error {
						a.was = was
						_, err := s.run(a)
						return err
					})
					if d := differ(got, want); d != "" {
						t.Errorf("%s comes to something else:\n%s", label, d)
					}
					v, _, was = s.prepared()
					s.killed(v.first, was, n)
					s.after(v.other, label+" the opposite: ", opt, func(a *actor) error {
						a.was = was
						return s.undo(a)
					})
				}
			}
			total.Add(int64(n - 1))
		})
	}
}

// passing is what is looked at in another way, or goes when somebody comes across it: claims,
// what is in staging, holds of dead copies.
var passing = regexp.MustCompile(`^\.mooring/(claims/|staging/|.*/deletion/( |copy\.))`)

// after has a process do what is to be done after another was killed, and returns what is on
// the share then. In the end it deletes everything.
func (s stage) after(v view, label string, opt Options, do func(a *actor) error) (picture []string) {
	s.Helper()
	s.open(v, label, opt, func(a *actor) {
		for range 2 { // once more changes nothing
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
		for _, t := range trash { // what nobody wants to keep
			if !t.hasTree || t.kind == volume.TrashLeftover {
				a.must(a.Trash.Purge(t, a.remove))
			}
		}
		for _, p := range a.picture() {
			if !passing.MatchString(p) {
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
	s.open(v, label, Options{Maker: stranger, Lease: over}, func(a *actor) {
		a.cleared(s.yields...)
	})
	return picture
}

// cleared deletes everything and fails the test where anything else stays than empty directories,
// and the files that an operation leaves to the user.
func (a *actor) cleared(yields ...string) (l litter) {
	a.Helper()
	left := clearShare(a.ground)
	// A claim of a volume that is dead goes when another wants the directory.
	for _, p := range left {
		claim, is := strings.CutSuffix(strings.TrimPrefix(p, ".mooring/claims/"), "/"+takenName)
		if !is || !strings.HasPrefix(p, ".mooring/claims/") {
			continue
		}
		l.claims++
		if err := a.succeed("last", strings.ReplaceAll(claim, "/"+takenName+"/", "/")); err != nil {
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
		case strings.HasPrefix(file, "precious-"): // of one that was adopted
		case !slices.Contains(yields, file):
			a.Errorf("%sin the end there is %s", a.label, p)
		}
	}
	for _, name := range a.names(".") {
		if name != ".mooring" {
			a.must(os.RemoveAll(filepath.Join(a.dir, name)))
		}
	}
	for _, p := range clearShare(a.ground) {
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

// litter is what may stay in the end: empty directories that a late process has made, on the
// share and among the claims, and claims of dead volumes, which are in nobody's way.
type litter struct{ directories, ours, claims int }

func (l *litter) add(more litter) {
	l.directories += more.directories
	l.ours += more.ours
	l.claims += more.claims
}
