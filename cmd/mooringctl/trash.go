// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
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
		Short: "List deleted volumes, restore them, or remove them for good",
	}
	c.AddCommand(trashListCommand(o), trashRestoreCommand(o), trashPurgeCommand(o))
	return c
}

func trashListCommand(o *options) *cobra.Command {
	l := &listOptions{}
	c := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Args: cobra.NoArgs,
		Short: "List what is in the trash",
		Long: `List what is in the trash, the oldest first, and when it will be purged. That time was fixed at the
deletion, by the server's clock. A "whole" volume can be restored. An "unfinished" entry is not purged
before its deletion continues, and an entry whose record is "unreadable" is not purged at all. A
volume that is "in place" is purged in its directory: a project quota keeps it out of the trash.`,
	}
	l.flags(c, true, true, heads(trashColumns()))
	c.RunE = o.runList(l, func(c *cobra.Command, s *session) error {
		return list(c, l, s.emptyMessage("The trash is empty."), trashColumns(), func(each func(admin.Deleted) error) error {
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
		claimColumn(func(d admin.Deleted) *volume.PVC { return d.Claim }),
		sizeColumn("CAPACITY", func(d admin.Deleted) int64 { return d.Capacity }),
		timeColumn("DELETED", func(d admin.Deleted) time.Time { return d.Deleted }, formatAgo),
		{head: "PURGED", cell: formatPurge, number: func(d admin.Deleted) int64 { return d.Due.UnixMilli() }},
		{head: "DIRECTORY", wide: true, cell: func(d admin.Deleted) string { return d.Directory }},
		{head: "PURGED-AFTER", wide: true, cell: func(d admin.Deleted) string { return formatTime(d.Due) }},
	}
}

// formatPurge returns when an entry is purged; "": unknown.
func formatPurge(d admin.Deleted) string {
	if d.Kept() {
		return ""
	}
	if left := time.Until(d.Due); left > 0 {
		return "in " + formatDuration(left)
	}
	return "now"
}

// restoreOptions are the flags of trash restore.
type restoreOptions struct {
	clusterOptions
	directory, claim, class string
}

func trashRestoreCommand(o *options) *cobra.Command {
	r := &restoreOptions{}
	c := &cobra.Command{
		Use: "restore ENTRY|HANDLE", Args: cobra.ExactArgs(1), ValidArgsFunction: o.completeTrash(1, admin.Deleted.Restorable),
		Short: "Restore a deleted volume",
		Long: `Restore a deleted volume: its directory, in the original place, and its record. The command prints
the manifests of the PersistentVolume and the PersistentVolumeClaim for kubectl apply. It replaces
nothing: if the directory's place is taken, name another one with --directory. It can be interrupted
and repeated.`,
		Example: `  mooringctl trash restore nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b >volume.yaml
  kubectl mooring trash restore nas1/pvc-51cce4ed-451a-4740-8fe7-e9604343876b | kubectl apply -f -`,
	}
	c.Flags().StringVar(&r.directory, "directory", "", "the directory in the share to restore to (none: the original one)")
	c.Flags().StringVar(&r.claim, "claim", "", "namespace/name of the claim that gets it (none: the original one)")
	c.Flags().StringVar(&r.class, "storage-class", "", "the StorageClass in the manifests (none: the cluster's class for the share, if there is exactly one)")
	r.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, end, err := o.open(c, true)
		if err != nil {
			return err
		}
		defer end()
		return s.finish(r.restore(c, s, o, args[0]))
	}
	return c
}

func (r *restoreOptions) restore(c *cobra.Command, s *session, o *options, ref string) error {
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
	fmt.Fprintf(c.ErrOrStderr(), "Volume %s/%s is restored, in the directory %s.\n", name, record.Key, sanitize(record.Directory))
	if r.directory != "" && r.directory != record.Directory {
		fmt.Fprintf(c.ErrOrStderr(), "An earlier attempt restored it there, not to %s.\n", r.directory)
	}
	text, err := admin.Manifests{Driver: r.driver, Share: name, Record: record, Claim: pvc, Class: r.storageClass(ctx, s, name, pvc)}.YAML()
	if err != nil {
		return err
	}
	if _, err := c.OutOrStdout().Write(text); err != nil {
		return err
	}
	fmt.Fprintf(c.ErrOrStderr(), "Apply these manifests, so that pods can use it as the claim %s.\n", pvc)
	return nil
}

// pvc returns the claim that gets the volume.
func (r *restoreOptions) pvc(deleted *volume.Record) (volume.PVC, error) {
	if r.claim != "" {
		namespace, name, ok := strings.Cut(r.claim, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return volume.PVC{}, volume.Errorf(volume.ErrInvalid, "--claim is %q, want namespace/name", r.claim)
		}
		return volume.PVC{Namespace: namespace, Name: name}, nil
	}
	if deleted.PVC == nil {
		return volume.PVC{}, volume.Errorf(volume.ErrPrecondition, "the record of volume %s has no claim: name one with --claim namespace/name", deleted.Key)
	}
	return *deleted.PVC, nil
}

// storageClass reads the class from the cluster, if there is one. A failure is only reported: the volume is restored.
func (r *restoreOptions) storageClass(ctx context.Context, s *session, share string, pvc volume.PVC) kube.StorageClass {
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
		fmt.Fprintf(s.stderr, "A claim %s exists already: run this again with another --claim, or delete that one first.\n", pvc)
	}
	return class
}

func trashPurgeCommand(o *options) *cobra.Command {
	var all, yes bool
	namespace := ""
	c := &cobra.Command{
		Use:               "purge ENTRY|HANDLE... | --all",
		ValidArgsFunction: o.completeTrash(math.MaxInt, func(d admin.Deleted) bool { return !d.Kept() }),
		Short:             "Remove deleted volumes for good, before their time",
		Long: `Remove deleted volumes and snapshots for good, before their time: that frees their space, and they
cannot be restored. The command asks first. It does not remove "unfinished" and "unreadable" entries.`,
	}
	c.Flags().BoolVar(&all, "all", false, "everything in the trash (of --share, of --namespace)")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "with --all: only the entries of claims in this namespace")
	c.Args = func(c *cobra.Command, args []string) error {
		if namespace == "" && c.Flags().Changed("namespace") { // of a variable that is not set: it is not all namespaces
			return volume.Errorf(volume.ErrInvalid, "--namespace names no namespace")
		}
		if all == (len(args) > 0) || namespace != "" && !all {
			return volume.Errorf(volume.ErrInvalid, "name the entries to purge, as trash list shows them, or use --all")
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
		// open may execute the program again: the question comes after that, or it would come twice.
		s, end, err := o.open(c, true)
		if err != nil {
			return err
		}
		defer end()
		if err := confirmRemoval(c, yes, what); err != nil {
			return err
		}
		return s.finish(s.Purge(c.Context(), o.filter(namespace), args, func(p admin.Purged) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s purged, %d entries\n", p.Entry, p.Entries)
			return err
		}))
	}
	return c
}

// confirmRemoval asks on a terminal before a removal.
func confirmRemoval(c *cobra.Command, yes bool, what string) error {
	return confirm(c, yes, "Remove "+what+" for good? It cannot be restored.", "this removes "+what+" for good", "Nothing was removed.")
}

// confirm asks question on a terminal. Without a terminal it returns an error with the consequence; after
// another answer than yes it prints refusal.
func confirm(c *cobra.Command, yes bool, question, consequence, refusal string) error {
	if yes {
		return nil
	}
	if !isTerminal(c.InOrStdin()) {
		return volume.Errorf(volume.ErrInvalid, "%s, and there is no terminal to ask: use --yes", consequence)
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s [y/N] ", question)
	line, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		fmt.Fprintln(c.ErrOrStderr(), refusal)
		return exit(exitFailed)
	}
	return nil
}
