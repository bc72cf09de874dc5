// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// badDirectories are always refused; the first is the share itself.
var badDirectories = []string{
	"/", "/a", "//", "a/", "a//b", ".", "..", "./a", "a/.", "../a", "a/..", "a/../b", "a/../..", "a/../../b",
	".mooring", ".mooring/x", ".Mooring", ".MOORING/volumes", "a/.mooring", "a/.mooring/b",
	"a\x00b", "a\nb", "\x7f", "a\xff", "\xc3", strings.Repeat("a", 300), "a/" + strings.Repeat("b", 256),
	strings.Repeat("abcdefg/", 256) + "a",
}

func TestCheckDirectory(t *testing.T) {
	for _, dir := range []string{
		"a", "a/b/c", "ä/é", "a b", "...", "..a", "a..", ".a", ".mooring2", "mooring", "${x}", "-rf", `a\b`,
		strings.Repeat("a", 255), strings.Repeat("abcdefg/", 255) + "abcdefgh",
	} {
		wantKind(t, dir, CheckDirectory(dir), nil)
	}
	for _, dir := range append(badDirectories, "") {
		wantKind(t, dir, CheckDirectory(dir), ErrInvalid)
	}
}

func TestSplitDirectory(t *testing.T) {
	for dir, want := range map[string][2]string{"a": {"", "a"}, "a/b": {"a", "b"}, "a/b/c": {"a/b", "c"}} {
		if parent, name := SplitDirectory(dir); parent != want[0] || name != want[1] {
			t.Errorf("%q splits into %q and %q", dir, parent, name)
		}
	}
}

func TestShorten(t *testing.T) {
	for _, short := range []string{"", "a", strings.Repeat("a", 255), strings.Repeat("ä", 127)} {
		if got := Shorten(short, 255); got != short {
			t.Errorf("%q became %q", short, got)
		}
	}
	seen := map[string]bool{}
	for _, long := range []string{
		strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("a", 300) + "b", strings.Repeat("a", 300) + "c",
		strings.Repeat("ä", 200), "x" + strings.Repeat("ä", 200), strings.Repeat("⚓", 100), "x" + strings.Repeat("⚓", 100), "xy" + strings.Repeat("⚓", 100),
	} {
		got := Shorten(long, 255)
		if len(got) > 255 || len(got) < 250 || !utf8.ValidString(got) || !strings.HasPrefix(long, got[:200]) {
			t.Errorf("%q became %q of %d bytes", long, got, len(got))
		}
		if got != Shorten(long, 255) || seen[got] {
			t.Errorf("%q became %q, which is not unique or not stable", long, got)
		}
		seen[got] = true
	}
}

func TestArchiveName(t *testing.T) {
	long := strings.Repeat("⚓", 85)
	for _, c := range []struct{ name, suffix, want string }{
		{"a", "", "archived-a"},
		{"a", ".20260801", "archived-a.20260801"},
		{long, "", ""},
		{long, ".20260801", ""},
	} {
		got := ArchiveName(c.name, c.suffix)
		if c.want != "" && got != c.want || len(got) > 255 || !strings.HasSuffix(got, c.suffix) {
			t.Errorf("%q with %q is archived as %q of %d bytes", c.name, c.suffix, got, len(got))
		}
		wantKind(t, got, CheckDirectory(got), nil)
	}
}
