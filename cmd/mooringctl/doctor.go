// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
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

// asChild is for the doctor's own children, which need nothing else of the program.
func asChild(args []string) (done bool, err error) {
	if len(args) == 1 && args[0] == doctor.ChildCommand {
		return true, doctor.Child(os.Stdin, os.Stdout, time.Now)
	}
	return false, nil
}

// export is one that need not be registered.
type export struct {
	server, path string
	options      []string
}

func doctorCommand(o *options) *cobra.Command {
	var e export
	c := &cobra.Command{
		Use:   "doctor [share...]",
		Short: "Find out what is wrong with shares, why it matters and what to do",
		Long: `Examine shares, and this machine as their NFS client: whether the server resolves and answers,
what it exports, by which versions of NFS it can be mounted, whether it can be written, what it
does with owners, which of CLONE, COPY, attributes, locks and so on it has, its clock, latency
and space. Nothing on a share is changed but probe files, which are removed.

It ends with 0 if all is well, with 1 if there are warnings, and with 2 if something is broken.`,
		Example: `  mooringctl doctor
  mooringctl doctor nas1 -o json
  mooringctl doctor --server 10.0.0.200 --path /export/kubernetes`,
		RunE: func(c *cobra.Command, args []string) error {
			if o.output != "table" && o.output != "json" {
				return fmt.Errorf("--output is table or json, and not %q", o.output)
			}
			shares, err := o.toExamine(args, e)
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), "mooringctl:", err)
				return exit(diagnosed)
			}
			return o.examine(c.Context(), shares, c.OutOrStdout())
		},
	}
	c.ValidArgsFunction = o.completeShares
	f := c.Flags()
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.StringVar(&e.server, "server", "", "examine an export of this server that need not be registered; with --path")
	f.StringVar(&e.path, "path", "", "the export's path; with --server")
	f.StringSliceVar(&e.options, "mount-options", nil, "mount options; with --server")
	c.MarkFlagsRequiredTogether("server", "path")
	return c
}

// toExamine returns the shares that are meant.
func (o *options) toExamine(names []string, e export) ([]volume.Share, error) {
	names = append(slices.Clone(o.shares), names...)
	if e.server != "" {
		if len(names) > 0 {
			return nil, errors.New("either shares are named, or --server and --path")
		}
		return e.share()
	}
	if e.options != nil {
		return nil, errors.New("--mount-options go with --server: those of a share are in its configuration")
	}
	source, err := config.Open(o.config)
	if err != nil {
		return nil, fmt.Errorf(`%w
  Say where the configuration is (--config), or run this where it is, in the controller:
    kubectl -n mooring exec deploy/mooring-controller -c mooring -- mooringctl doctor
  Without one an export can be examined: mooringctl doctor --server HOST --path /export`, err)
	}
	registry := source.Current()
	if len(names) == 0 {
		if len(registry.Shares) == 0 {
			return nil, fmt.Errorf("%s registers no share: examine an export with --server and --path", o.config)
		}
		return registry.Shares, nil
	}
	var shares []volume.Share
	for _, name := range names {
		share, err := registry.Resolve(name)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(shares, func(s volume.Share) bool { return s.Name == share.Name }) {
			shares = append(shares, share)
		}
	}
	return shares, nil
}

// share returns what an unregistered export is for the driver.
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

// nested returns what says whether a share lies inside a registered one, or holds one; nil without a
// configuration, as an export can be examined without one, too.
func (o *options) nested() func(volume.Share) error {
	source, err := config.Open(o.config)
	if err != nil {
		return nil
	}
	return source.Current().CheckNested
}

func (o *options) examine(ctx context.Context, shares []volume.Share, out io.Writer) error {
	if err := child.ReapOrphans(ctx); err != nil {
		return err
	}
	progress := newProgress(os.Stderr, shares)
	d := doctor.Doctor{SharesDir: o.given(&mount.Kernel{}, shares), Progress: progress.tell, Nested: o.nested()}
	report := d.Examine(ctx, shares)
	progress.clear()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if o.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return err
		}
	} else if _, err := io.WriteString(out, newTable(out).report(report)); err != nil {
		return err
	}
	switch {
	case report.Count(doctor.Fail) > 0:
		return exit(diagnosed)
	case report.Count(doctor.Warn) > 0:
		return exit(noticed)
	}
	return nil
}

// progress is a line on a terminal that says what is being done for each share; elsewhere
// nothing.
type progress struct {
	out   io.Writer // nil: it is no terminal
	width int

	mu     sync.Mutex
	shares []string
	what   map[string]string
}

func newProgress(f *os.File, shares []volume.Share) *progress {
	p := &progress{what: map[string]string{}}
	if width, terminal := terminalWidth(f); terminal {
		p.out, p.width = f, width
	}
	for _, s := range shares {
		p.shares = append(p.shares, s.Name)
	}
	return p
}

func (p *progress) tell(share, what string) {
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what[share] = what
	var parts []string
	for _, name := range p.shares {
		if what := p.what[name]; what != "" {
			parts = append(parts, name+": "+what)
		}
	}
	line := []rune(strings.Join(parts, "   "))
	if len(line) >= p.width {
		line = append(line[:max(p.width-2, 0)], '…')
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", string(line))
}

func (p *progress) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
