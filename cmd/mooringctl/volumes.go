// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

func volumesCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "volumes", Aliases: []string{"volume", "vol"}, Args: cobra.NoArgs,
		Short: "List the volumes on the shares",
		Long: `List the volumes on the shares by their records, sorted by the names of the shares. The claim is the
one for which the volume was created. A volume whose record cannot be read is listed by its handle, as
"unreadable".`,
		Example: `  mooringctl volumes --share nas1 -n shop
  mooringctl volumes -o json | jq -r '.[] | select(.capacityBytes > 1e12) | .handle'`,
	}
	l.flags(c, true, true, heads(volumeColumns()))
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("There are no volumes."), volumeColumns(), func(each func(admin.Volume) error) error {
			return s.Volumes(c.Context(), o.filter(l.namespace), each)
		})
	})
	return c
}

func volumeColumns() []column[admin.Volume] {
	return []column[admin.Volume]{
		{head: "HANDLE", cell: func(v admin.Volume) string { return v.Handle }},
		claimColumn(func(v admin.Volume) *volume.PVC { return v.Claim }),
		{head: "DIRECTORY", shrink: true, cell: func(v admin.Volume) string { return v.Directory }},
		sizeColumn("CAPACITY", func(v admin.Volume) int64 { return v.Capacity }),
		timeColumn("CREATED", func(v admin.Volume) time.Time { return v.Created }, formatTime),
		{head: "ON-DELETE", cell: func(v admin.Volume) string { return string(v.OnDelete) }},
		{head: "STATE", cell: func(v admin.Volume) string { return v.State }},
		{head: "UID", wide: true, cell: func(v admin.Volume) string { return formatID(v.UID) }},
		{head: "GID", wide: true, cell: func(v admin.Volume) string { return formatID(v.GID) }},
		{head: "MODE", wide: true, cell: func(v admin.Volume) string { return v.Mode }},
		{head: "SOURCE", wide: true, cell: func(v admin.Volume) string { return v.Source }},
		{head: "RETENTION", wide: true, cell: func(v admin.Volume) string { return v.Retention }},
		{head: "MAKER", wide: true, cell: func(v admin.Volume) string { return v.Maker }},
	}
}
