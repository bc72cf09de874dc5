// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/spf13/cobra"
)

func orphansCommand(o *options) *cobra.Command {
	l, k := &listOptions{}, &clusterOptions{}
	c := &cobra.Command{
		Use: "orphans", Aliases: []string{"orphan"}, Args: cobra.NoArgs,
		Short: "Find orphaned directories, records and PersistentVolumes",
		Long: `Find orphans: directories without a volume, volumes without a directory, volumes whose creation
or deletion was abandoned, claims on directories without a volume. In a cluster also PersistentVolumes
without a volume and volumes without a PersistentVolume, and the same for snapshots. The command
changes nothing. With -o wide, it prints the remedy for each orphan.`,
	}
	l.flags(c, false, false, heads(orphanColumns()))
	k.flags(c)
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		var in admin.Cluster
		switch client, err := k.open(); {
		case err != nil:
			s.report(err)
		case client == nil:
			fmt.Fprintln(c.ErrOrStderr(), "No cluster is configured: PersistentVolumes are not checked (--kubeconfig).")
		default:
			in = client
		}
		return list(c, l, s.emptyMessage("There are no orphans."), orphanColumns(), func(each func(admin.Orphan) error) error {
			return s.Orphans(c.Context(), o.filter(""), in, k.driver, each)
		})
	})
	return c
}

func orphanColumns() []column[admin.Orphan] {
	return []column[admin.Orphan]{
		{head: "SHARE", cell: func(r admin.Orphan) string { return r.Share }},
		{head: "KIND", cell: func(r admin.Orphan) string { return r.Kind }},
		{head: "NAME", cell: func(r admin.Orphan) string { return r.Name }},
		{head: "WHY", cell: func(r admin.Orphan) string { return r.Why }},
		{head: "REMEDY", wide: true, cell: func(r admin.Orphan) string { return r.Remedy }},
	}
}
