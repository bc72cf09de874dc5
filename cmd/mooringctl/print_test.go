// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
	"sigs.k8s.io/yaml"
)

type line struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

var lineColumns = []column[line]{
	{head: "NAME", cell: func(l line) string { return l.Name }},
	{head: "SIZE", cell: func(l line) string { return volume.FormatBytes(l.Size) }},
	{head: "BYTES", wide: true, cell: func(l line) string { return strconv.FormatInt(l.Size, 10) }},
}

func printed(t *testing.T, format string, lines ...line) (out, errs string) {
	t.Helper()
	var to, stderr bytes.Buffer
	p := newPrinter(&to, &stderr, format, func() string { return "none\n" }, lineColumns)
	for _, l := range lines {
		if err := p.row(l); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.finish(); err != nil {
		t.Fatal(err)
	}
	return to.String(), stderr.String()
}

func TestPrint(t *testing.T) {
	lines := []line{{"a", 5 << 30}, {"größer", 1536}, {"", 0}}
	for format, want := range map[string]string{
		"table": "NAME     SIZE\na        5Gi\ngrößer   1.5Ki\n-        0\n",
		"wide":  "NAME     SIZE    BYTES\na        5Gi     5368709120\ngrößer   1.5Ki   1536\n-        0       0\n",
	} {
		if got, errs := printed(t, format, lines...); got != want || errs != "" {
			t.Errorf("%s: %q, %q, want %q", format, got, errs, want)
		}
		if got, errs := printed(t, format); got != "" || errs != "none\n" {
			t.Errorf("%s without rows: %q, %q", format, got, errs)
		}
	}
	for _, lines := range [][]line{lines, lines[:1], {}} {
		var inJSON, inYAML []line
		text, _ := printed(t, "json", lines...)
		if err := json.Unmarshal([]byte(text), &inJSON); err != nil || !slices.Equal(inJSON, lines) {
			t.Errorf("JSON = %q: %+v, %v", text, inJSON, err)
		}
		text, _ = printed(t, "yaml", lines...)
		if err := yaml.Unmarshal([]byte(text), &inYAML); err != nil || !slices.Equal(inYAML, lines) {
			t.Errorf("YAML = %q: %+v, %v", text, inYAML, err)
		}
	}
	if got, _ := printed(t, "table", line{"a\x1b[2Jb\nc", 1}); !strings.Contains(got, "a?[2Jb?c") {
		t.Errorf("a name with control characters is printed as %q", got)
	}
}

// TestPrintNames prints unusual names: no row is lost, and no control characters are printed.
func TestPrintNames(t *testing.T) {
	names := []string{"\u009b2J", "\x1b[2J", "\x7f", "\u0085", "a\u2028b", "\ufeff", "\ufffe", "\u202e", "\U000e0001", "{", "- a: b", "# c", "a\nb\tc", "\xff\x9b", "last"}
	var lines, want []line
	for _, name := range names {
		lines = append(lines, line{name, 1})
		want = append(want, line{strings.ToValidUTF8(strings.ReplaceAll(name, "\xff\x9b", "\ufffd\ufffd"), ""), 1})
	}
	for _, format := range formats {
		text, errs := printed(t, format, lines...)
		if errs != "" || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
			t.Errorf("%s: %q, errors %q", format, text, errs)
		}
		var got []line
		var err error
		switch format {
		case "json":
			err = json.Unmarshal([]byte(text), &got)
		case "yaml":
			err = yaml.Unmarshal([]byte(text), &got)
		default:
			if n := strings.Count(text, "\n"); n != len(names)+1 || !strings.Contains(text, "last") {
				t.Errorf("%s: %d lines: %q", format, n, text)
			}
			continue
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %+v, want %+v: %v", format, got, want, err)
		}
	}
}

// TestPrintPages checks that printed rows are not kept in memory.
func TestPrintPages(t *testing.T) {
	var to bytes.Buffer
	p := newPrinter(&to, &to, "table", nil, lineColumns)
	for i := range 10 * pageSize {
		if err := p.row(line{strings.Repeat("x", i/pageSize), 1}); err != nil {
			t.Fatal(err)
		}
		if len(p.pending) > pageSize {
			t.Fatalf("%d rows are kept", len(p.pending))
		}
	}
	if err := p.finish(); err != nil || strings.Count(to.String(), "\n") != 10*pageSize+1 {
		t.Errorf("%d lines are printed, %v", strings.Count(to.String(), "\n"), err)
	}
}

func TestFormat(t *testing.T) {
	full, total := int64(0), int64(10)
	for _, s := range []admin.Share{{}, {Free: &full, Total: &total}} {
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "Bytes") != (s.Total != nil) {
			t.Errorf("share = %s, %v", text, err)
		}
		if got := formatCell(optionalSize(s.Free)); got != map[bool]string{true: "0", false: "-"}[s.Free != nil] {
			t.Errorf("free space = %q", got)
		}
	}
	for d, want := range map[time.Duration]string{-time.Hour: "0s", 0: "0s", 90 * time.Second: "90s", 3 * time.Minute: "3m", 3 * time.Hour: "3h", 50 * time.Hour: "2d"} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%v) = %s, want %s", d, got, want)
		}
	}
	p := &admin.Progress{}
	p.Volumes.Store(4)
	p.Measured.Store(1)
	p.Bytes.Store(1 << 20)
	if got := bar(p); got != "["+strings.Repeat("#", 7)+strings.Repeat(".", 23)+"] 1 of 4 volumes, 0 entries, 1Mi" {
		t.Errorf("bar = %s", got)
	}
}

// run runs the program with a configuration of two shares.
func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	out, _, err = runStatus(t, args...)
	return out, err
}

// runStatus is run, with the exit status.
func runStatus(t *testing.T, args ...string) (out string, status int, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	text := "shares:\n  - {name: nas1, servers: [127.0.0.1], path: /a, mountOptions: [port=9]}\n  - {name: nas2, servers: [127.0.0.1], path: /b, mountOptions: [port=9]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	o := &options{}
	c := o.command()
	c.SetOut(&b)
	c.SetErr(&b)
	c.SetArgs(slices.Concat(args[:1], []string{"--config=" + file}, args[1:]))
	err = c.ExecuteContext(t.Context())
	return b.String(), o.status(err), err
}

func TestCompletion(t *testing.T) {
	out, err := run(t, "__complete", "volumes", "--share", "")
	if err != nil || !strings.Contains(out, "nas1\nnas2\n") {
		t.Errorf("completion of shares = %q, %v", out, err)
	}
	if out, err = run(t, "__complete", "trash", "list", "-o", ""); err != nil || !strings.Contains(out, "table\nwide\njson\nyaml\n") {
		t.Errorf("completion of formats = %q, %v", out, err)
	}
}

func TestMisuse(t *testing.T) {
	for what, args := range map[string][]string{
		"want one of table, wide, json, yaml": {"volumes", "-o", "xml"},
		"--watch is for tables":               {"jobs", "-w", "-o", "json"},
		"or use --all":                        {"trash", "purge"},
		"trash list shows them":               {"trash", "purge", "--all", "nas1/pvc-1"},
		"accepts 1 arg":                       {"trash", "restore"},
	} {
		if _, err := run(t, args...); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
