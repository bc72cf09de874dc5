// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"testing"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

const goldenCheck = `[
  {
    "share": "nas1",
    "severity": "note",
    "path": ".mooring/claims/x",
    "what": "no volume has this claim",
    "remedy": "remove it"
  }
]
`

// TestCheck checks the output and the exit status.
func TestCheck(t *testing.T) {
	note := admin.Problem{Share: "nas1", Severity: "note", Path: ".mooring/claims/x", What: "no volume has this claim", Remedy: "remove it"}
	warning, broken := note, note
	warning.Severity, broken.Severity = "warning", "error"
	lost := errors.New("lost")
	for _, c := range []struct {
		name   string
		found  []admin.Problem
		format string
		err    error // of the search
		report error // of a share
		out    string
		want   error
	}{
		{name: "nothing", format: "table", out: "Nothing is wrong.\n"},
		{name: "nothing, but a share failed", format: "table", report: lost, out: "mooringctl: lost\n", want: exit(exitFailed)},
		{name: "notes", found: []admin.Problem{note}, format: "json", out: goldenCheck},
		{name: "a warning", found: []admin.Problem{note, warning}, format: "table", out: `SHARE   SEVERITY   PATH                WHAT
nas1    note       .mooring/claims/x   no volume has this claim
nas1    warning    .mooring/claims/x   no volume has this claim
`, want: exit(exitFailed)},
		{name: "an error", found: []admin.Problem{broken}, format: "wide", out: `SHARE   SEVERITY   PATH                WHAT                       REMEDY
nas1    error      .mooring/claims/x   no volume has this claim   remove it
`, want: exit(exitFailed)},
		{name: "a failure", format: "json", err: lost, out: "[]\n", want: lost},
	} {
		var b bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetOut(&b)
		cmd.SetErr(&b)
		s := &session{stderr: &b}
		err := s.finish(check(cmd, &listOptions{format: c.format}, s, func(each func(admin.Problem) error) error {
			if c.report != nil {
				s.report(c.report)
			}
			for _, p := range c.found {
				if err := each(p); err != nil {
					return err
				}
			}
			return c.err
		}))
		if err != c.want || b.String() != c.out {
			t.Errorf("%s: error = %v, output\n%s", c.name, err, b.String())
		}
	}
}
