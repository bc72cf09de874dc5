// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
)

// TestServer starts the server in MOORING_SERVER, and tests it with each version, or with that in
// MOORING_SERVER_RUN. "make servers" runs it in a guest, once for each server.
func TestServer(t *testing.T) {
	name, only := os.Getenv("MOORING_SERVER"), os.Getenv("MOORING_SERVER_RUN")
	if name == "" {
		t.Skip("MOORING_SERVER does not say which: run this by make servers")
	}
	i := slices.IndexFunc(servers, func(s server) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no server %q", name)
	}
	s := servers[i]
	g := newGuest(t, s)
	g.must("up")
	kept, err := read(os.Getenv("MOORING_LAB_WRITE"), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.runs {
		if only != "" && only != r.name() {
			continue
		}
		out := &result{Server: s.name, Title: s.title, Run: r.name(), Options: r.all()}
		t.Run(r.name(), func(t *testing.T) {
			judge(t, g, r, out)
			out.compare(t, r.want)
		})
		kept = s.with(kept, out)
		if err := write(os.Getenv("MOORING_LAB_WRITE"), name, kept); err != nil {
			t.Fatal(err)
		}
	}
}

// judge runs the parts of a run, one after the other, each on a share of its own.
func judge(t *testing.T, g *guest, r try, out *result) {
	ground.DelegateDirectories(!r.noDelegations)
	g.doctor(t, r, out)
	parts := []struct {
		name string
		do   func(*site)
	}{
		{"life", life}, {"fidelity", fidelity}, {"sanity", conforms}, {"outage", outage},
	}
	for _, part := range parts {
		if r.hopeless && part.name != "life" || r.forgets && part.name == "outage" {
			continue
		}
		t.Run(part.name, func(t *testing.T) {
			s := g.site(t, r, out, part.name)
			defer s.end()
			part.do(s)
		})
		if out.Create == 0 && len(out.Broken) > 0 { // a volume cannot be made
			return
		}
	}
	// TestPauseOnNFS does it on the lab's server, whose own view of the files cannot be out of date.
	if !r.hopeless && !strings.HasPrefix(g.server.name, "knfsd-") {
		t.Run("paused", func(t *testing.T) { paused(t, g, r, out) })
	}
}

// compare fails the test if a result is not the expected one.
func (r *result) compare(t *testing.T, want want) {
	t.Helper()
	changed, lost := r.Changed, r.Lost
	if want.anyTimes {
		changed, lost = withoutMtimes(changed), withoutMtimes(lost)
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{
		{"what the doctor says", r.Doctor, want.doctor},
		{"what the server refuses", r.Refused, want.refused},
		{"what the server does not keep", changed, want.changed},
		{"what a clone loses", lost, want.lost},
		{"what fails of csi-sanity", r.Sanity.failures(), want.failures},
	} {
		if len(c.got)+len(c.want) > 0 && !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s is\n\t%q\nand expected is\n\t%q", c.what, c.got, c.want)
		}
	}
	if !slices.Contains(strings.Split(want.method, " or "), r.Method) {
		t.Errorf("files are copied by %q, and expected is %q", r.Method, want.method)
	}
	for _, broken := range r.Broken {
		if !slices.ContainsFunc(slices.Concat(want.broken, want.maybe), func(part string) bool { return strings.Contains(broken, part) }) {
			t.Errorf("broken: %s", broken)
		}
	}
	for _, part := range want.broken {
		if !slices.ContainsFunc(r.Broken, func(broken string) bool { return strings.Contains(broken, part) }) {
			t.Errorf("it is not broken any more that %q", part)
		}
	}
}

func withoutMtimes(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(text string) bool { return strings.HasPrefix(text, "mtime: ") })
}
