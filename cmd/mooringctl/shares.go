// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/spf13/cobra"
)

func sharesCommand(o *options) *cobra.Command {
	l := &listing{}
	c := &cobra.Command{
		Use: "shares", Args: cobra.NoArgs,
		Short: "List the shares, with the id that each has on its disk",
		Long: `List the shares, with the id that each has on its disk. A share is "laid out", or "not laid out":
nothing of Mooring's is on the export. "another" is one of which the configuration says another id
(-o wide shows that, too). Two shares with one id are copies: see share reidentify.`,
		Example: `  mooringctl shares
  mooringctl shares -o json | jq -r '.[] | "\(.name) \(.id)"'`,
	}
	l.flags(c, false, false)
	c.RunE = o.listsWith(l, share.Options{ReadOnly: true, AnyID: true}, func(c *cobra.Command, s *session) error {
		return list(c, l, s.unless("There are no shares."), shareColumns(), func(each func(admin.Share) error) error {
			return admin.NewShares(s.Service).List(c.Context(), o.filter(""), each)
		})
	})
	return c
}

func shareColumns() []column[admin.Share] {
	return []column[admin.Share]{
		{head: "NAME", cell: func(s admin.Share) string { return s.Name }},
		{head: "EXPORT", cell: func(s admin.Share) string { return s.Export }},
		{head: "STATE", cell: func(s admin.Share) string { return s.State }},
		{head: "ID", cell: func(s admin.Share) string { return s.ID }},
		{head: "EXPECTED", wide: true, cell: func(s admin.Share) string { return s.Expected }},
		{head: "FREE", cell: func(s admin.Share) string { return sizeOf(s.Free) }},
		{head: "SIZE", cell: func(s admin.Share) string { return sizeOf(s.Total) }},
	}
}

func shareCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "share", Short: "Say which share an export is, where that has changed"}
	c.AddCommand(shareForgetCommand(o), shareReidentifyCommand(o))
	return c
}

func shareForgetCommand(o *options) *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "forget NAME", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeShares,
		Short: "Give up what was on a share that was emptied on purpose",
		Long: `Give up what was on a share that was emptied on purpose: a new disk, or .mooring was removed. The
share is laid out anew, with a new id. From then on there are none of the volumes and snapshots that
it had: their deletion is OK, and pods that want them do not start. You are asked first. Where there
is anything of Mooring's on the export, it is refused. A controller that has had the share mounted
uses it again when the configuration says the new id, or when it is restarted.

If the disk is only not mounted on the server, do not: mount it there. Volumes that were forgotten
are on it, and Kubernetes deletes nothing on it any more.`,
		Example: `  mooringctl share forget nas1`,
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		s, end, err := o.openWith(c, share.Options{AnyID: true})
		if err != nil {
			return err
		}
		defer end()
		shares := admin.NewShares(s.Service)
		if err := shares.Forgettable(c.Context(), args[0]); err != nil {
			return err
		}
		err = confirm(c, yes, "Give up all volumes and snapshots that were on share "+args[0]+", and lay it out anew? Do not, if its disk is only not mounted on the server.",
			"all that was on share "+args[0]+" would be given up", "Nothing was changed.")
		if err != nil {
			return err
		}
		done, err := shares.Forget(c.Context(), args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "share %s is laid out, and has the id %s\n", done.Name, done.ID)
		if done.Expected == "" {
			_, err := fmt.Fprintln(c.ErrOrStderr(), "A controller that has had it mounted uses it again when the configuration says this id, or when it is restarted.")
			return err
		}
		return sayExpected(c, done)
	}
	return c
}

func shareReidentifyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "reidentify NAME", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeShares,
		Short: "Give a share a new id",
		Long: `Give a share a new id, because it is a copy: one that rsync has made, or a snapshot of the server's
file system, has the id of what it is a copy of. Nothing else on it is changed. Do it on the copy,
and not on the original, of which a configuration may say the id. Controllers that have it mounted
notice within a minute. A share that was laid out before there were ids gets one in this way, too.`,
		Example: `  mooringctl share reidentify nas2`,
		RunE: func(c *cobra.Command, args []string) error {
			s, end, err := o.openWith(c, share.Options{AnyID: true})
			if err != nil {
				return err
			}
			defer end()
			done, err := admin.NewShares(s.Service).Reidentify(c.Context(), args[0])
			if err != nil {
				return err
			}
			before := done.Before
			if before == "" {
				before = "none"
			}
			fmt.Fprintf(c.OutOrStdout(), "share %s has the id %s, and had %s\n", done.Name, done.ID, before)
			return sayExpected(c, done)
		},
	}
}

// sayExpected says what is to be done about a configuration that says another id.
func sayExpected(c *cobra.Command, done admin.Identified) error {
	if done.Expected == "" {
		return nil
	}
	_, err := fmt.Fprintf(c.ErrOrStderr(), "The configuration says that its id is %s: set it to the new one. Until then the share is refused.\n", done.Expected)
	return err
}
