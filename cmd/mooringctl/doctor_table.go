// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/doctor"
	"golang.org/x/sys/unix"
)

const (
	// wrapAt is the width of what is written to something that is no terminal.
	wrapAt = 100
	// titleWidth is the longest title's.
	titleWidth = 20
)

// Colours of a terminal (ECMA-48, section 8.3.117).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// table writes a doctor's report for people.
type table struct {
	colour bool
	width  int
}

// newTable returns a table for out: in colour on a terminal, unless NO_COLOR is set.
func newTable(out io.Writer) table {
	t := table{width: wrapAt}
	if f, ok := out.(*os.File); ok {
		width, terminal := terminalWidth(f)
		if terminal {
			t.width = max(width, 60)
		}
		t.colour = terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return t
}

func terminalWidth(f *os.File) (width int, terminal bool) {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 80, true
	}
	return int(size.Col), true
}

func (t table) paint(style, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (t table) report(r doctor.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", t.paint(bold, "This machine"))
	t.findings(&b, r.Node)
	for _, s := range r.Shares {
		title := t.paint(bold, s.Share)
		if s.Share != s.At {
			title += "  " + s.At
		}
		fmt.Fprintf(&b, "\n%s\n", title)
		t.findings(&b, s.Findings)
	}
	fmt.Fprintf(&b, "\n%s\n", t.summary(r))
	return b.String()
}

func (t table) summary(r doctor.Report) string {
	broken, warnings := r.Count(doctor.Fail), r.Count(doctor.Warn)
	count := func(n int, one, many string) string {
		if n == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	checks := count(r.Count(doctor.OK), "check", "checks") + " passed"
	switch {
	case broken > 0 && warnings > 0:
		return t.paint(red, count(broken, "thing is broken", "things are broken")) + ", " + t.paint(yellow, count(warnings, "warning", "warnings")) + ", " + checks + "."
	case broken > 0:
		return t.paint(red, count(broken, "thing is broken", "things are broken")) + ", " + checks + "."
	case warnings > 0:
		return t.paint(yellow, count(warnings, "warning", "warnings")) + ", " + checks + "."
	}
	return t.paint(green, "All is well") + ": " + checks + "."
}

// findings writes one line for each; those that were skipped for one reason share one.
func (t table) findings(b *strings.Builder, all []doctor.Finding) {
	for i := 0; i < len(all); i++ {
		f := all[i]
		title, detail := f.Title, f.Detail
		last := i
		if f.Status == doctor.Skip {
			for last+1 < len(all) && all[last+1].Status == doctor.Skip && all[last+1].Detail == f.Detail && all[last+1].Server == f.Server {
				last++
			}
			switch last - i {
			case 0:
			case 1:
				title += ", " + all[last].Title
			default:
				title = fmt.Sprintf("%d more checks", last-i+1)
			}
			i = last
		}
		if f.Server != "" {
			detail = f.Server + ": " + detail
		}
		t.line(b, f.Status, title, detail)
		if f.Status == doctor.Warn || f.Status == doctor.Fail {
			t.advice(b, f)
		}
	}
}

func (t table) line(b *strings.Builder, status doctor.Status, title, detail string) {
	style, mark := dim, "-"
	switch status {
	case doctor.OK:
		style, mark = green, "✓"
	case doctor.Warn:
		style, mark = yellow, "!"
	case doctor.Fail:
		style, mark = red, "✗"
	}
	head := title + strings.Repeat(" ", max(0, titleWidth-utf8.RuneCountInString(title)))
	lines := wrap(detail, t.width-titleWidth-6)
	for i, line := range lines {
		if i > 0 {
			fmt.Fprintf(b, "%s%s\n", strings.Repeat(" ", titleWidth+6), line)
			continue
		}
		text := head + "  " + line
		if status == doctor.Skip {
			text = t.paint(dim, text)
		}
		fmt.Fprintf(b, "  %s %s\n", t.paint(style, mark), text)
	}
}

// advice writes why a finding matters and what to do, below it.
func (t table) advice(b *strings.Builder, f doctor.Finding) {
	const indent = "      "
	for _, part := range []struct{ head, text string }{{"why ", f.Why}, {"do  ", f.Remedy}} {
		if part.text == "" {
			continue
		}
		for i, line := range wrap(part.text, t.width-len(indent)-len(part.head)) {
			head := part.head
			if i > 0 {
				head = "    "
			}
			fmt.Fprintf(b, "%s%s%s\n", indent, t.paint(dim, head), line)
		}
	}
	if f.Command != "" {
		prompt := "# "
		if f.OnServer {
			prompt = "server# "
		}
		fmt.Fprintf(b, "%s    %s\n", indent, t.paint(bold, prompt+f.Command))
	}
}

// wrap breaks text at its spaces, so that no line is longer than width if that can be.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
