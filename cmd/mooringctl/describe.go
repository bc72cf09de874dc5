// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

func describeCommand(o *options) *cobra.Command {
	k := &clusterOptions{}
	format := ""
	c := &cobra.Command{
		Use: "describe HANDLE|PV|NAMESPACE/CLAIM", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeVolumes(),
		Short: "Show everything about one volume",
		Long: `Show everything about one volume: its record, its directory and the claim on it, its snapshots, the
copies from and to it, its entries in the trash, and the health of its share. The volume is named by its
handle, by its PersistentVolume, or by its PersistentVolumeClaim. A deleted volume is found as long as it
is in the trash. The command changes nothing.

The exit status is 1 if there is no such volume, if a part of it cannot be read, or if its share is not
healthy.`,
		Example: `  mooringctl describe nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b
  mooringctl describe shop/db -o yaml`,
	}
	formatFlag(c, &format, documentFormats)
	k.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := checkFormat(format, documentFormats); err != nil {
			return err
		}
		s, end, err := o.open(c, false)
		if err != nil {
			return err
		}
		defer end()
		return s.finish(s.describe(c, o.filter(""), k, args[0], format))
	}
	return c
}

func (s *session) describe(c *cobra.Command, f admin.Filter, k *clusterOptions, ref, format string) error {
	handle, err := s.find(c.Context(), f, k, ref)
	if errors.Is(err, volume.ErrNotFound) && s.failed.Load() { // it may be on a share that was reported
		return exit(exitFailed)
	}
	if err != nil {
		return err
	}
	d, err := admin.NewDescriber(s.Service).Describe(c.Context(), handle)
	if err != nil {
		return err
	}
	if d.Share.Problem != "" {
		s.report(errors.New(d.Share.Problem))
	}
	return printDocument(c.OutOrStdout(), format, d, description)
}

// find finds a volume on the shares or, if nothing there has that name, by the cluster's PersistentVolumes.
func (s *session) find(ctx context.Context, f admin.Filter, k *clusterOptions, ref string) (volume.Handle, error) {
	volumes := admin.NewDescriber(s.Service)
	handle, err := volumes.Find(ctx, f, ref)
	if !errors.Is(err, volume.ErrNotFound) {
		return handle, err
	}
	client, failed := k.open()
	if failed != nil {
		s.report(failed)
	}
	if client == nil {
		return handle, err
	}
	found := ""
	failed = client.PersistentVolumes(ctx, k.driver, func(v kube.PersistentVolume) error {
		if v.Name == ref || v.Namespace+"/"+v.Claim == ref {
			found = v.Handle
		}
		return nil
	})
	if failed != nil {
		s.report(failed)
	}
	if found == "" {
		return handle, err
	}
	return volumes.Find(ctx, f, found)
}

// description formats a volume as text.
func description(d *admin.Description) string {
	var b strings.Builder
	field := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s%s\n", name+":", formatCell(fmt.Sprintf(format, args...)))
	}
	field("Handle", "%s", d.Handle)
	if v := d.Volume; v == nil {
		field("State", "deleted")
	} else {
		field("State", "%s", v.State)
		describeRecord(field, v)
	}
	if d.Directory != nil {
		field("Directory", "%s (%s)", d.Directory.Path, directoryState(d))
	}
	field("Share", "%s", shareState(d.Share))
	section(&b, "Snapshots", snapshotColumns(), d.Snapshots, "VOLUME", "CLAIM")
	section(&b, "Copies", jobColumns(), d.Jobs)
	section(&b, "Trash", trashColumns(), d.Trash)
	for _, e := range d.Trash {
		if e.Restorable() && d.Volume == nil {
			fmt.Fprintf(&b, "\nTo restore it: mooringctl trash restore %s\n", sanitize(e.Entry))
		}
	}
	return b.String()
}

func describeRecord(field func(name, format string, args ...any), v *admin.Volume) {
	if v.Directory == "" { // the record is not readable
		return
	}
	field("Claim", "%s", formatClaim(v.Claim))
	field("Capacity", "%s", volume.FormatBytes(v.Capacity))
	field("Created", "%s", formatTime(v.Created))
	onDelete := string(v.OnDelete)
	if v.Retention != "" {
		onDelete += ", kept in the trash for " + v.Retention
	}
	field("On delete", "%s", onDelete)
	field("Owner", "uid %s, gid %s, mode %s", formatCell(formatID(v.UID)), formatCell(formatID(v.GID)), formatCell(v.Mode))
	field("Source", "%s", v.Source)
	field("Restored", "%s", v.Restored)
	field("Maker", "%s", v.Maker)
}

// directoryState returns whether a volume has its directory.
func directoryState(d *admin.Description) string {
	state := "exists"
	if !d.Directory.Exists {
		state = "missing"
	}
	switch d.Directory.ClaimedBy {
	case d.Handle:
		return state + ", claimed by this volume"
	case "":
		return state + ", not claimed"
	}
	return state + ", claimed by " + d.Directory.ClaimedBy
}

func shareState(h admin.Health) string {
	state := h.Share + ", " + h.Export
	if !h.Reachable {
		return state + ", not reachable"
	}
	if h.Version != "" {
		state += ", NFS " + h.Version
	}
	if h.Free != nil {
		state += fmt.Sprintf(", %s of %s free", volume.FormatBytes(*h.Free), volume.FormatBytes(*h.Total))
	}
	return state
}

// section writes a table with a title, without the columns hidden, or that there is nothing.
func section[T any](b *strings.Builder, title string, columns []column[T], rows []T, hidden ...string) {
	if len(rows) == 0 {
		fmt.Fprintf(b, "%-12snone\n", title+":")
		return
	}
	var table bytes.Buffer
	columns = slices.DeleteFunc(columns, func(c column[T]) bool { return slices.Contains(hidden, c.head) })
	p := newPrinter(&table, nil, "table", nil, columns)
	for _, r := range rows {
		_ = p.row(r) // a buffer does not fail
	}
	_ = p.finish()
	fmt.Fprintf(b, "%s:\n", title)
	for line := range bytes.Lines(table.Bytes()) {
		fmt.Fprintf(b, "  %s", line)
	}
}
