// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func checkCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "check", Args: cobra.NoArgs,
		Short: "Check what Mooring keeps on the shares, and find what is broken",
		Long: `Check everything that Mooring keeps on the shares, and find what is broken, for example after a
crash of a server, or after a share was restored from a backup. The check changes nothing, and can
run beside controllers: it checks each problem again some seconds later. With -o wide, it prints
the remedy of each problem.

The exit status is 0 if there are at most notes, and 1 if there are warnings or errors, or if a
share could not be checked.`,
		Example: `  mooringctl check
  mooringctl check --share nas1 -o json | jq -r '.[] | select(.severity == "error") | .path'`,
	}
	l.flags(c, false, false, heads(checkColumns()))
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return check(c, l, s, func(each func(admin.Problem) error) error {
			return s.Check(c.Context(), o.filter(""), each)
		})
	})
	return c
}

// check prints the problems that find reports, and fails if there are warnings or errors.
func check(c *cobra.Command, l *listOptions, s *session, find func(each func(admin.Problem) error) error) error {
	wrong := false
	err := list(c, l, s.emptyMessage("Nothing is wrong."), checkColumns(), func(each func(admin.Problem) error) error {
		return find(func(p admin.Problem) error {
			wrong = wrong || p.Wrong()
			return each(p)
		})
	})
	if err != nil || !wrong {
		return err
	}
	return exit(exitFailed)
}

func checkColumns() []column[admin.Problem] {
	return []column[admin.Problem]{
		{head: "SHARE", cell: func(p admin.Problem) string { return p.Share }},
		{head: "SEVERITY", cell: func(p admin.Problem) string { return p.Severity }},
		{head: "PATH", cell: func(p admin.Problem) string { return p.Path }},
		{head: "WHAT", cell: func(p admin.Problem) string { return p.What }},
		{head: "REMEDY", wide: true, cell: func(p admin.Problem) string { return p.Remedy }},
	}
}
