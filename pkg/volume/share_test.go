// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"reflect"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	nas := Share{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export", MountOptions: []string{"nfsvers=4.2"}}
	r := &Registry{Shares: []Share{nas}, MountOptions: []string{"nodev"}, Unregistered: true}
	for name, want := range map[string]Share{
		"nas1":           nas,
		"10.0.0.9:/a":    {Name: "10.0.0.9:/a", Servers: []string{"10.0.0.9"}, Path: "/a", MountOptions: []string{"nodev"}},
		"[fe80::1]:/a/b": {Name: "[fe80::1]:/a/b", Servers: []string{"fe80::1"}, Path: "/a/b", MountOptions: []string{"nodev"}},
	} {
		got, err := r.Resolve(name)
		wantKind(t, name, err, nil)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	for name, kind := range map[string]error{
		"nas2": ErrPrecondition, "": ErrPrecondition, "*": ErrPrecondition, "NAS1": ErrPrecondition,
		"a b:/x": ErrInvalid, "nas:/a/../b": ErrInvalid, "nas:/a/": ErrInvalid, "fe80::1:/a": ErrInvalid, "[nas]:/a": ErrInvalid,
	} {
		_, err := r.Resolve(name)
		wantKind(t, name, err, kind)
	}
	r.Unregistered = false
	_, err := r.Resolve("10.0.0.9:/a")
	wantKind(t, "an unregistered export", err, ErrPrecondition)
	wantText(t, err, "10.0.0.9:/a", "unregistered: allow")
	_, err = r.Resolve("nas2")
	wantText(t, err, `"nas2"`, "nas1")
	_, err = new(Registry).Resolve("nas2")
	wantText(t, err, "none")
}

func TestHas(t *testing.T) {
	r := &Registry{Shares: []Share{{Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export"}}, Unregistered: true}
	names := map[string]bool{
		"nas1": true, "10.0.0.9:/a": true,
		"nas2": false, "10.0.0.1:/export": false, "[::ffff:10.0.0.9]:/a": false, "nas:/a/": false,
	}
	for name, want := range names {
		if got := r.Has(name); got != want {
			t.Errorf("the registry has %s: %v", name, got)
		}
	}
	if r.Unregistered = false; r.Has("10.0.0.9:/a") || !r.Has("nas1") {
		t.Error("the registry has an export that it does not allow")
	}
}

func TestExportName(t *testing.T) {
	for name, want := range map[string][2]string{
		"10.0.0.1:/export":  {"10.0.0.1", "/export"},
		"nas.example:/":     {"nas.example", "/"},
		"[fe80::1]:/a":      {"fe80::1", "/a"},
		"[fe80::1%eth0]:/a": {"fe80::1%eth0", "/a"},
		"nas:/a:/b]:/c":     {"nas", "/a:/b]:/c"},
	} {
		if got := ExportName(want[0], want[1]); got != name {
			t.Errorf("the name of %q is %q, want %q", want, got, name)
		}
		if server, path, ok := SplitExport(name); !ok || server != want[0] || path != want[1] {
			t.Errorf("%q splits into %q, %q, %v", name, server, path, ok)
		}
	}
	for _, name := range []string{"", "nas1", "nas:", "nas:a", ":/a", "[fe80::1:/a", "[fe80::1]/a"} {
		if server, path, ok := SplitExport(name); ok {
			t.Errorf("%q splits into %q and %q", name, server, path)
		}
	}
}

func TestShareText(t *testing.T) {
	s := Share{Name: "nas1", Servers: []string{"10.0.0.1", "10.0.0.2"}, Path: "/export"}
	if got, want := s.String(), "nas1 (10.0.0.1,10.0.0.2:/export)"; got != want {
		t.Errorf("a registered share reads %q, want %q", got, want)
	}
	s = Share{Name: "[fe80::1]:/export", Servers: []string{"fe80::1"}, Path: "/export"}
	if s.String() != s.Name {
		t.Errorf("an unregistered share reads %q, want %q", s, s.Name)
	}
	if got, want := s.Source("fe80::1", "a/b"), "[fe80::1]:/export/a/b"; got != want {
		t.Errorf("the source is %q, want %q", got, want)
	}
	if got, want := (Share{Path: "/"}).Source("nas", ""), "nas:/"; got != want {
		t.Errorf("the source of a share is %q, want %q", got, want)
	}
}

func TestSameMount(t *testing.T) {
	one := func(change func(*Share)) Share {
		s := Share{Name: "nas1", Servers: []string{"a", "b"}, Path: "/x", MountOptions: []string{"ro"}, MaxVolumes: 1}
		change(&s)
		return s
	}
	for what, c := range map[string]struct {
		change func(*Share)
		same   bool
	}{
		"nothing":   {func(*Share) {}, true},
		"the limit": {func(s *Share) { s.MaxVolumes = 2 }, true},
		"the path":  {func(s *Share) { s.Path = "/y" }, false},
		"a server":  {func(s *Share) { s.Servers = []string{"a"} }, false},
		"an option": {func(s *Share) { s.MountOptions = nil }, false},
	} {
		if got := one(func(*Share) {}).SameMount(one(c.change)); got != c.same {
			t.Errorf("with %s changed SameMount is %v, want %v", what, got, c.same)
		}
	}
}

func TestCheckNames(t *testing.T) {
	for what, c := range map[string]struct {
		check     func(string) error
		good, bad []string
	}{
		"a share's name": {
			CheckShareName,
			[]string{"nas1", "a", "0", "a.b-c", strings.Repeat("a", 40)},
			[]string{"", "-a", "a-", ".a", "a.", "A", "a_b", "a b", "a/b", "a:b", "a,b", "*", "..", "ä", "a\n", strings.Repeat("a", 41)},
		},
		"a server": {
			CheckServer,
			[]string{"10.0.0.1", "fe80::1", "fe80::1%eth0.7", "::1", "::ffff:10.0.0.1", "nas", "nas_1.example-org.de", "NAS", strings.Repeat("a", 253)},
			[]string{"", "-o", "a b", "a/b", "a,b", "a:b", "[fe80::1]", "fe80::1%", "fe80::1%a/b", "fe80::1%a,b", "fe80::1%\n", "fe80::1%-", "nä", "a\x00", strings.Repeat("a", 254)},
		},
		"an export's path": {
			CheckExportPath,
			[]string{"/", "/a", "/a b/c,d", "/ä", "/.a", "/" + strings.Repeat("a", 1023)},
			[]string{"", "a", "//", "//a", "/a/", "/a//b", "/..", "/a/../b", "/./a", "/a/.", "/a\n", "/a\x00", "/\x7f", "/\xff", "/" + strings.Repeat("a", 1024)},
		},
	} {
		for _, s := range c.good {
			wantKind(t, what+" "+s, c.check(s), nil)
		}
		for _, s := range c.bad {
			wantKind(t, what+" "+s, c.check(s), ErrInvalid)
		}
	}
}
