// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/spf13/cobra"
)

// formats are the values of -o.
var formats = []string{"table", "wide", "json", "yaml"}

// column is a column of a table.
type column[T any] struct {
	head string
	cell func(T) string
	wide bool // only in a wide table
}

// printer prints rows as they arrive.
type printer[T any] struct {
	out          *bufio.Writer
	format       string
	columns      []column[T]
	emptyMessage func() string // is printed to stderr instead of an empty table
	stderr       io.Writer

	rows    int
	widths  []int
	pending [][]string // rows of a table whose widths are not computed yet
}

// pageSize is the number of rows for which the widths of columns are computed together. A larger page
// needs more memory; with a smaller one the widths change more often.
const pageSize = 500

func newPrinter[T any](out, stderr io.Writer, format string, emptyMessage func() string, columns []column[T]) *printer[T] {
	p := &printer[T]{out: bufio.NewWriter(out), format: format, emptyMessage: emptyMessage, stderr: stderr}
	for _, c := range columns {
		if !c.wide || format == "wide" {
			p.columns = append(p.columns, c)
		}
	}
	p.widths = make([]int, len(p.columns))
	return p
}

func (p *printer[T]) row(r T) error {
	p.rows++
	switch p.format {
	case "json":
		text, err := admin.JSON(r, "  ", "  ")
		if err != nil {
			return err
		}
		before := ",\n  "
		if p.rows == 1 {
			before = "[\n  "
		}
		_, err = p.out.WriteString(before + string(text))
		return err
	case "yaml":
		text, err := admin.YAML([]T{r})
		if err != nil {
			return err
		}
		_, err = p.out.Write(text)
		return err
	}
	if p.rows == 1 {
		p.pending = append(p.pending, p.cells(func(c column[T]) string { return c.head }))
	}
	p.pending = append(p.pending, p.cells(func(c column[T]) string { return c.cell(r) }))
	if len(p.pending) > pageSize {
		return p.flush()
	}
	return nil
}

func (p *printer[T]) cells(text func(column[T]) string) []string {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		cells[i] = formatCell(text(c))
		p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cells[i]))
	}
	return cells
}

// formatCell returns a cell of a table. A directory's name can neither control the terminal nor break
// the table.
func formatCell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(sanitize(s), "\n", "?")
}

// sanitize replaces characters that could control the terminal.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return '?'
	}, s)
}

func (p *printer[T]) flush() error {
	for _, cells := range p.pending {
		var line strings.Builder
		for i, cell := range cells {
			line.WriteString(cell)
			if i < len(cells)-1 {
				line.WriteString(strings.Repeat(" ", p.widths[i]-utf8.RuneCountInString(cell)+3))
			}
		}
		if _, err := fmt.Fprintln(p.out, line.String()); err != nil {
			return err
		}
	}
	p.pending = p.pending[:0]
	return p.out.Flush()
}

// finish prints the remaining rows.
func (p *printer[T]) finish() error {
	switch {
	case p.format == "json" && p.rows == 0, p.format == "yaml" && p.rows == 0:
		fmt.Fprintln(p.out, "[]")
	case p.format == "json":
		fmt.Fprintln(p.out, "\n]")
	case p.rows == 0:
		fmt.Fprint(p.stderr, p.emptyMessage())
	}
	return p.flush()
}

// listOptions are the flags of commands that print lists.
type listOptions struct {
	format, namespace string
	watch             bool
}

func (l *listOptions) flags(c *cobra.Command, namespaced, watched bool) {
	c.Flags().StringVarP(&l.format, "output", "o", "table", "how to print: table, wide, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	if namespaced {
		c.Flags().StringVarP(&l.namespace, "namespace", "n", "", "only the objects of claims in this namespace")
	}
	if watched {
		c.Flags().BoolVarP(&l.watch, "watch", "w", false, "repeat every 2 seconds, until the command is interrupted")
	}
}

func (l *listOptions) validate() error {
	switch {
	case !slices.Contains(formats, l.format):
		return volume.Errorf(volume.ErrInvalid, "-o is %q, want one of %s", l.format, strings.Join(formats, ", "))
	case l.watch && l.format != "table" && l.format != "wide":
		return volume.Errorf(volume.ErrInvalid, "--watch is for tables: -o %s is one document", l.format)
	}
	return nil
}

// printAll prints rows. If they end with an error, it prints the rows before that.
func printAll[T any](p *printer[T], rows func(each func(T) error) error) error {
	err := rows(p.row)
	return cmp.Or(err, p.finish())
}

const watchInterval = 2 * time.Second

// list prints rows once or, with --watch, repeatedly. It clears a terminal each time; to anything else
// it prints the table only if that has changed.
func list[T any](c *cobra.Command, l *listOptions, emptyMessage func() string, columns []column[T], rows func(each func(T) error) error) error {
	if !l.watch {
		p := newPrinter(c.OutOrStdout(), c.ErrOrStderr(), l.format, emptyMessage, columns)
		return printAll(p, rows)
	}
	var last string
	for tick := time.NewTicker(watchInterval); ; {
		var b strings.Builder
		p := newPrinter(&b, &b, l.format, emptyMessage, columns)
		err := printAll(p, rows)
		if c.Context().Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		switch text := b.String(); {
		case isTerminal(c.OutOrStdout()):
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
