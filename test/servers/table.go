// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// markdown is the table of all servers of which there are results, and below it what is not ✓.
func markdown(dir string) (string, error) {
	var rows, notes strings.Builder
	for _, s := range servers {
		all, err := read(dir, s.name)
		if err != nil {
			return "", err
		}
		for _, r := range all {
			rows.WriteString(r.row())
			notes.WriteString(r.notes())
		}
	}
	return "| Server | NFS | csi-sanity | life | killed | copies by | a clone lacks | doctor | create, delete |\n" +
		"|---|---|---|---|---|---|---|---|---|\n" + rows.String() + "\n" + notes.String(), nil
}

func (r *result) row() string {
	killed := r.mark("outage")
	if r.Killed == "" {
		killed = "-"
	}
	lost := "nothing"
	if n := len(r.Refused) + len(r.Changed) + len(r.Lost); n > 0 {
		lost = fmt.Sprintf("%d", len(r.Lost))
		if n > len(r.Lost) {
			lost += fmt.Sprintf(" (the server: %d)", n-len(r.Lost))
		}
	}
	method, trips := r.Method, fmt.Sprintf("%d, %d", r.Create, r.Delete)
	if method == "" {
		method, lost, trips = "-", "-", "-"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
		r.Title, r.Run, r.Sanity, r.mark("life", "fidelity"), killed, method, lost, doctorMark(r.Doctor), trips)
}

// mark says whether something is broken in one of the parts.
func (r *result) mark(parts ...string) string {
	for _, broken := range r.Broken {
		for _, part := range parts {
			if strings.HasPrefix(broken, part+":") {
				return "✗"
			}
		}
	}
	return "✓"
}

// String is how many specs passed, of those that were run.
func (s *sanity) String() string {
	switch {
	case s == nil:
		return "-"
	case s.Failed == 0:
		return fmt.Sprintf("✓ %d of %d", s.Passed, s.Passed)
	}
	return fmt.Sprintf("✗ %d of %d", s.Passed, s.Passed+s.Failed)
}

// doctorMark is the worst that was found, and how often.
func doctorMark(found []string) string {
	broken := 0
	for _, line := range found {
		if strings.HasPrefix(line, "✗") {
			broken++
		}
	}
	switch {
	case broken > 0:
		return fmt.Sprintf("✗ %d", broken)
	case len(found) > 0:
		return fmt.Sprintf("! %d", len(found))
	}
	return "✓"
}

// notes say what the row's figures count.
func (r *result) notes() string {
	var lines []string
	for _, n := range []struct {
		what string
		all  []string
	}{
		{"broken", r.Broken}, {"csi-sanity fails", r.Sanity.failures()}, {"the server refuses", r.Refused}, {"the server does not keep", r.Changed},
		{"a clone lacks", r.Lost}, {"doctor", r.Said},
	} {
		for _, text := range n.all {
			lines = append(lines, fmt.Sprintf("  - %s: %s\n", n.what, short(text)))
		}
	}
	if lines == nil {
		return ""
	}
	return fmt.Sprintf("- **%s, %s**\n%s", r.Title, r.Run, strings.Join(lines, ""))
}

func (s *sanity) failures() []string {
	if s == nil {
		return nil
	}
	return s.Failures
}

// short is a text on one line of Markdown, without what would be taken for it.
func short(text string) string {
	text = strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;", "`", "'").Replace(text)
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "..."
	}
	return text
}
