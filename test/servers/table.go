// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// page is the table of all servers with its notes. A text about several servers is one note.
type page struct {
	rows  strings.Builder
	notes []string
}

// markdown returns the page of all servers that have results.
func markdown(dir string) (string, error) {
	p := &page{}
	for _, s := range servers {
		all, err := read(dir, s.name)
		if err != nil {
			return "", err
		}
		for _, r := range all {
			p.row(r)
		}
	}
	var b strings.Builder
	b.WriteString("| Server | NFS | csi-sanity | life | killed | stopped | copies by | the server lacks | clones lack | doctor | create, delete |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|\n" + p.rows.String())
	for i, note := range p.notes {
		fmt.Fprintf(&b, "\n%d. %s", i+1, note)
	}
	if p.notes != nil {
		b.WriteString("\n")
	}
	return strings.Replace(b.String(), "|\n\n1. ", "|\n\nNotes:\n\n1. ", 1), nil
}

func (p *page) row(r *result) {
	life := p.mark(append(r.faultsOf("life"), r.faultsOf("fidelity")...), "✗")
	killed, stopped := p.mark(r.faultsOf("outage"), "✗"), strings.TrimSuffix(p.mark(r.faultsOf("paused"), "✗")+" "+r.Paused, " ")
	lacks := p.mark(append(prefixed("refused: ", r.Refused), prefixed("not kept: ", r.Changed)...), "")
	method, lost, trips := r.Method, p.mark(prefixed("in no clone: ", r.Lost), ""), fmt.Sprintf("%d, %d", r.Create, r.Delete)
	if r.Paused == "" && len(r.faultsOf("paused")) == 0 {
		stopped = "-"
	}
	switch {
	case r.Sanity == nil: // hopeless
		killed, stopped, method, lacks, lost, trips = "-", "-", "-", "-", "-", "-"
	case r.Killed == "" && len(r.faultsOf("outage")) == 0:
		killed = "-"
	}
	fmt.Fprintf(&p.rows, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n",
		r.Title, r.Run, p.sanity(r.Sanity), life, killed, stopped, method, lacks, lost, p.doctor(r), trips)
}

// faultsOf returns the faults of a part.
func (r *result) faultsOf(part string) (all []string) {
	for _, broken := range r.Broken {
		if strings.HasPrefix(broken, part+": ") {
			all = append(all, broken)
		}
	}
	return all
}

func prefixed(prefix string, all []string) (texts []string) {
	for _, text := range all {
		texts = append(texts, prefix+text)
	}
	return texts
}

// mark returns ✓, or the symbol for the texts with the numbers of their notes.
func (p *page) mark(texts []string, mark string) string {
	if len(texts) == 0 {
		return "✓"
	}
	var numbers []string
	for _, text := range texts {
		numbers = append(numbers, p.note(text))
	}
	return strings.TrimSpace(mark + " " + strings.Join(numbers, " "))
}

// note returns the number of a note in brackets.
func (p *page) note(text string) string {
	text = short(text)
	i := slices.Index(p.notes, text)
	if i < 0 {
		i = len(p.notes)
		p.notes = append(p.notes, text)
	}
	return fmt.Sprintf("[%d]", i+1)
}

// sanity returns the number of passed specs, and of those that did not skip themselves.
func (p *page) sanity(s *sanity) string {
	switch {
	case s == nil:
		return "-"
	case s.Failed == 0:
		return fmt.Sprintf("✓ %d", s.Passed)
	}
	return fmt.Sprintf("✗ %d of %d", s.Passed, s.Passed+s.Failed)
}

func (p *page) doctor(r *result) string {
	mark := "!"
	for _, line := range r.Doctor {
		if strings.HasPrefix(line, "✗") {
			mark = "✗"
		}
	}
	return p.mark(prefixed("doctor: ", r.Said), mark)
}

func (s *sanity) failures() []string {
	if s == nil {
		return nil
	}
	return s.Failures
}

// short returns a text on one line with Markdown escaped.
func short(text string) string {
	if strings.Contains(text, zeros) {
		return "outage: a file that was open has zeros in place of what was synced, a fault of NFS 4.0 of Linux 7.2: [limits](limits.md#nfs-cannot)"
	}
	text = strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;", "`", "'").Replace(text)
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "..."
	}
	return text
}
