// SPDX-License-Identifier: Apache-2.0

package model

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	full   = flag.Bool("full", false, "explore every scenario, with processes that stop at any time")
	states = flag.Int("states", 10000, "with -full: how many states of a scenario at most; 0: all")
)

// get returns the scenario of a name.
func get(t *testing.T, name string, p plan) scenario {
	t.Helper()
	for _, s := range scenarios() {
		if s.name == name {
			s.plan = p
			return s
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return scenario{}
}

// sound fails the test if there is a violation.
func sound(t *testing.T, s scenario) report {
	t.Helper()
	rep := s.explore()
	if rep.violation != "" {
		t.Errorf("%s: %s\n%s", s.name, rep.violation, strings.Join(rep.trail, "\n"))
	}
	return rep
}

// violated fails the test if there is none.
func violated(t *testing.T, s scenario, want string) {
	t.Helper()
	rep := s.explore()
	if !strings.Contains(rep.violation, want) {
		t.Errorf("%s: in %d states it was not found that %s; but: %q\n%s", s.name, rep.states, want, rep.violation, strings.Join(rep.trail, "\n"))
	}
	t.Logf("%s: %d states, %d steps: %s", s.name, rep.states, len(rep.trail)-1, rep.violation)
	if *full {
		t.Log(strings.Join(rep.trail, "\n"))
	}
}

// A pass is a bound of the exploration of all scenarios.
type pass struct {
	name  string
	full  bool // in the full run; else in the short one
	bound func(*scenario)
}

var passes = []pass{
	{"one interruption, no second call, one process after the other", false, func(s *scenario) {
		s.cuts, s.budget, s.inOrder, s.limit = 1, 0, true, 250
	}},
	{"one interruption", true, func(s *scenario) { s.cuts = 1 }},
	{"two interruptions, no second call", true, func(s *scenario) { s.cuts, s.budget, s.limit = 2, 0, 3**states }},
	{"any number of interruptions", true, func(s *scenario) { s.limit = *states }},
}

// TestCode explores the protocol of pkg/share.
func TestCode(t *testing.T) {
	for _, p := range passes {
		if p.full != *full {
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			explored, whole, all := 0, 0, scenarios()
			for _, s := range all {
				p.bound(&s)
				start := time.Now()
				rep := sound(t, s)
				explored += rep.states
				if rep.whole {
					whole++
				}
				t.Logf("%s: %d states, %d ends, all of them: %v, %v; left at how many ends: %v", s.name, rep.states, rep.ends, rep.whole, time.Since(start).Round(time.Millisecond), rep.strays)
			}
			t.Logf("%d states of %d scenarios, %d of which were explored to their end", explored, len(all), whole)
		})
	}
}

// forms are simpler protocols, with the scenario in which each of them fails, the number of
// interruptions, and the violation. Most are in the table "Why not something simpler" in docs/design.md.
var forms = []struct {
	name, in string
	cuts     uint8
	again    uint8 // number of calls that are executed a second time
	plan     plan
	bad      string
	ends     bool // the violation is what is left when all processes have stopped forever
	slow     bool // only in the full run
}{
	{"a lock, or a lease", "a1", 2, 0, plan{lease: true}, "volume 2, which is live: its directory is not in its place", false, false},
	{"compare before", "a1", 2, 0, plan{comparesOld: true}, "volume 2, which is live: its directory is not in its place", false, false},
	{"compare afterwards, and put back", "a1", 2, 0, plan{comparesNew: true}, "volume 2, which is live: its directory is not in its place", false, false},
	{"the claim as one file", "a1", 2, 0, plan{claimFile: true}, "volume 2, which is live: its claim is not there", false, false},
	{"the claim is released first", "a1", 3, 0, plan{claimFirst: true}, "volume 2, which is live: its directory is not in its place", false, true},
	{"the claim is released, whatever became of the entry", "a5", 2, 0, plan{unchecked: true}, "volume 2, which is live: its directory is not in its place", false, true},
	{"mkdir in the place, then open", "c1", 2, 1, plan{inPlace: true}, "is gone by a step of process", false, true},
	{"one mark for deletion and undo", "c6", 2, 0, plan{oneMark: true}, "what a stranger has is taken for a volume's", false, false},
	{"delete what is found at the retry", "b1", 2, 0, plan{anyNonce: true}, "volume 2 is gone by a step of process", false, false},
	{"take the directory at each retry", "a6", 2, 0, plan{takesAgain: true}, "what a stranger has is taken for a volume's", false, false},
	{"remove whatever is in the entry", "a4", 3, 0, plan{clearsAll: true}, "what a stranger has is taken for a volume's", false, true},
	{"a lock beside the record", "e1", 2, 0, plan{lockBeside: true}, "volume 1 lives again", false, false},
	{"a hold without a look after it", "f5", 2, 0, plan{holdsBlind: true}, "volume 2, which is live: its snapshot is gone", false, false},
	{"a copy whose hold was lost", "f8", 2, 0, plan{holdLost: true}, "volume 2, which is live: it has the data of 0", false, true},
	{"a link says that it is placed", "d7", 2, 0, plan{linksPlaced: true}, "volume 2, which is live: its directory is not in its place", false, false},
	{"one name for what comes in and what goes out", "d4", 2, 1, plan{oneName: true}, "the data of volume 1 is lost", false, true},
	{"an undo looks at the directory first", "d7", 2, 0, plan{dirFirst: true}, "the data of volume 1 is lost", false, false},
	{"an undo that does not write down what it did", "f7", 2, 0, plan{unnoted: true}, "what a stranger has is taken for a volume's", false, false},
	{"an undone restore under its old name", "d7", 2, 1, plan{oldName: true}, "there still is trash/tree1", true, true},
	{"an owner without a look at the entry", "c5", 2, 0, plan{chownsLate: true}, "the directory of volume 2 gets another owner", false, false},
	{"a parent in another's claim", "h6", 4, 0, plan{anyParent: true}, "volume 1, which is live: its directory is not in its place", false, true},
	{"an undo that looks, and then closes the stage", "d5", 3, 0, plan{looksFirst: true}, "there still is trash/stray1", true, true},
	{"a parent in a directory of claims is left there", "h2", 3, 0, plan{leavesDead: true}, "volume 1 cannot be made", true, true},
	{"a hold whose answer is lost, without a look", "f5", 2, 1, plan{trustsHold: true}, "volume 2, which is live: its snapshot is gone", false, true},
	{"a directory that is found is not replaced", "c7", 4, 0, plan{adoptsFound: true}, "the directory of volume 2 gets another owner", false, true},
	{"holds are removed, and the record gets their name", "e1", 2, 1, plan{unsealed: true}, "the data of volume 1 is lost", false, false},
	{"a directory that cannot be moved is removed by rmdir", "k1", 2, 0, plan{removesKept: true}, "volume 2, which is live: its directory is not in its place", false, true},
	{"a purge in place that does not say so", "k3", 3, 0, plan{purgesUnsaid: true}, "the data of volume 1 is lost", false, true},
	{"a claim is removed in an entry from where its maker renames it", "c7", 4, 0, plan{refusesInPlace: true}, "the directory of volume 2 gets another owner", false, true},
	{"a purge in place that overlooks what was taken", "k3", 2, 0, plan{overlooksTaken: true}, "there still is trash/stray1", true, true},
}

func TestForms(t *testing.T) {
	var plans []plan
	for _, f := range forms {
		if slices.Contains(plans, f.plan) {
			t.Errorf("%s: twice", f.name)
		}
		plans = append(plans, f.plan)
		t.Run(f.name, func(t *testing.T) {
			if f.slow && !*full {
				t.Skip("in the full run")
			}
			s := get(t, f.in, f.plan)
			s.cuts, s.budget, s.endless, s.inOrder = f.cuts, f.again, !f.ends, true
			violated(t, s, f.bad)
		})
	}
}

// limits are the faults that pkg/share does not survive, each with a repair. They are known, and excused
// in TestCode. One that is repaired in pkg/share moves to forms.
var limits = []struct {
	name, in string
	cuts     uint8
	slow     bool        // only in the full run
	mend     func(*plan) // removes the repair
	bad      string
}{
	{"a second mkdir of the stage: a tree lies too deep in the trash, and is not listed", "d7", 2, true,
		func(p *plan) { p.stageByHandle = false }, "there still is trash/stray1"},
	{"a second mkdir of the staging directory: a copy stays in its place and is nobody's", "f2", 2, true,
		func(p *plan) { p.copiesAside = false }, "there still is /dir2"},
	{"a second mkdir of a parent's mark: a parent with a live volume in it is taken away", "h1", 4, true,
		func(p *plan) { p.marksByRename = false }, "volume 1, which is live: its directory is not in its place"},
}

func TestLimits(t *testing.T) {
	for _, l := range limits {
		t.Run(l.name, func(t *testing.T) {
			if l.slow && !*full {
				t.Skip("in the full run")
			}
			p := mended
			l.mend(&p)
			s := get(t, l.in, p)
			s.cuts, s.strict, s.inOrder = l.cuts, true, !l.slow
			violated(t, s, l.bad)
			if *full {
				s.plan, s.limit = mended, *states
				sound(t, s)
			}
		})
	}
}
