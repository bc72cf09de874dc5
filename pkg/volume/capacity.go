// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
)

// Capacity is an asked size in bytes (CSI CapacityRange). 0 stands for "not given", in both.
type Capacity struct {
	Required int64
	Limit    int64
}

// Check says what is wrong with the range. The error is ErrInvalid.
func (c Capacity) Check() error {
	switch {
	case c.Required < 0 || c.Limit < 0:
		return Errorf(ErrInvalid, "the capacity range has a negative number: required %d, limit %d", c.Required, c.Limit)
	case c.Limit > 0 && c.Required > c.Limit:
		return Errorf(ErrInvalid, "the capacity range is inverted: required %d is more than limit %d", c.Required, c.Limit)
	}
	return nil
}

// Size returns the size that a volume of this range gets: what is required, or else the
// limit. 0: no size was asked for.
func (c Capacity) Size() int64 {
	if c.Required > 0 {
		return c.Required
	}
	return c.Limit
}

// Contains reports whether a volume of size satisfies the range.
func (c Capacity) Contains(size int64) bool {
	return size >= c.Required && (c.Limit == 0 || size <= c.Limit)
}

func (c Capacity) String() string {
	if c.Limit == 0 {
		return fmt.Sprintf("at least %d bytes", c.Required)
	}
	return fmt.Sprintf("%d to %d bytes", c.Required, c.Limit)
}

// Space is what statfs(2) says of a file system, in bytes and inodes. Total 0: the bytes are not known.
// Inodes 0: the inodes are not.
type Space struct {
	Total, Free, Used              int64 // Free: to unprivileged users
	Inodes, InodesFree, InodesUsed int64
}

// Known reports whether the server says how many bytes there are.
func (s Space) Known() bool { return s.Total > 0 }

// InodesKnown reports whether the server counts inodes.
func (s Space) InodesKnown() bool { return s.Inodes > 0 }

// CompareFree compares what is free in s and in o: +1 if there is more in s. What is not known is less than
// something, and more than nothing.
func (s Space) CompareFree(o Space) int {
	switch {
	case s.Known() == o.Known():
		return cmp.Compare(s.Free, o.Free)
	case !s.Known():
		return -o.CompareFree(s)
	case s.Free > 0:
		return +1
	}
	return -1
}

// NewSpace converts the counts of statfs(2): blocks of so many bytes, in all, free, and free
// to the unprivileged; inodes in all and free. It decides what is known. Servers answer nonsense for what
// they do not count: nothing at all, more free than there is, all bits set.
func NewSpace(block int64, blocks, free, available, inodes, inodesFree uint64) Space {
	var s Space
	if total, ok := multiply(blocks, block); ok && total > 0 && free <= blocks && available <= blocks {
		s.Total = total
		s.Free, _ = multiply(available, block)
		s.Used, _ = multiply(blocks-free, block)
	}
	if total, ok := multiply(inodes, 1); ok && inodesFree <= inodes {
		s.Inodes, s.InodesFree, s.InodesUsed = total, int64(inodesFree), int64(inodes-inodesFree)
	}
	return s
}

// times returns n*unit, if that is a number.
func multiply(n uint64, unit int64) (int64, bool) {
	if unit <= 0 {
		return 0, false
	}
	high, low := bits.Mul64(n, uint64(unit))
	return int64(low), high == 0 && low <= math.MaxInt64
}
