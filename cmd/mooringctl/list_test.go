// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

type listed struct {
	name, claim string
	size        int64
}

var listedColumns = []column[listed]{
	{head: "NAME", cell: func(l listed) string { return l.name }},
	{head: "CLAIM", shrink: true, cell: func(l listed) string { return l.claim }},
	sizeColumn("SIZE", func(l listed) int64 { return l.size }),
	countColumn("FILES", func(l listed) int64 { return l.size / 512 }),
	{head: "LAST", cell: func(l listed) string { return "last" }},
}

// TestTotals checks the last line of a table, across pages.
func TestTotals(t *testing.T) {
	lines := func(n int, format string) []string {
		var out bytes.Buffer
		p := newPrinter(&out, &out, format, nil, listedColumns)
		for range n {
			if err := p.row(listed{"pvc", "shop/db", 1 << 10}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.finish(); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	}
	for n, want := range map[int]string{0: "", 1: "pvc    shop/db   1Ki    2       last", 2: "TOTAL             2Ki    4", 2 * pageSize: "TOTAL             1000Ki   2000"} {
		if all := lines(n, "table"); all[len(all)-1] != want {
			t.Errorf("%d rows end with %q, want %q", n, all[len(all)-1], want)
		}
	}
	var out bytes.Buffer
	p := newPrinter(&out, &out, "table", nil, listedColumns)
	large := listed{"pvc", "shop/db", math.MaxInt64}
	if err := errors.Join(p.row(large), p.row(large), p.finish()); err != nil || !strings.Contains(out.String(), "TOTAL             8Ei") {
		t.Errorf("%v: the total of two large volumes is %s", err, &out)
	}
	if all := lines(2, "json"); strings.Contains(strings.Join(all, ""), "TOTAL") {
		t.Errorf("JSON has totals: %q", all)
	}
}

// TestShrink checks which tables are shortened, and that a shortened one fits.
func TestShrink(t *testing.T) {
	claim := strings.Repeat("namespace", 7) + "/" + strings.Repeat("é", 100) + "end"
	for _, c := range []struct {
		format   string
		maxWidth int
		width    int
	}{
		{"table", 0, 0}, {"wide", 80, 0}, {"table", 80, 80}, {"table", 120, 120},
		{"table", 30, 50}, // the narrowest: the claims have minShrunk
	} {
		var out bytes.Buffer
		p := newPrinter(&out, &out, c.format, nil, listedColumns)
		p.maxWidth = c.maxWidth
		if err := errors.Join(p.row(listed{"pvc", claim, 1}), p.row(listed{"pvc", "shop/db", 1}), p.finish()); err != nil {
			t.Fatal(err)
		}
		row := strings.Split(out.String(), "\n")[1]
		if whole := strings.Contains(row, claim); whole != (c.width == 0) {
			t.Errorf("%s in %d columns: %q", c.format, c.maxWidth, row)
		}
		if c.width > 0 && (utf8.RuneCountInString(row) != c.width || !strings.Contains(row, "…") || !strings.Contains(row, "end ") || !strings.Contains(row, "pvc     namespace")) {
			t.Errorf("%s in %d columns: %d: %q", c.format, c.maxWidth, utf8.RuneCountInString(row), row)
		}
		if !strings.Contains(out.String(), "shop/db") {
			t.Errorf("a short claim is missing: %s", &out)
		}
	}
}

func TestSort(t *testing.T) {
	rows := []listed{{"b", "2", 900}, {"a", "3", 1 << 20}, {"c", "1", 5}}
	for order, want := range map[string]string{"": "bac", "NAME": "abc", "-name": "cba", "size": "cba", "-SIZE": "abc", "claim": "cba"} {
		got := ""
		lost := errors.New("lost")
		err := sorted(order, listedColumns, func(each func(listed) error) error {
			for _, r := range rows {
				if err := each(r); err != nil {
					return err
				}
			}
			return lost
		})(func(r listed) error { got += r.name; return nil })
		if got != want || err != lost {
			t.Errorf("sorted by %q: %s, want %s: %v", order, got, want, err)
		}
	}
}

// TestStatus checks the exit status after errors before and in a command.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
		text string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"nosuch"}, exitUsage, "unknown command"},
		{[]string{"volumes", "--nosuch"}, exitUsage, "unknown flag"},
		{[]string{"volumes", "extra"}, exitUsage, "unknown command"},
		{[]string{"volumes", "-o", "xml"}, exitUsage, "want one of table, wide, json, yaml"},
		{[]string{"volumes", "--sort", "colour"}, exitUsage, "want one of HANDLE, CLAIM"},
		{[]string{"volumes", "--share", "nosuch"}, exitUsage, "nas1, nas2"},
		{[]string{"usage", "--share", "nosuch"}, exitUsage, "nas1, nas2"},
		{[]string{"health", "--share", "nosuch", "-o", "json"}, exitUsage, "nas1, nas2"},
		{[]string{"check", "--share", ""}, exitUsage, "names no share"},
		{[]string{"usage", "--top", "-1"}, exitUsage, "negative"},
		{[]string{"trash", "purge", "--all", "--yes", "--namespace", ""}, exitUsage, "names no namespace"},
		{[]string{"trash", "nosuch"}, exitUsage, "unknown command"},
		{[]string{"share", "nosuch"}, exitUsage, "unknown command"},
		{[]string{"completion", "nosuch"}, exitUsage, "unknown command"},
		{[]string{"describe"}, exitUsage, "accepts 1 arg"},
		{[]string{"describe", "pvc-1", "-o", "wide"}, exitUsage, "want one of table, json, yaml"},
		{[]string{"describe", "pvc-1", "--share", "nosuch"}, exitUsage, "nas1, nas2"},
		{[]string{"trash", "purge"}, exitUsage, "or use --all"},
		{[]string{"doctor", "--server", "h"}, exitUsage, "must all be set"},
		{[]string{"doctor", "nosuch"}, exitUsage, "nas1, nas2"},
		{[]string{"doctor", "-o", "wide"}, exitUsage, "want one of table, json, yaml"},
		{[]string{"doctor", "--config", "/nowhere"}, exitBroken, "exit status 3"},
		{[]string{"volumes", "--config", "/nowhere"}, exitFailed, "with --config"},
		{[]string{"volumes", "--config", "/dev/null"}, exitFailed, "with --config"},
	} {
		out, status, err := runStatus(t, c.args...)
		if status != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: status %d, %v", c.args, status, err)
		}
		if err != nil && status != exitBroken && out != "" {
			t.Errorf("%q prints more than the error: %s", c.args, out)
		}
	}
	o := &options{running: true}
	for err, want := range map[error]int{nil: 0, exit(3): 3, errors.New("lost"): exitFailed, volume.Errorf(volume.ErrInvalid, "wrong"): exitUsage, volume.Errorf(volume.ErrUnavailable, "silent"): exitFailed} {
		if got := o.status(err); got != want {
			t.Errorf("%v: status %d, want %d", err, got, want)
		}
	}
}

// TestErrorHasNoMessage checks that a list that fails does not say that there is nothing.
func TestErrorHasNoMessage(t *testing.T) {
	var b bytes.Buffer
	c := &cobra.Command{}
	c.SetOut(&b)
	c.SetErr(&b)
	lost := errors.New("lost")
	err := list(c, &listOptions{format: "table"}, func() string { return "nothing" }, listedColumns, func(func(listed) error) error { return lost })
	if err != lost || b.String() != "" {
		t.Errorf("the list prints %q, and ends with %v", &b, err)
	}
}

func TestVersion(t *testing.T) {
	for format, want := range map[string]string{"table": "mooringctl version dev (go", "json": `"version": "dev"`, "yaml": "\nversion: dev"} {
		if out, err := run(t, "version", "-o", format); err != nil || !strings.Contains(out, want) {
			t.Errorf("version -o %s: %q, %v", format, out, err)
		}
	}
	if out, err := run(t, "--version"); err != nil || out != "mooringctl version dev\n" {
		t.Errorf("--version: %q, %v", out, err)
	}
}

// TestFormats checks that each command with -o has JSON and YAML.
func TestFormats(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		if f := c.Flags().Lookup("output"); f != nil && !strings.HasSuffix(f.Usage, "json or yaml") {
			t.Errorf("%s: -o is for %q", c.Name(), f.Usage)
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check((&options{}).command())
}

// TestCompleteSilently checks that a completion without servers is empty, and says nothing.
func TestCompleteSilently(t *testing.T) {
	for _, args := range [][]string{{"describe"}, {"jobs"}, {"trash", "restore"}} {
		args := slices.Concat([]string{"__complete"}, args, []string{"--shares-dir", t.TempDir(), ""})
		out, err := run(t, args...)
		if err != nil || !strings.HasPrefix(out, ":4\n") {
			t.Errorf("%q: %q, %v", args, out, err)
		}
	}
	for _, args := range [][]string{{"describe", "nas1/pvc-1"}, {"trash", "restore", "nas1/pvc-1"}} {
		if out, err := run(t, slices.Concat([]string{"__complete"}, args, []string{""})...); err != nil || !strings.HasPrefix(out, ":4\n") {
			t.Errorf("%q, a second argument: %q, %v", args, out, err)
		}
	}
	if out, err := run(t, "__complete", "volumes", "--sort", ""); err != nil || !strings.HasPrefix(out, "HANDLE\nCLAIM\n") {
		t.Errorf("completion of columns: %q, %v", out, err)
	}
}
