// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/admin"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// printer prints rows as they arrive.
type printer[T any] struct {
	out          *bufio.Writer
	format       string
	columns      []column[T]
	emptyMessage func() string // is printed to stderr instead of an empty table; nil: nothing
	stderr       io.Writer

	maxWidth int // of a table that is not wide; 0: any
	rows     int
	widths   []int
	totals   []int64
	pending  [][]string // rows of a table whose widths are not computed yet
}

// minShrunk is the width to which a column is shortened at most.
const minShrunk = 20

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
	p.widths, p.totals = make([]int, len(p.columns)), make([]int64, len(p.columns))
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
		p.addLine(func(i int) string { return p.columns[i].head })
	}
	p.addLine(func(i int) string { return formatCell(p.columns[i].cell(r)) })
	for i, c := range p.columns {
		if c.total != nil {
			p.totals[i] = volume.AddBytes(p.totals[i], c.number(r))
		}
	}
	if len(p.pending) > pageSize {
		return p.flush()
	}
	return nil
}

func (p *printer[T]) addLine(cell func(column int) string) {
	cells := make([]string, len(p.columns))
	for i := range cells {
		cells[i] = cell(i)
		p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cells[i]))
	}
	p.pending = append(p.pending, cells)
}

// addTotals adds the line with the sums of the columns that have one.
func (p *printer[T]) addTotals() {
	if p.rows < 2 || !slices.ContainsFunc(p.columns, func(c column[T]) bool { return c.total != nil }) {
		return
	}
	p.addLine(func(i int) string {
		switch c := p.columns[i]; {
		case c.total != nil:
			return c.total(p.totals[i])
		case i == 0:
			return "TOTAL"
		}
		return ""
	})
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

// gap is the number of spaces between two columns.
const gap = 3

// shrink makes the widest columns that may be shortened narrower, until the table fits the terminal.
func (p *printer[T]) shrink() {
	if p.format != "table" || p.maxWidth == 0 {
		return
	}
	excess := gap*(len(p.widths)-1) - p.maxWidth
	for _, width := range p.widths {
		excess += width
	}
	for ; excess > 0; excess-- {
		widest := -1
		for i, c := range p.columns {
			if c.shrink && p.widths[i] > minShrunk && (widest < 0 || p.widths[i] > p.widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		p.widths[widest]--
	}
}

// shorten replaces the middle of a text that is longer than width by an ellipsis.
func shorten(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	head := width / 2
	return string(runes[:head]) + "…" + string(runes[len(runes)-(width-head-1):])
}

func (p *printer[T]) flush() error {
	p.shrink()
	for _, cells := range p.pending {
		var line strings.Builder
		for i, cell := range cells {
			cell = shorten(cell, p.widths[i])
			line.WriteString(cell + strings.Repeat(" ", p.widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		if _, err := fmt.Fprintln(p.out, strings.TrimRight(line.String(), " ")); err != nil {
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
	case p.rows > 0:
		p.addTotals()
	case p.emptyMessage != nil:
		fmt.Fprint(p.stderr, p.emptyMessage())
	}
	return p.flush()
}

// printDocument prints v, which text formats as text.
func printDocument[T any](out io.Writer, format string, v T, text func(T) string) error {
	var data []byte
	var err error
	switch format {
	case "json":
		data, err = admin.JSON(v, "", "  ")
		data = append(data, '\n')
	case "yaml":
		data, err = admin.YAML(v)
	default:
		data = []byte(text(v))
	}
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}
