// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

func trashCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "trash",
		Short: "See what was deleted, bring it back, or remove it for good",
	}
	c.AddCommand(trashListCommand(o), trashRestoreCommand(o), trashPurgeCommand(o))
	return c
}

func trashListCommand(o *options) *cobra.Command {
	l := &listing{}
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List what is in the trash",
		Long: `List what is in the trash, the oldest first, and when it will be purged: that was fixed when it was
deleted, by the server's clock. What is "whole" can be brought back, if it is a volume. What is
"unfinished" waits for its deletion to go on, and is not purged before; nor is what has a record
that is "unreadable". What is "in place" is purged there: a project quota keeps it out
of the trash.`,
	}
	l.flags(c, true, true)
	c.RunE = o.lists(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.unless("The trash is empty."), trashColumns(), func(each func(admin.Deleted) error) error {
			return s.Trash(c.Context(), o.filter(l.namespace), each)
		})
	})
	return c
}

func trashColumns() []column[admin.Deleted] {
	return []column[admin.Deleted]{
		{head: "ENTRY", cell: func(d admin.Deleted) string { return d.Entry }},
		{head: "KIND", cell: func(d admin.Deleted) string { return d.Kind }},
		{head: "STATE", cell: func(d admin.Deleted) string { return d.State }},
		{head: "CLAIM", cell: func(d admin.Deleted) string { return claim(d.Claim) }},
		{head: "CAPACITY", cell: func(d admin.Deleted) string { return size(d.Capacity) }},
		{head: "DELETED", cell: func(d admin.Deleted) string { return ago(d.Deleted) }},
		{head: "PURGED", cell: purged},
		{head: "DIRECTORY", wide: true, cell: func(d admin.Deleted) string { return d.Directory }},
		{head: "PURGED-AFTER", wide: true, cell: func(d admin.Deleted) string { return at(d.Due) }},
	}
}

// purged says when something is; "": nobody can say.
func purged(d admin.Deleted) string {
	if d.Kept() {
		return ""
	}
	if left := time.Until(d.Due); left > 0 {
		return "in " + span(left)
	}
	return "now"
}

// restoring are the flags of trash restore.
type restoring struct {
	cluster
	directory, claim, class string
}

func trashRestoreCommand(o *options) *cobra.Command {
	r := &restoring{}
	c := &cobra.Command{
		Use: "restore ENTRY|HANDLE", Args: cobra.ExactArgs(1),
		Short: "Bring a deleted volume back",
		Long: `Bring a deleted volume back: its directory, where it was, and its record. The manifests of the
PersistentVolume and the PersistentVolumeClaim that the cluster needs for it are printed, to be
applied. Nothing that is there is replaced: where the directory's place is taken, name another
by --directory. It can be interrupted and repeated.`,
		Example: `  mooringctl trash restore nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b >volume.yaml
  kubectl mooring trash restore nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b | kubectl apply -f -`,
	}
	c.Flags().StringVar(&r.directory, "directory", "", "the directory to bring it back to, beneath the share (none: where it was)")
	c.Flags().StringVar(&r.claim, "claim", "", "namespace/name of the claim that is to have it (none: the one it was made for)")
	c.Flags().StringVar(&r.class, "storage-class", "", "the StorageClass in the manifests (none: the one of the cluster that names the share, if it is the only one)")
	r.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, end, err := o.open(c, true)
		if err != nil {
			return err
		}
		defer end()
		return s.end(r.restore(c, s, o, args[0]))
	}
	return c
}

func (r *restoring) restore(c *cobra.Command, s *session, o *options, ref string) error {
	ctx, f := c.Context(), o.filter("")
	_, deleted, err := s.DeletedRecord(ctx, f, ref)
	if err != nil {
		return err
	}
	pvc, err := r.pvc(deleted)
	if err != nil {
		return err
	}
	name, record, err := s.Restore(ctx, f, ref, r.directory)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "Volume %s/%s is back, in the directory %s.\n", name, record.Key, harmless(record.Directory))
	if r.directory != "" && r.directory != record.Directory {
		fmt.Fprintf(c.ErrOrStderr(), "An earlier attempt had brought it back there, and not to %s.\n", r.directory)
	}
	text, err := admin.Manifests{Driver: r.driver, Share: name, Record: record, Claim: pvc, Class: r.storageClass(ctx, s, name, pvc)}.YAML()
	if err != nil {
		return err
	}
	if _, err := c.OutOrStdout().Write(text); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "Apply these manifests, and pods can use it as the claim %s.\n", pvc)
	return nil
}

// pvc finds whose claim it is to be.
func (r *restoring) pvc(deleted *volume.Record) (volume.PVC, error) {
	if r.claim != "" {
		namespace, name, ok := strings.Cut(r.claim, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return volume.PVC{}, volume.Errorf(volume.ErrInvalid, "--claim is %q, and should read namespace/name", r.claim)
		}
		return volume.PVC{Namespace: namespace, Name: name}, nil
	}
	if deleted.PVC == nil {
		return volume.PVC{}, volume.Errorf(volume.ErrPrecondition, "the record of volume %s does not say whose claim it was made for: name one by --claim namespace/name", deleted.Key)
	}
	return *deleted.PVC, nil
}

// storageClass asks the cluster, if there is one. The volume is back, whatever that says.
func (r *restoring) storageClass(ctx context.Context, s *session, share string, pvc volume.PVC) kube.StorageClass {
	class := kube.StorageClass{Name: r.class}
	client, err := r.open()
	if err != nil {
		s.report(err)
	}
	if client == nil {
		return class
	}
	classes, err := client.StorageClasses(ctx, r.driver)
	if err != nil {
		s.report(err)
	}
	if class.Name == "" {
		class = admin.ClassOf(s.Service, classes, share)
	}
	for _, known := range classes {
		if known.Name == class.Name {
			class = known
		}
	}
	has, err := client.HasClaim(ctx, pvc.Namespace, pvc.Name)
	if err != nil {
		s.report(err)
	} else if has {
		fmt.Fprintf(s.stderr, "There is a claim %s already: run this again with another --claim, or delete that one first.\n", pvc)
	}
	return class
}

func trashPurgeCommand(o *options) *cobra.Command {
	var all, yes bool
	namespace := ""
	c := &cobra.Command{
		Use:   "purge ENTRY|HANDLE... | --all",
		Short: "Remove what was deleted for good, before its time",
		Long: `Remove what was deleted for good, before its time: its space is free then, and nothing brings it
back. You are asked first. What is "unfinished" or "unreadable" in trash list stays.`,
	}
	c.Flags().BoolVar(&all, "all", false, "all that is in the trash (of the --share, of the --namespace)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "with --all: only what was of claims in this namespace")
	c.Args = func(_ *cobra.Command, args []string) error {
		if all == (len(args) > 0) || namespace != "" && !all {
			return volume.Errorf(volume.ErrInvalid, "name what is to be purged, as trash list shows it, or say --all")
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		what := strings.Join(args, ", ")
		if all {
			what, args = "everything in the trash", nil
			if len(o.shares) > 0 {
				what += " of " + strings.Join(o.shares, ", ")
			}
			if namespace != "" {
				what += ", of namespace " + namespace
			}
		}
		// The question comes after the program has started itself anew, or it came twice.
		s, end, err := o.open(c, true)
		if err != nil {
			return err
		}
		defer end()
		if err := confirmRemoval(c, yes, what); err != nil {
			return err
		}
		return s.end(s.Purge(c.Context(), o.filter(namespace), args, func(p admin.Purged) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s purged, %d entries\n", p.Entry, p.Entries)
			return err
		}))
	}
	return c
}

// confirmRemoval asks on a terminal whether what is to be removed is to be removed.
func confirmRemoval(c *cobra.Command, yes bool, what string) error {
	return confirm(c, yes, "Remove "+what+" for good? Nothing brings it back.", what+" would be removed for good", "Nothing was removed.")
}

// confirm asks on a terminal. would says what would be done where nobody is there to be asked.
func confirm(c *cobra.Command, yes bool, question, would, not string) error {
	if yes {
		return nil
	}
	if !isTerminal(c.InOrStdin()) {
		return volume.Errorf(volume.ErrInvalid, "%s, and nobody is there to be asked: say --yes", would)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question)
	line, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		fmt.Fprintln(c.ErrOrStderr(), not)
		return exit(failed)
	}
	return nil
}
