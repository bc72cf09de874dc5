// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/spf13/cobra"
)

func healthCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "health", Args: cobra.NoArgs,
		Short: "Check that the shares are reachable and writable",
		Long: `Check that the shares are reachable and writable, in a line per share, with the version of NFS and the
free space. The command mounts each share, creates an empty file in it and removes that file. It prints
the problem of a share on standard error; doctor finds the cause.

The exit status is 0 if all shares are healthy, and 1 if one is not.`,
		Example: `  mooringctl health
  mooringctl health --share nas1 -o json | jq -r '.[].problem'`,
	}
	l.flags(c, false, false, heads(healthColumns()))
	c.RunE = o.runListWith(l, share.Options{AnyID: true}, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("There are no shares."), healthColumns(), func(each func(admin.Health) error) error {
			return admin.NewShares(s.Service).Health(c.Context(), o.filter(""), func(h admin.Health) error {
				if h.Problem != "" {
					s.report(errors.New(h.Problem))
				}
				return each(h)
			})
		})
	})
	return c
}

func healthColumns() []column[admin.Health] {
	return []column[admin.Health]{
		{head: "SHARE", cell: func(h admin.Health) string { return h.Share }},
		{head: "EXPORT", wide: true, cell: func(h admin.Health) string { return h.Export }},
		{head: "REACHABLE", cell: func(h admin.Health) string { return formatBool(&h.Reachable) }},
		{head: "WRITABLE", cell: func(h admin.Health) string { return formatBool(h.Writable) }},
		{head: "NFS", cell: func(h admin.Health) string { return h.Version }},
		spaceColumn("FREE", func(h admin.Health) *int64 { return h.Free }),
		spaceColumn("SIZE", func(h admin.Health) *int64 { return h.Total }),
	}
}

// formatBool formats an answer; "": it is not known.
func formatBool(yes *bool) string {
	switch {
	case yes == nil:
		return ""
	case *yes:
		return "yes"
	}
	return "no"
}
