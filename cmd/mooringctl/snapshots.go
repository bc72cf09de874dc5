// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

func snapshotsCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "snapshots", Aliases: []string{"snapshot", "snap"}, Args: cobra.NoArgs,
		Short: "List the snapshots on the shares",
		Long: `List the snapshots on the shares. The size is what a restore writes; with CLONE a snapshot takes
less. The claim is that of the volume, as long as the volume exists.`,
	}
	l.flags(c, true, false, heads(snapshotColumns()))
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("There are no snapshots."), snapshotColumns(), func(each func(admin.Snapshot) error) error {
			return s.Snapshots(c.Context(), o.filter(l.namespace), each)
		})
	})
	return c
}

func snapshotColumns() []column[admin.Snapshot] {
	return []column[admin.Snapshot]{
		{head: "HANDLE", cell: func(r admin.Snapshot) string { return r.Handle }},
		{head: "VOLUME", cell: func(r admin.Snapshot) string { return r.Volume }},
		claimColumn(func(r admin.Snapshot) *volume.PVC { return r.Claim }),
		sizeColumn("SIZE", func(r admin.Snapshot) int64 { return r.Size }),
		timeColumn("CREATED", func(r admin.Snapshot) time.Time { return r.Created }, formatTime),
		{head: "CAPACITY", wide: true, number: func(r admin.Snapshot) int64 { return r.Capacity }, cell: func(r admin.Snapshot) string { return volume.FormatBytes(r.Capacity) }},
		{head: "GROUP", wide: true, cell: func(r admin.Snapshot) string { return r.Group }},
		{head: "MAKER", wide: true, cell: func(r admin.Snapshot) string { return r.Maker }},
	}
}
