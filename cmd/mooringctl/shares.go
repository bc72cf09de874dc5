// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/spf13/cobra"
)

func sharesCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "shares", Args: cobra.NoArgs,
		Short: "List the shares, with the id that each has on its disk",
		Long: `List the shares, with the id that each has on its disk. A share is "laid out" or, if the export has
no Mooring data, "not laid out". "another" means that its id is not the one in the configuration, which
-o wide shows, too. Two shares with one id are copies: see share reidentify.`,
		Example: `  mooringctl shares
  mooringctl shares -o json | jq -r '.[] | "\(.name) \(.id)"'`,
	}
	l.flags(c, false, false, heads(shareColumns()))
	c.RunE = o.runListWith(l, share.Options{ReadOnly: true, AnyID: true}, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("There are no shares."), shareColumns(), func(each func(admin.Share) error) error {
			return admin.NewShares(s.Service).List(c.Context(), o.filter(""), each)
		})
	})
	return c
}

func shareColumns() []column[admin.Share] {
	return []column[admin.Share]{
		{head: "NAME", cell: func(s admin.Share) string { return s.Name }},
		{head: "EXPORT", shrink: true, cell: func(s admin.Share) string { return s.Export }},
		{head: "STATE", cell: func(s admin.Share) string { return s.State }},
		{head: "ID", cell: func(s admin.Share) string { return s.ID }},
		{head: "EXPECTED", wide: true, cell: func(s admin.Share) string { return s.Expected }},
		spaceColumn("FREE", func(s admin.Share) *int64 { return s.Free }),
		spaceColumn("SIZE", func(s admin.Share) *int64 { return s.Total }),
	}
}

func shareCommand(o *options) *cobra.Command {
	c := &cobra.Command{Use: "share", Short: "Change the identity of a share"}
	c.AddCommand(shareForgetCommand(o), shareReidentifyCommand(o))
	return c
}

func shareForgetCommand(o *options) *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "forget NAME", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeShares,
		Short: "Give up the content of a share that was emptied on purpose",
		Long: `Give up the content of a share that was emptied on purpose: it has a new disk, or .mooring was removed.
The share is laid out again, with a new id. After that, the volumes and snapshots that it had no longer
exist: their deletion succeeds, and pods that use them do not start. The command asks before it does
that, and refuses if the export has any Mooring data. A controller that had mounted the share uses
it again when the configuration has the new id, or after a restart.

Do not use this if the disk is only not mounted on the server: mount it there instead. The forgotten
volumes would still be on it, and Kubernetes would not delete them.`,
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
		err = confirm(c, yes, "Give up all volumes and snapshots that were on share "+args[0]+", and lay it out again? Do not do this if its disk is only not mounted on the server.",
			"this gives up everything that was on share "+args[0], "Nothing was changed.")
		if err != nil {
			return err
		}
		done, err := shares.Forget(c.Context(), args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "share %s is laid out, and has the id %s\n", done.Name, done.ID)
		if done.Expected == "" {
			_, err := fmt.Fprintln(c.ErrOrStderr(), "A controller that had mounted it uses it again when the configuration has this id, or after a restart.")
			return err
		}
		return printExpected(c, done)
	}
	return c
}

func shareReidentifyCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use: "reidentify NAME", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeShares,
		Short: "Give a share a new id",
		Long: `Give a share a new id, because it is a copy: a share that was made by rsync, or from a snapshot of the
server's file system, has the id of the original. The command changes nothing else. Use it for the copy,
not for the original, whose id may be in a configuration. Controllers that have mounted the share
notice the change within a minute. The command also gives an id to a share that was laid out before
there were ids.`,
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
			return printExpected(c, done)
		},
	}
}

// printExpected prints what to do if the configuration has another id.
func printExpected(c *cobra.Command, done admin.Identified) error {
	if done.Expected == "" {
		return nil
	}
	_, err := fmt.Fprintf(c.ErrOrStderr(), "The configuration has the id %s: set it to the new one. Until then the driver refuses the share.\n", done.Expected)
	return err
}
