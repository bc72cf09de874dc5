// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/doctor"
	"github.com/mooring-csi/mooring/pkg/volume"
)

func sample() doctor.Report {
	return doctor.Report{
		Node: []doctor.Finding{{Check: "client", Title: "mount.nfs", Status: doctor.OK, Detail: "/sbin/mount.nfs"}},
		Shares: []doctor.ShareReport{{Share: "nas1", At: "10.0.0.200:/export", Findings: []doctor.Finding{
			{Check: "answers", Title: "server answers", Status: doctor.OK, Detail: "in 1ms", Server: "10.0.0.200"},
			{Check: "root", Title: "root stays root", Status: doctor.Warn, Cause: "squashed", Detail: "it belongs to 65534",
				Why: "Because.", Remedy: "Export it otherwise.", Command: "exportfs -v", OnServer: true},
			{Check: "path", Title: "path exists", Status: doctor.Skip, Detail: "of that"},
			{Check: "mounts", Title: "mounts", Status: doctor.Skip, Detail: "of this"},
			{Check: "versions", Title: "NFS versions", Status: doctor.Skip, Detail: "of this"},
			{Check: "clone", Title: "CLONE", Status: doctor.Skip, Detail: "of these"},
			{Check: "copy", Title: "COPY", Status: doctor.Skip, Detail: "of these"},
			{Check: "acl", Title: "ACL", Status: doctor.Skip, Detail: "of these"},
			{Check: "clock", Title: "clock", Status: doctor.Fail, Cause: "far-off", Detail: strings.TrimSpace(strings.Repeat("much ", 30)),
				Why: strings.TrimSpace(strings.Repeat("why ", 40)), Remedy: "Set it.", Command: "date"},
		}}},
	}
}

func TestTable(t *testing.T) {
	const want = `This machine
  ✓ mount.nfs             /sbin/mount.nfs

nas1  10.0.0.200:/export
  ✓ server answers        10.0.0.200: in 1ms
  ! root stays root       it belongs to 65534
      why Because.
      do  Export it otherwise.
          server# exportfs -v
  - path exists           of that
  - mounts, NFS versions  of this
  - 3 more checks         of these
  ✗ clock                 much much much much much much much much much
                          much much much much much much much much much
                          much much much much much much much much much
                          much much much
      why why why why why why why why why why why why why why why why
          why why why why why why why why why why why why why why why
          why why why why why why why why why why
      do  Set it.
          # date

1 thing is broken, 1 warning, 2 checks passed.
`
	if got := (table{width: 72}).report(sample()); got != want {
		t.Errorf("report =\n%s\nwant\n%s", got, want)
	}
	coloured := table{colour: true, width: 72}.report(sample())
	if strings.Count(coloured, "\x1b[31m") != 2 || strings.Count(coloured, "\x1b[33m") != 2 || strings.Count(coloured, "\x1b[0m")*2 != strings.Count(coloured, "\x1b[") {
		t.Errorf("report in colour = %q", coloured)
	}
	plain := coloured
	for _, code := range []string{"0", bold, dim, red, green, yellow} {
		plain = strings.ReplaceAll(plain, "\x1b["+code+"m", "")
	}
	if plain != want {
		t.Errorf("the report without colour codes differs:\n%s", plain)
	}
}

func TestSummary(t *testing.T) {
	ok, warn := doctor.Finding{Status: doctor.OK}, doctor.Finding{Status: doctor.Warn}
	for want, all := range map[string][]doctor.Finding{
		"No problems: 2 checks passed.":         {ok, ok, {Status: doctor.Skip}},
		"2 warnings, 1 check passed.":           {warn, ok, warn},
		"2 things are broken, 0 checks passed.": {{Status: doctor.Fail}, {Status: doctor.Fail}},
	} {
		if got := (table{}).summary(doctor.Report{Node: all}); got != want {
			t.Errorf("summary = %q, want %q", got, want)
		}
	}
}

func TestNoColour(t *testing.T) {
	if newTable(&bytes.Buffer{}).colour {
		t.Error("a buffer has colours")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := newTable(file); got.colour || got.width != defaultWidth {
		t.Errorf("table of a file = %+v", got)
	}
}

func TestWrap(t *testing.T) {
	for _, width := range []int{1, 7, 20, 200} {
		const text = "ein  längerer\ntext, Überlänge eingeschlossen"
		lines := wrap(text, width)
		if strings.Join(lines, " ") != strings.Join(strings.Fields(text), " ") {
			t.Errorf("in %d columns: %q", width, lines)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > width && strings.Contains(line, " ") {
				t.Errorf("a line in %d columns: %q", width, line)
			}
		}
	}
	if got := wrap("", 10); !slices.Equal(got, []string{""}) {
		t.Errorf("wrap of nothing = %q", got)
	}
}

func TestSelectShares(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	const text = "shares:\n- {name: nas1, servers: [10.0.0.1], path: /a}\n- {name: nas2, servers: [10.0.0.2], path: /b, mountOptions: [hard]}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	if err := os.WriteFile(empty, []byte("shares: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o     options
		names []string
		e     export
		want  string // the shares, or part of the error
	}{
		{options{config: config}, nil, export{}, "nas1 nas2"},
		{options{config: config}, []string{"nas2", "nas2"}, export{}, "nas2"},
		{options{config: config}, []string{"nas1", "10.0.0.1:/a", "[::ffff:10.0.0.1]:/a"}, export{}, "nas1"},
		{options{config: config, shares: []string{"nas1"}}, []string{"nas2"}, export{}, "nas1 nas2"},
		{options{config: config}, []string{"nas3"}, export{}, "the configuration has nas1, nas2"},
		{options{config: empty}, nil, export{}, "registers no share"},
		{options{config: "/nowhere/config.yaml"}, nil, export{}, "mooringctl doctor --server"},
		{options{config: "/nowhere/config.yaml"}, nil, export{server: "fe80::1", path: "/x"}, "[fe80::1]:/x"},
		{options{config: config}, []string{"nas1"}, export{server: "h", path: "/x"}, "use either"},
		{options{config: config}, nil, export{options: []string{"ro"}}, "needs --server"},
		{options{}, nil, export{server: "h", path: "x"}, "does not begin with /"},
		{options{}, nil, export{server: "h h", path: "/x"}, "neither a host name"},
		{options{}, nil, export{server: "h", path: "/x", options: []string{"bind"}}, "not bound"},
	} {
		shares, err := c.o.selectShares(c.names, c.e)
		var names []string
		for _, s := range shares {
			names = append(names, s.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if err == nil && got != c.want || !strings.Contains(got, c.want) {
			t.Errorf("%+v %q %+v: %q, want %q", c.o, c.names, c.e, got, c.want)
		}
	}
	if got, _ := (&options{config: config}).completeShares(nil, nil, ""); !slices.Equal(got, []string{"nas1", "nas2"}) {
		t.Errorf("completions = %q", got)
	}
	inner := volume.Share{Name: "10.0.0.1:/a/b", Servers: []string{"10.0.0.1"}, Path: "/a/b"}
	if nested := (&options{config: config}).nestedCheck(); nested == nil || nested(inner) == nil {
		t.Error("an export inside a registered share is not nested")
	}
	if (&options{config: "/nowhere/config.yaml"}).nestedCheck() != nil {
		t.Error("there is a check without a configuration")
	}
	shares, err := (&options{}).selectShares(nil, export{server: "h", path: "/x", options: []string{"nfsvers=3,nolock"}})
	if err != nil || !slices.Equal(shares[0].MountOptions, []string{"nodev", "nosuid", "nfsvers=3", "nolock"}) {
		t.Errorf("options of an export = %q, %v", shares[0].MountOptions, err)
	}
}

// TestDoctorRefuses runs the program with invalid arguments.
func TestDoctorRefuses(t *testing.T) {
	for _, args := range [][]string{{"doctor", "-o", "wide"}, {"doctor", "--server", "h"}, {"doctor", "--config", "/nowhere"}} {
		c := (&options{}).command()
		var errs bytes.Buffer
		c.SetErr(&errs)
		c.SetArgs(args)
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%q succeeds", args)
		} else if args[1] == "--config" && (err != exit(exitBroken) || !strings.Contains(errs.String(), "Name the configuration")) {
			t.Errorf("%q: %v: %s", args, err, &errs)
		}
	}
}
