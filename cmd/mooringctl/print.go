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

// formats are what -o takes.
var formats = []string{"table", "wide", "json", "yaml"}

// column is one of a table.
type column[T any] struct {
	head string
	cell func(T) string
	wide bool // only of a wide table
}

// printer prints rows as they come.
type printer[T any] struct {
	to      *bufio.Writer
	format  string
	columns []column[T]
	nothing func() string // is said on stderr of an empty table
	stderr  io.Writer

	rows    int
	widths  []int
	waiting [][]string // rows of a table of which the widths are not known yet
}

// page is how many rows of a table are waited for before its columns get their widths: more
// would be kept in memory, and fewer would have them change too often.
const page = 500

func newPrinter[T any](to, stderr io.Writer, format string, nothing func() string, columns []column[T]) *printer[T] {
	p := &printer[T]{to: bufio.NewWriter(to), format: format, nothing: nothing, stderr: stderr}
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
		_, err = p.to.WriteString(before + string(text))
		return err
	case "yaml":
		text, err := admin.YAML([]T{r})
		if err != nil {
			return err
		}
		_, err = p.to.Write(text)
		return err
	}
	if p.rows == 1 {
		p.waiting = append(p.waiting, p.cells(func(c column[T]) string { return c.head }))
	}
	p.waiting = append(p.waiting, p.cells(func(c column[T]) string { return c.cell(r) }))
	if len(p.waiting) > page {
		return p.flush()
	}
	return nil
}

func (p *printer[T]) cells(of func(column[T]) string) []string {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		cells[i] = printable(of(c))
		p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cells[i]))
	}
	return cells
}

// printable is a cell of a table. What somebody called a directory neither steers the terminal
// nor breaks the table.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(harmless(s), "\n", "?")
}

// harmless keeps names in a text for people from steering the terminal.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' {
			return r
		}
		return '?'
	}, s)
}

func (p *printer[T]) flush() error {
	for _, cells := range p.waiting {
		var line strings.Builder
		for i, cell := range cells {
			line.WriteString(cell)
			if i < len(cells)-1 {
				line.WriteString(strings.Repeat(" ", p.widths[i]-utf8.RuneCountInString(cell)+3))
			}
		}
		if _, err := fmt.Fprintln(p.to, line.String()); err != nil {
			return err
		}
	}
	p.waiting = p.waiting[:0]
	return p.to.Flush()
}

// end prints what is left.
func (p *printer[T]) end() error {
	switch {
	case p.format == "json" && p.rows == 0, p.format == "yaml" && p.rows == 0:
		fmt.Fprintln(p.to, "[]")
	case p.format == "json":
		fmt.Fprintln(p.to, "\n]")
	case p.rows == 0:
		fmt.Fprint(p.stderr, p.nothing())
	}
	return p.flush()
}

// listing are the flags of commands that list.
type listing struct {
	format, namespace string
	watch             bool
}

func (l *listing) flags(c *cobra.Command, namespaced, watched bool) {
	c.Flags().StringVarP(&l.format, "output", "o", "table", "how to print: table, wide, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	if namespaced {
		c.Flags().StringVarP(&l.namespace, "namespace", "n", "", "only what is of claims in this namespace")
	}
	if watched {
		c.Flags().BoolVarP(&l.watch, "watch", "w", false, "look again every 2 seconds, until this is interrupted")
	}
}

func (l *listing) check() error {
	switch {
	case !slices.Contains(formats, l.format):
		return volume.Errorf(volume.ErrInvalid, "-o is %q, and can be %s", l.format, strings.Join(formats, ", "))
	case l.watch && l.format != "table" && l.format != "wide":
		return volume.Errorf(volume.ErrInvalid, "--watch is for tables: -o %s is one document", l.format)
	}
	return nil
}

// printAll prints rows, and what there is of them where they end with an error.
func printAll[T any](p *printer[T], rows func(each func(T) error) error) error {
	err := rows(p.row)
	return cmp.Or(err, p.end())
}

const watchEvery = 2 * time.Second

// list prints rows once, or again and again. A screen is cleared each time; what is not one
// gets the table only when that has changed.
func list[T any](c *cobra.Command, l *listing, nothing func() string, columns []column[T], rows func(each func(T) error) error) error {
	if !l.watch {
		p := newPrinter(c.OutOrStdout(), c.ErrOrStderr(), l.format, nothing, columns)
		return printAll(p, rows)
	}
	var last string
	for tick := time.NewTicker(watchEvery); ; {
		var b strings.Builder
		p := newPrinter(&b, &b, l.format, nothing, columns)
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
