// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// column is a column of a table.
type column[T any] struct {
	head   string
	cell   func(T) string
	number func(T) int64      // is what to sort by, and to add up; nil: the column has text
	total  func(int64) string // formats the sum of the numbers in the last line; nil: there is none
	shrink bool               // the cells are shortened if the table is wider than the terminal
	wide   bool               // only in a wide table
}

// sizeColumn is a column of sizes in bytes, with their sum.
func sizeColumn[T any](head string, size func(T) int64) column[T] {
	return column[T]{head: head, cell: func(r T) string { return volume.FormatBytes(size(r)) }, number: size, total: volume.FormatBytes}
}

// spaceColumn is a column of sizes that a server may not report. They have no sum: shares can be on one
// file system.
func spaceColumn[T any](head string, size func(T) *int64) column[T] {
	return column[T]{head: head, cell: func(r T) string { return optionalSize(size(r)) }, number: func(r T) int64 {
		if bytes := size(r); bytes != nil {
			return *bytes
		}
		return -1
	}}
}

// countColumn is a column of numbers, with their sum.
func countColumn[T any](head string, count func(T) int64) column[T] {
	format := func(n int64) string { return strconv.FormatInt(n, 10) }
	return column[T]{head: head, cell: func(r T) string { return format(count(r)) }, number: count, total: format}
}

// timeColumn is a column of times.
func timeColumn[T any](head string, at func(T) time.Time, format func(time.Time) string) column[T] {
	return column[T]{head: head, cell: func(r T) string { return format(at(r)) }, number: func(r T) int64 { return at(r).UnixMilli() }}
}

// claimColumn is the column of claims.
func claimColumn[T any](claim func(T) *volume.PVC) column[T] {
	return column[T]{head: "CLAIM", shrink: true, cell: func(r T) string { return formatClaim(claim(r)) }}
}

// heads returns the names of all columns.
func heads[T any](columns []column[T]) (names []string) {
	for _, c := range columns {
		names = append(names, c.head)
	}
	return names
}

// compare compares two rows by their values in the column.
func (c column[T]) compare(a, b T) int {
	if c.number != nil {
		return cmp.Compare(c.number(a), c.number(b))
	}
	return cmp.Compare(c.cell(a), c.cell(b))
}

// sorted returns rows in the order of a column: "SIZE", or "-SIZE" for the largest first. "" is the order in
// which they come.
func sorted[T any](order string, columns []column[T], rows func(each func(T) error) error) func(each func(T) error) error {
	name, descending := strings.CutPrefix(order, "-")
	i := slices.IndexFunc(columns, func(c column[T]) bool { return strings.EqualFold(c.head, name) })
	if i < 0 {
		return rows
	}
	return func(each func(T) error) error {
		var all []T
		err := rows(func(r T) error { all = append(all, r); return nil })
		slices.SortStableFunc(all, func(a, b T) int {
			if descending {
				a, b = b, a
			}
			return columns[i].compare(a, b)
		})
		for _, r := range all {
			if err := each(r); err != nil {
				return err
			}
		}
		return err
	}
}
