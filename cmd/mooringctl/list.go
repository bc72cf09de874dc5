// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

// The values of -o, of lists and of other commands.
var (
	formats         = []string{"table", "wide", "json", "yaml"}
	documentFormats = []string{"table", "json", "yaml"}
)

// formatFlag adds -o to a command.
func formatFlag(c *cobra.Command, format *string, formats []string) {
	last := len(formats) - 1
	c.Flags().StringVarP(format, "output", "o", "table", "how to print: "+strings.Join(formats[:last], ", ")+" or "+formats[last])
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

func checkFormat(format string, formats []string) error {
	if !slices.Contains(formats, format) {
		return volume.Errorf(volume.ErrInvalid, "-o is %q, want one of %s", format, strings.Join(formats, ", "))
	}
	return nil
}

// listOptions are the flags of commands that print lists.
type listOptions struct {
	format, namespace, sort string
	columns                 []string // the values of sort
	wide, watch             bool
}

func (l *listOptions) flags(c *cobra.Command, namespaced, watched bool, columns []string) {
	formatFlag(c, &l.format, formats)
	c.Flags().BoolVar(&l.wide, "wide", false, "as -o wide: all columns, and nothing is shortened")
	c.Flags().StringVar(&l.sort, "sort", "", "sort by this column, times from the oldest; with - before its name in descending order")
	l.columns = columns
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(columns, cobra.ShellCompDirectiveNoFileComp))
	if namespaced {
		c.Flags().StringVarP(&l.namespace, "namespace", "n", "", "only the objects of claims in this namespace")
	}
	if watched {
		c.Flags().BoolVarP(&l.watch, "watch", "w", false, "repeat every 2 seconds, until the command is interrupted; with kubectl exec, use -t, or it continues in the pod")
	}
	c.PreRunE = func(*cobra.Command, []string) error { return l.validate() }
}

func (l *listOptions) validate() error {
	if l.wide && l.format == "table" {
		l.format = "wide"
	}
	table := l.format == "table" || l.format == "wide"
	name := strings.TrimPrefix(l.sort, "-")
	switch {
	case l.watch && !table:
		return volume.Errorf(volume.ErrInvalid, "--watch is for tables: -o %s is one document", l.format)
	case l.sort != "" && !slices.ContainsFunc(l.columns, func(c string) bool { return strings.EqualFold(c, name) }):
		return volume.Errorf(volume.ErrInvalid, "--sort is %q, want one of %s", l.sort, strings.Join(l.columns, ", "))
	}
	return checkFormat(l.format, formats)
}

// printAll prints rows. If they end with an error, it prints the rows before that.
func printAll[T any](p *printer[T], rows func(each func(T) error) error) error {
	err := rows(p.row)
	if err != nil {
		p.emptyMessage = nil
	}
	return cmp.Or(err, p.finish())
}

const watchInterval = 2 * time.Second

// list prints rows once or, with --watch, repeatedly. It clears a terminal each time; to anything else
// it prints the table only if that has changed.
func list[T any](c *cobra.Command, l *listOptions, emptyMessage func() string, columns []column[T], rows func(each func(T) error) error) error {
	rows = sorted(l.sort, columns, rows)
	width, terminal := terminalWidth(c.OutOrStdout())
	if !l.watch {
		p := newPrinter(c.OutOrStdout(), c.ErrOrStderr(), l.format, emptyMessage, columns)
		p.maxWidth = width
		return printAll(p, rows)
	}
	var last string
	for tick := time.NewTicker(watchInterval); ; {
		var b strings.Builder
		p := newPrinter(&b, &b, l.format, emptyMessage, columns)
		p.maxWidth = width
		err := printAll(p, rows)
		if c.Context().Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		switch text := b.String(); {
		case terminal:
			fmt.Fprint(c.OutOrStdout(), "\x1b[H\x1b[2J"+text)
		case text != last:
			fmt.Fprintln(c.OutOrStdout(), text)
			last = text
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}
