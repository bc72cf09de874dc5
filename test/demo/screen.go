// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// width is the column at which a step's time ends.
const width = 80

// logLines is the number of lines of each process's log that are shown after a failure.
const logLines = 12

// Styles of a terminal (ECMA-48, SGR).
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
	cyan  = "36"
)

// screen shows the walk to a person.
type screen struct {
	out    io.Writer
	colour bool
	number int // of the last step
}

// note collects the lines under a step.
type note struct {
	lines []string
	took  time.Duration // the time to show; 0: that of the step
}

func (n *note) add(format string, args ...any) {
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}

func (s *screen) styled(style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

func (s *screen) intro(title, text string) {
	fmt.Fprintf(s.out, "\n%s\n\n%s\n", s.styled(bold, title), text)
}

func (s *screen) section(title string) {
	fmt.Fprintf(s.out, "\n%s\n", s.styled(bold+";"+cyan, title))
}

// step does something and shows whether it succeeded, and its time.
func (s *screen) step(title string, do func(*note) error) error {
	s.number++
	var n note
	start := time.Now()
	err := do(&n)
	if n.took == 0 || err != nil {
		n.took = time.Since(start)
	}
	mark := s.styled(green, "✓")
	if err != nil {
		mark = s.styled(red, "✗")
	}
	number := fmt.Sprintf("%3d", s.number)
	took := millis(n.took)
	gap := max(2, width-len(number)-3-utf8.RuneCountInString(title)-len(took))
	fmt.Fprintf(s.out, "%s %s %s%s%s\n", number, mark, s.styled(bold, title), strings.Repeat(" ", gap), s.styled(faint, took))
	for _, line := range n.lines {
		fmt.Fprintf(s.out, "      %s\n", line)
	}
	return err
}

// millis writes a time in milliseconds, the short ones with a decimal.
func millis(t time.Duration) string {
	ms := t.Seconds() * 1000
	if ms < 9.95 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// mismatch is a failed check of the demo.
type mismatch struct{ what, want, found string }

func (m *mismatch) Error() string { return m.what }

// expect returns nil if the found value is the expected one.
func expect[T comparable](what string, want, found T) error {
	if want == found {
		return nil
	}
	return &mismatch{what, fmt.Sprint(want), fmt.Sprint(found)}
}

// failure shows an error.
func (s *screen) failure(err error) {
	var m *mismatch
	fmt.Fprintf(s.out, "\n%s\n", s.styled(bold+";"+red, "Not as it should be: "+err.Error()))
	if errors.As(err, &m) {
		for _, line := range []struct{ label, text string }{{"expected", m.want}, {"found", m.found}} {
			fmt.Fprintf(s.out, "  %-8s  %s\n", line.label, strings.ReplaceAll(cmp.Or(line.text, "(nothing)"), "\n", "\n            "))
		}
	}
}

// logs shows the end of the processes' logs.
func (s *screen) logs(processes []*process) {
	for _, p := range processes {
		lines := strings.Split(p.Log(), "\n")
		lines = lines[max(0, len(lines)-logLines):]
		fmt.Fprintf(s.out, "\n%s\n  %s\n", s.styled(bold, p.name+": the end of its log"), strings.Join(lines, "\n  "))
	}
}

func (s *screen) summary(ok bool, text string) {
	style := bold + ";" + green
	if !ok {
		style = bold + ";" + red
	}
	fmt.Fprintf(s.out, "\n%s\n\n", s.styled(style, text))
}
