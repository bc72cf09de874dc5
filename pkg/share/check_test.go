// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// checked runs a check on the share, opened read-only, with that lease. It calls between, if not nil, between
// the two inspections. It returns "severity path: message" of each problem.
func checked(g *testShare, lease time.Duration, between func()) (all []string) {
	g.Helper()
	s, err := Open(g.dir, nas1, Options{Maker: "ctl", ReadOnly: true, Lease: lease})
	g.must(err)
	defer s.Close()
	c := newCheck(s)
	c.wait = func(context.Context) error {
		if between != nil {
			between()
		}
		return nil
	}
	problems, err := c.run(g.Context())
	g.must(err)
	for _, p := range problems {
		if p.Remedy == "" {
			g.Errorf("%sno remedy: %+v", g.label, p)
		}
		all = append(all, p.Severity+" "+strings.TrimPrefix(p.Path, ".mooring/")+": "+p.Message)
	}
	return all
}

// goodShare has something of each kind, without a problem.
func goodShare(t *testing.T) *testShare {
	t.Helper()
	g := newTestShare(t)
	g.put("old/data", "of v3")
	g.put("lost+found/x", "")
	g.must(os.Remove(g.at("lost+found/x")))
	g.create("v1", "team/x/v1")
	g.create("v2", "v2")
	g.put("team/x/v1/data", "of v1")
	g.put("v2/data", "of v2")
	adopted := record("v3", "old")
	adopted.Adopt, adopted.Adopted = true, true
	clone := record("v4", "team/v4")
	clone.Source = sourceOf(volumeObject("v1"))
	for _, r := range []volume.Record{adopted, clone} {
		_, err := g.make(r)
		g.must(err)
	}
	_, err := g.createGroup("g1") // of v1 and v2: s1 and s2
	g.must(err)
	g.snapshot("s3", "v1")
	_, err = g.make(shallowRecord("v5", "s3"))
	g.must(err)
	g.createDeleted("v6", "v6")
	back := g.createDeleted("v7", "team/v7")
	_, err = g.Volumes.Restore(g.Context(), back, "")
	g.must(err)
	g.snapshot("s4", "v1")
	_, err = g.Snapshots.Delete(g.Context(), "s4", nil)
	g.must(err)
	_, err = g.setCapacity("v2", 7)
	g.must(err)
	archived := record("v8", "v8")
	archived.OnDelete = volume.Archive
	_, err = g.make(archived)
	g.must(err)
	g.delete("v8") // archived-v8 is empty
	g.must(os.MkdirAll(g.at(".mooring/inline/csi-1"), 0o700))
	return g
}

func TestCheckGood(t *testing.T) {
	g := goodShare(t)
	before := g.tree()
	for _, lease := range []time.Duration{0, expiredLease} {
		if got := checked(g, lease, nil); got != nil {
			t.Errorf("found\n\t%s", strings.Join(got, "\n\t"))
		}
	}
	if d := diffLines(g.tree(), before); d != "" {
		t.Errorf("a check has changed\n%s", d)
	}
	empty := openTestShare(t, scratchDir(t), Options{ReadOnly: true})
	if got := checked(empty, expiredLease, nil); got != nil {
		t.Errorf("found on an empty share: %q", got)
	}
}

// TestCheck breaks one thing at a time. Within the lease nothing in progress is reported.
func TestCheck(t *testing.T) {
	for _, w := range problemCases() {
		t.Run(w.name, func(t *testing.T) {
			g := goodShare(t)
			w.do(g)
			slices.Sort(w.finds)
			got := checked(g, expiredLease, nil)
			if !w.matches(got) {
				t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(w.finds, "\n\t"))
			}
		})
	}
}

// TestCheckOfLostServer ends calls of a check with EIO: it does not say that nothing is wrong.
func TestCheckOfLostServer(t *testing.T) {
	g := goodShare(t)
	g.Interrupted.Store(true)
	problems, err := newCheck(g.Share).run(t.Context())
	g.wantError("an interrupted check", err, volume.ErrUnavailable)
	if problems != nil {
		t.Errorf("it found %v", problems)
	}
}

// TestCheckRecent has what is in progress, or will be handled soon: it is not reported.
func TestCheckRecent(t *testing.T) {
	g := goodShare(t)
	g.mkdir(".mooring/volumes/v9")
	g.mkdir(".mooring/volumes/v1/deletion/change")
	g.put(".mooring/volumes/v2/deletion/copy.volume.v9."+someNonce, "")
	g.rename(".mooring/groups/g1/record.json", ".mooring/groups/g1/making.json")
	g.age(".mooring/groups/g1/making.json", groupTimeout/2)
	g.put(".mooring/claims/barred/taken", "")
	g.mkdir(".mooring/claims/noted/taken")
	g.put(".mooring/parents/c.noted", "")
	g.mkdir("made")
	g.put(".mooring/parents/d.made", "")
	g.mkdir(".mooring/claims/going/dead")
	clone := record("v10", "team/v10")
	clone.Source = sourceOf(volumeObject("v1"))
	p := g.begin(clone)
	g.must(p.MakeDirectory(t.Context()))
	_, err := p.BeginCopy(t.Context(), g.Share)
	g.must(err)
	all, err := g.Trash.List(t.Context())
	g.must(err)
	back := all[slices.IndexFunc(all, func(t TrashEntry) bool { return t.Key == "v6" })]
	restored := record("v6", "v6")
	restored.Restored = &volume.Restored{Entry: back.Name, Deleted: back.Deleted, Due: back.Due}
	p = g.begin(restored)
	g.must(p.MakeDirectory(t.Context()))
	g.must(g.Trash.stageTree(back.Name, p.e))
	if got := checked(g, 0, nil); len(got) > 0 {
		t.Errorf("found\n\t%s", strings.Join(got, "\n\t"))
	}
}

// TestCheckAnother has one problem in the first inspection and another in the second.
func TestCheckAnother(t *testing.T) {
	g := goodShare(t)
	g.removeAll("v2")
	got := checked(g, 0, func() {
		g.mkdir("v2")
		g.removeAll(".mooring/claims/v2")
	})
	if got != nil {
		t.Errorf("found %q", got)
	}
}

// TestCheckAgain changes what looks wrong between the two inspections: it is not reported.
func TestCheckAgain(t *testing.T) {
	for what, change := range map[string]func(g *testShare){
		"gone":              func(g *testShare) { g.removeAll(".mooring/volumes/v1"); g.removeAll(".mooring/claims/team/taken/x") },
		"shown to go on":    func(g *testShare) { g.age(".mooring/volumes/v1/making.json", -time.Second) },
		"committed":         func(g *testShare) { g.rename(".mooring/volumes/v1/making.json", ".mooring/volumes/v1/record.json") },
		"begun anew":        func(g *testShare) { g.edit(".mooring/volumes/v1/making.json", "capacity", "capacity") },
		"nothing, and told": nil,
	} {
		g := goodShare(t)
		g.rename(".mooring/volumes/v1/record.json", ".mooring/volumes/v1/making.json")
		between := change
		got := checked(g, expiredLease, func() {
			if between != nil {
				between(g)
			}
		})
		if (got == nil) != (change != nil) {
			t.Errorf("%s: found %q", what, got)
		}
	}
}

// TestCheckWaits waits for a third of the lease, and ends when its context does.
func TestCheckWaits(t *testing.T) {
	g := newTestShare(t)
	if err := g.Check(t.Context(), func(Problem) error { return nil }); err != nil {
		t.Errorf("a good share: %v", err)
	}
	g.must(os.Chmod(g.at(".mooring"), 0o755))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	g.wantError("in too short a time", g.Check(ctx, nil), volume.ErrTimeout)
	s := openTestShare(t, g.dir, Options{ReadOnly: true, Lease: time.Millisecond})
	enough := errors.New("enough")
	if err := s.Check(t.Context(), func(Problem) error { return enough }); err != enough {
		t.Errorf("a canceled check returns %v", err)
	}
}

// TestCheckFormat damages the format after the share was opened, because opening would refuse it.
func TestCheckFormat(t *testing.T) {
	g := newTestShare(t)
	s := openTestShare(t, g.dir, Options{ReadOnly: true, Lease: expiredLease})
	g.replace(".mooring/format.json", "{")
	var got []Problem
	g.must(s.Check(t.Context(), func(p Problem) error { got = append(got, p); return nil }))
	if len(got) != 1 || got[0].Severity != SeverityError || !strings.Contains(got[0].Message, "cannot be believed") {
		t.Errorf("found %+v", got)
	}
}

// TestCheckInterrupted ends a process before each step of each operation. Within the lease a check reports
// only notes, and after it no error: another process will continue all of it. After a retry there is no
// warning left.
func TestCheckInterrupted(t *testing.T) {
	for _, sc := range scenarios() {
		t.Run(sc.name, func(t *testing.T) {
			s := scenarioRun{t, sc, sameView}
			for n := 1; ; n++ {
				v, _, was := s.newShare()
				at := s.runKilled(v.first, was, n)
				if at == "" {
					break
				}
				g := &testShare{files: files{t, v.first, at + ": "}}
				severities(g, "within the lease", checked(g, 0, nil), "note ")
				severities(g, "past the lease", checked(g, expiredLease, nil), "note ", "warning ")
				s.open(v.other, at+", again: ", successorOptions["another instance"], func(a *actor) {
					a.was = was
					err := a.until(func() error { _, err := s.run(a); return err })
					_, jobs := a.Jobs.Abandoned(t.Context())
					a.must(errors.Join(err, jobs))
					severities(a.testShare, "after another try", checked(a.testShare, expiredLease, nil), "note ")
				})
			}
		})
	}
}

// severities fails the test if anything else was reported.
func severities(g *testShare, when string, got []string, want ...string) {
	g.Helper()
	for _, line := range got {
		if !slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(line, s) }) {
			g.Errorf("%s%s: %s", g.label, when, line)
		}
	}
}
