// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func jobsCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "jobs [VOLUME|SNAPSHOT]", Aliases: []string{"job"}, Args: cobra.MaximumNArgs(1), ValidArgsFunction: o.completeJobs(),
		Short: "List the snapshots, restores and clones that are being copied",
		Long: `List the snapshots, restores and clones that are being copied. A controller renews its lease on
each job every 5 seconds. A job without a recent renewal waits until a controller takes it over, at
the next retry of the request. With a handle, or the last part of one, only the copies to and from that
volume or snapshot are listed.`,
		Example: `  mooringctl jobs --watch
  mooringctl jobs nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b`,
	}
	l.flags(c, false, true, heads(jobColumns()))
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("Nothing is being copied."), jobColumns(), func(each func(admin.Job) error) error {
			return s.Jobs(c.Context(), o.filter(""), func(j admin.Job) error {
				if args := c.Flags().Args(); len(args) > 0 && !j.Concerns(args[0]) {
					return nil
				}
				return each(j)
			})
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
		timeColumn("AGE", func(j admin.Job) time.Time { return j.Began }, formatAge),
		timeColumn("ALIVE", func(j admin.Job) time.Time { return j.Alive }, formatAgo),
		{head: "MAKER", wide: true, cell: func(j admin.Job) string { return j.Maker }},
	}
}
