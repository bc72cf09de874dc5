// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func jobsCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "jobs", Aliases: []string{"job"}, Args: cobra.NoArgs,
		Short: "List the snapshots, restores and clones that are being copied",
		Long: `List the snapshots, restores and clones that are being copied. A controller renews its lease on
each job every 5 seconds. A job without a recent renewal waits until a controller takes it over, at
the next retry of the request.`,
	}
	l.flags(c, false, true)
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("Nothing is being copied."), jobColumns(), func(each func(admin.Job) error) error {
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
		{head: "AGE", cell: func(j admin.Job) string { return formatAge(j.Began) }},
		{head: "ALIVE", cell: func(j admin.Job) string { return formatAgo(j.Alive) }},
		{head: "MAKER", wide: true, cell: func(j admin.Job) string { return j.Maker }},
	}
}
