// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// reportBuilder collects the findings about one subject: this machine, a share, or one of a share's
// servers.
type reportBuilder struct {
	server string   // "": the share has only one, or the subject is not a server
	fill   []string // pairs of a placeholder in remedies and its value
	all    []Finding
}

func (s *reportBuilder) add(check Check, f Finding) {
	f.Check, f.Title, f.Server = check.ID, check.Title, s.server
	s.all = append(s.all, f)
}

func (s *reportBuilder) ok(id, format string, args ...any) {
	s.add(checkByID(id), Finding{Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (s *reportBuilder) skip(id, format string, args ...any) {
	s.add(checkByID(id), Finding{Status: Skip, Detail: fmt.Sprintf(format, args...)})
}

// problem adds a problem from the catalogue; the detail is what was observed.
func (s *reportBuilder) problem(id, cause, format string, args ...any) {
	check := checkByID(id)
	t := check.problem(cause)
	fill := strings.NewReplacer(s.fill...)
	command, onServer := strings.CutPrefix(t.Command, "@")
	s.add(check, Finding{
		Status: t.Status, Cause: t.Cause, Detail: fmt.Sprintf(format, args...),
		Why: check.Why, Remedy: fill.Replace(t.Remedy), Command: fill.Replace(command), OnServer: onServer,
	})
}

// has reports whether a check has a finding.
func (s *reportBuilder) has(id string) bool {
	return slices.ContainsFunc(s.all, func(f Finding) bool { return f.Check == id })
}

// skipRemaining skips the checks that have no finding yet, and sorts the findings in the catalogue's order.
func (s *reportBuilder) skipRemaining(checks []Check, reason string) {
	for _, c := range checks {
		if !s.has(c.ID) {
			s.skip(c.ID, "%s", reason)
		}
	}
	order := func(f Finding) int {
		return slices.IndexFunc(checks, func(c Check) bool { return c.ID == f.Check })
	}
	slices.SortStableFunc(s.all, func(a, b Finding) int { return order(a) - order(b) })
}
