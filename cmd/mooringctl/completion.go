// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/spf13/cobra"
)

// completionTimeout bounds a completion: the user waits for it in the shell. It is longer than the check of a
// server that does not answer.
const completionTimeout = 4 * time.Second

// completer is a function that completes arguments.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// completeShares completes the names of registered shares.
func (o *options) completeShares(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return o.registered(), cobra.ShellCompDirectiveNoFileComp
}

// registered returns the names of the registered shares, or nothing if the configuration cannot be read.
func (o *options) registered() []string {
	source, err := config.Open(o.config)
	if err != nil {
		return nil
	}
	return shareNames(source.Current())
}

// complete returns a function that completes up to max arguments with what search finds on the shares. It
// prints nothing, and without the shares it completes nothing.
func (o *options) complete(max int, search func(ctx context.Context, s *session, f admin.Filter, add func(name, description string)) error) completer {
	return func(c *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= max {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
		defer cancel()
		f := o.filter("")
		if i := strings.LastIndexByte(prefix, '/'); i > 0 && slices.Contains(o.registered(), prefix[:i]) {
			f.Shares = []string{prefix[:i]} // no other share needs to answer
		}
		// The mounts of abandoned work end with the process.
		names, err := bounded.Call(ctx, func(ctx context.Context) (names []string, err error) {
			s, end, err := o.open(c, false)
			if err != nil {
				return nil, err
			}
			defer end()
			s.stderr = io.Discard
			_ = search(ctx, s, f, func(name, description string) {
				if strings.HasPrefix(name, prefix) {
					names = append(names, cobra.CompletionWithDesc(name, sanitize(description)))
				}
			})
			return names, ctx.Err()
		}, nil)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeVolumes completes the handles and claims of the volumes that exist, or are in the trash.
func (o *options) completeVolumes() completer {
	return o.complete(1, func(ctx context.Context, s *session, f admin.Filter, add func(name, description string)) error {
		err := s.Volumes(ctx, f, func(v admin.Volume) error {
			add(v.Handle, formatClaim(v.Claim))
			if v.Claim != nil {
				add(formatClaim(v.Claim), v.Handle)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.Trash(ctx, f, func(d admin.Deleted) error {
			if d.Kind == "volume" {
				add(d.Handle, "deleted, "+formatClaim(d.Claim))
			}
			return nil
		})
	})
}

// completeTrash completes up to max wanted entries of the trash.
func (o *options) completeTrash(max int, wanted func(admin.Deleted) bool) completer {
	return o.complete(max, func(ctx context.Context, s *session, f admin.Filter, add func(name, description string)) error {
		return s.Trash(ctx, f, func(d admin.Deleted) error {
			if wanted(d) {
				add(d.Entry, formatClaim(d.Claim))
			}
			return nil
		})
	})
}

// completeJobs completes the targets of the jobs.
func (o *options) completeJobs() completer {
	return o.complete(1, func(ctx context.Context, s *session, f admin.Filter, add func(name, description string)) error {
		return s.Jobs(ctx, f, func(j admin.Job) error {
			kind, key, _ := strings.Cut(j.Target, " ")
			add(j.Share+"/"+key, kind+" from "+j.Source)
			return nil
		})
	})
}
