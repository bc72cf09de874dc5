// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/doctor"
)

const (
	// defaultWidth is the width of a report that is not written to a terminal.
	defaultWidth = 100
	// titleWidth is the width of the longest title.
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

// table formats a doctor's report as text.
type table struct {
	colour bool
	width  int
}

// newTable returns a table for out: in colour on a terminal, unless NO_COLOR is set.
func newTable(out io.Writer) table {
	t := table{width: defaultWidth}
	if width, terminal := terminalWidth(out); terminal {
		t.width = max(width, 60)
		t.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return t
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
	return t.paint(green, "No problems") + ": " + checks + "."
}

// findings writes one line for each finding; consecutive ones that were skipped for one reason share a
// line.
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

// wrap breaks text at spaces into lines of at most width, unless a word is longer.
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
