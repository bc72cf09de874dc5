// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/doctor"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

// runAsChild runs the process as a child of the doctor, if its arguments say so.
func runAsChild(args []string) (done bool, err error) {
	if len(args) == 1 && args[0] == doctor.ChildCommand {
		return true, doctor.Child(os.Stdin, os.Stdout, time.Now)
	}
	return false, nil
}

// export is an export that need not be registered.
type export struct {
	server, path string
	options      []string
}

func doctorCommand(o *options) *cobra.Command {
	var e export
	format := ""
	c := &cobra.Command{
		Use:   "doctor [share...]",
		Short: "Find what is wrong with shares, why it matters, and what to do",
		Long: `Examine shares, and this machine as their NFS client: whether the server's name resolves and the
server answers, what it exports, which versions of NFS work, whether the share is writable, what the
server does with owners, whether it supports CLONE, COPY, attributes, locks and so on, its clock,
latency and free space. The doctor writes only probe files, which it removes.

The exit status is 0 if everything is healthy, 1 if there are warnings, and 3 if something is broken or
the doctor cannot examine the shares.`,
		Example: `  mooringctl doctor
  mooringctl doctor nas1 -o json
  mooringctl doctor --server 10.0.0.200 --path /export/kubernetes`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkFormat(format, documentFormats); err != nil {
				return err
			}
			shares, err := o.selectShares(args, e)
			if err != nil {
				return o.broken(c, err)
			}
			return o.broken(c, o.examine(c.Context(), shares, c.OutOrStdout(), format))
		},
	}
	c.ValidArgsFunction = o.completeShares
	f := c.Flags()
	formatFlag(c, &format, documentFormats)
	f.StringVar(&e.server, "server", "", "examine an export of this server that need not be registered; with --path")
	f.StringVar(&e.path, "path", "", "the export's path; with --server")
	f.StringSliceVar(&e.options, "mount-options", nil, "mount options; with --server")
	c.MarkFlagsRequiredTogether("server", "path")
	return c
}

// broken prints an error that kept the doctor from examining the shares, and replaces it by exitBroken.
// It returns the other errors.
func (o *options) broken(c *cobra.Command, err error) error {
	if _, printed := errors.AsType[exit](err); err == nil || printed || o.status(err) == exitUsage {
		return err
	}
	fmt.Fprintln(c.ErrOrStderr(), "mooringctl:", sanitize(err.Error()))
	return exit(exitBroken)
}

// selectShares returns the shares to examine.
func (o *options) selectShares(names []string, e export) ([]volume.Share, error) {
	names = append(slices.Clone(o.shares), names...)
	if e.server != "" {
		if len(names) > 0 {
			return nil, volume.Errorf(volume.ErrInvalid, "use either names of shares, or --server and --path")
		}
		return e.share()
	}
	if e.options != nil {
		return nil, volume.Errorf(volume.ErrInvalid, "--mount-options needs --server: those of a share are in its configuration")
	}
	source, err := config.Open(o.config)
	if err != nil {
		return nil, fmt.Errorf(`%v
  Name the configuration with --config, or run this in the controller, which has it:
    kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor
  An export can be examined without a configuration: mooringctl doctor --server HOST --path /export`, err)
	}
	registry := source.Current()
	if len(names) == 0 {
		if len(registry.Shares) == 0 {
			return nil, fmt.Errorf("%s registers no share: examine an export with --server and --path", o.config)
		}
		return registry.Shares, nil
	}
	return resolveShares(registry, names)
}

// resolveShares returns the shares of these names, each once. An unknown name is an error of usage.
func resolveShares(registry *volume.Registry, names []string) (shares []volume.Share, err error) {
	for _, name := range names {
		share, err := registry.Resolve(name)
		if _, _, isExport := volume.SplitExport(name); err != nil && !isExport {
			return nil, volume.Errorf(volume.ErrInvalid, "no share has the name %q: the configuration has %s", name, strings.Join(shareNames(registry), ", "))
		}
		if err != nil {
			return nil, volume.Errorf(volume.ErrInvalid, "%w", err)
		}
		if !slices.ContainsFunc(shares, func(s volume.Share) bool { return s.Name == share.Name }) {
			shares = append(shares, share)
		}
	}
	return shares, nil
}

func shareNames(registry *volume.Registry) (names []string) {
	for _, s := range registry.Shares {
		names = append(names, s.Name)
	}
	return names
}

// share returns the share that an unregistered export is for the driver.
func (e export) share() ([]volume.Share, error) {
	if err := cmp.Or(volume.CheckServer(e.server), volume.CheckExportPath(e.path), volume.CheckMountOptions(e.options)); err != nil {
		return nil, err
	}
	s, err := config.Default().Resolve(volume.ExportName(e.server, e.path))
	if err != nil {
		return nil, err
	}
	s.MountOptions = volume.MergeMountOptions(s.MountOptions, e.options)
	return []volume.Share{s}, nil
}

// nestedCheck returns a function that checks whether a share is inside a registered one, or contains
// one. It returns nil without a configuration, which examining an export does not need.
func (o *options) nestedCheck() func(volume.Share) error {
	source, err := config.Open(o.config)
	if err != nil {
		return nil
	}
	return source.Current().CheckNested
}

func (o *options) examine(ctx context.Context, shares []volume.Share, out io.Writer, format string) error {
	if err := child.ReapOrphans(ctx); err != nil {
		return err
	}
	line := newProgressLine(os.Stderr)
	d := doctor.Doctor{SharesDir: o.mountedShares(&mount.Kernel{}, shares), Progress: stepsOfShares(line, shares), Nested: o.nestedCheck()}
	report := d.Examine(ctx, shares)
	line.clear()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err := printDocument(out, format, report, newTable(out).report); err != nil {
		return err
	}
	switch {
	case report.Count(doctor.Fail) > 0:
		return exit(exitBroken)
	case report.Count(doctor.Warn) > 0:
		return exit(exitWarnings)
	}
	return nil
}

// stepsOfShares returns a function that shows the current step of each share in the line.
func stepsOfShares(line *progressLine, shares []volume.Share) func(share, step string) {
	var mu sync.Mutex
	steps := map[string]string{}
	return func(share, step string) {
		mu.Lock()
		defer mu.Unlock()
		steps[share] = step
		var parts []string
		for _, s := range shares {
			if step := steps[s.Name]; step != "" {
				parts = append(parts, s.Name+": "+step)
			}
		}
		line.show(strings.Join(parts, "   "))
	}
}
