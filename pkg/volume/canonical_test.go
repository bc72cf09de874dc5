// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
)

// spellings are shares with several spellings of each, and with similar names of other exports.
var spellings = []struct {
	share  Share
	same   []string
	others []string
}{
	{
		Share{Name: "nas1", Servers: []string{"nas.example.org"}, Path: "/a/b"},
		[]string{"nas1", "nas.example.org:/a/b", "NAS.Example.org:/a/b", "nas.example.org.:/a/b", "nas.example.org:/a/b/", "nas.example.org://a//b"},
		[]string{"nas", "NAS1", "nas:/a/b", "nas.example.org:/A/b", "nas.example.org:/a", "nas.example.org:/a/b/c", "nas.example.org:/a/./b", "nas.example.org:/a/b/..", "10.0.0.1:/a/b", "nas.example.org..:/a/b"},
	}, {
		Share{Name: "nas1", Servers: []string{"nas", "10.0.0.1"}, Path: "/a"},
		[]string{"nas:/a", "10.0.0.1:/a", "[::ffff:10.0.0.1]:/a", "[::FFFF:a00:1]:/a", "[0:0:0:0:0:ffff:10.0.0.1]:/a/"},
		[]string{"10.0.0.2:/a", "[::10.0.0.1]:/a", "010.0.0.1:/a"},
	}, {
		Share{Name: "nas1", Servers: []string{"::ffff:10.0.0.1", "FD00::1"}, Path: "/"},
		[]string{"10.0.0.1:/", "[fd00::1]:/", "[fd00:0:0::0001]://"},
		[]string{"[fd00::2]:/", "[fd00::1]:/a", "[fd00::1%eth0]:/"},
	}, {
		Share{Name: "nas1", Servers: []string{"fe80::1%eth0"}, Path: "/a"},
		[]string{"[FE80:0::1%eth0]:/a"},
		[]string{"[fe80::1]:/a", "[fe80::1%ETH0]:/a"}, // names of interfaces are case-sensitive
	},
}

func TestMatches(t *testing.T) {
	for _, c := range spellings {
		for _, name := range c.same {
			if !c.share.Matches(name) {
				t.Errorf("%s is not %v", name, c.share)
			}
			r := &Registry{Shares: []Share{{Name: "other", Servers: []string{"other"}, Path: "/a"}, c.share}}
			got, err := r.Resolve(name)
			wantKind(t, name, err, nil)
			if got.Name != "nas1" {
				t.Errorf("%s resolves to %v", name, got)
			}
		}
		for _, name := range c.others {
			if c.share.Matches(name) {
				t.Errorf("%s is %v", name, c.share)
			}
		}
	}
}

func TestCanonicalExport(t *testing.T) {
	for name, want := range map[string]string{
		"nas1": "nas1", "NAS1": "NAS1", "nas:/a": "nas:/a", "NAS.:/A//b/": "nas:/A/b",
		"[::ffff:10.0.0.1]:/": "10.0.0.1:/", "[FD00:0::1]:/a": "[fd00::1]:/a",
	} {
		if got := CanonicalExport(name); got != want || CanonicalExport(got) != got {
			t.Errorf("%q is spelled %q, want %q", name, got, want)
		}
	}
	r := &Registry{Unregistered: true}
	s, err := r.Resolve("[::ffff:10.0.0.1]:/a")
	wantKind(t, "an export that is not registered", err, nil)
	if s.Name != "10.0.0.1:/a" || s.Servers[0] != "::ffff:10.0.0.1" {
		t.Errorf("it is %+v", s)
	}
}

func TestOverlaps(t *testing.T) {
	at := func(path string, servers ...string) Share {
		return Share{Name: path, Servers: servers, Path: path}
	}
	for _, c := range []struct {
		a, b Share
		want bool
	}{
		{at("/a", "nas"), at("/a", "nas"), true},
		{at("/a", "nas"), at("/a/b", "nas"), true},
		{at("/", "nas"), at("/a", "nas"), true},
		{at("/a", "nas"), at("/ab", "nas"), false},
		{at("/a", "nas"), at("/b", "nas"), false},
		{at("/a", "nas"), at("/a", "other"), false},
		{at("/a", "nas", "other"), at("/a", "other"), true},
		{at("/a", "nas"), at("/a/b", "NAS."), true},
		{at("/a", "10.0.0.1"), at("/a/b", "::ffff:10.0.0.1"), true},
		{at("/a", "fd00::1"), at("/a", "FD00:0::1"), true},
	} {
		if c.a.Overlaps(c.b) != c.want || c.b.Overlaps(c.a) != c.want {
			t.Errorf("%v and %v overlap: not %v", c.a, c.b, c.want)
		}
		if inside := c.want && len(c.a.Path) < len(c.b.Path); c.b.IsInside(c.a) != inside || c.a.IsInside(c.b) {
			t.Errorf("%v lies inside %v: not %v", c.b, c.a, inside)
		}
	}
}

// TestCheckNested checks exports inside a registered share and around it: their existing volumes can be
// used, but they get no new ones.
func TestCheckNested(t *testing.T) {
	r := &Registry{Unregistered: true, Shares: []Share{{Name: "nas1", Servers: []string{"nas"}, Path: "/a"}}}
	for _, export := range []string{"nas:/a/b", "NAS:/a/b", "nas.:/"} {
		s, err := r.Resolve(export)
		wantKind(t, export, err, nil)
		err = r.CheckNested(s)
		wantKind(t, export, err, ErrPrecondition)
		wantText(t, err, strings.ToLower(export[:3]), `use share "nas1"`)
	}
	for _, export := range []string{"nas:/ab", "other:/a", "nas:/a", "nas1"} {
		s, err := r.Resolve(export)
		wantKind(t, export, err, nil)
		wantKind(t, export, r.CheckNested(s), nil)
	}
	wantKind(t, "a registered share, by its export", r.CheckNested(Share{Name: "NAS:/a", Servers: []string{"NAS"}, Path: "/a"}), nil)
}
