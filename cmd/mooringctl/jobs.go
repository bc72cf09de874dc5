// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func jobsCommand(o *options) *cobra.Command {
	l := &listing{}
	c := &cobra.Command{
		Use: "jobs", Aliases: []string{"job"}, Args: cobra.NoArgs,
		Short: "List the snapshots, restores and clones that are being copied",
		Long: `List the snapshots, restores and clones that are being copied. A controller gives a sign of life
every 5 seconds for each. One without is waiting for a controller to take it over, which the
next try of the request does.`,
	}
	l.flags(c, false, true)
	c.RunE = o.lists(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.unless("Nothing is being copied."), jobColumns(), func(each func(admin.Job) error) error {
			return s.Jobs(c.Context(), o.filter(""), each)
		})
	})
	return c
}

func jobColumns() []column[admin.Job] {
	return []column[admin.Job]{
		{head: "SHARE", cell: func(j admin.Job) string { return j.Share }},
		{head: "TARGET", cell: func(j admin.Job) string { return j.Target }},
		{head: "SOURCE", cell: func(j admin.Job) string { return j.Source }},
		{head: "STATE", cell: func(j admin.Job) string { return j.State }},
		{head: "AGE", cell: func(j admin.Job) string { return age(j.Began) }},
		{head: "ALIVE", cell: func(j admin.Job) string { return ago(j.Alive) }},
		{head: "MAKER", wide: true, cell: func(j admin.Job) string { return j.Maker }},
	}
}
