// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
)

// Capacity is a requested size in bytes (CSI CapacityRange). In both fields 0 means "not given".
type Capacity struct {
	Required int64
	Limit    int64
}

// Check returns ErrInvalid if the range is not valid.
func (c Capacity) Check() error {
	switch {
	case c.Required < 0 || c.Limit < 0:
		return Errorf(ErrInvalid, "the capacity range has a negative number: required %d, limit %d", c.Required, c.Limit)
	case c.Limit > 0 && c.Required > c.Limit:
		return Errorf(ErrInvalid, "the capacity range is inverted: required %d is more than limit %d", c.Required, c.Limit)
	}
	return nil
}

// Size returns the size of a new volume for this range: the required size, or else the limit.
// 0: no size was requested.
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

// Space is the space of a file system by statfs(2), in bytes and inodes. If Total is 0, the bytes are
// unknown. If Inodes is 0, the inodes are unknown.
type Space struct {
	Total, Free, Used              int64 // Free: for unprivileged users
	Inodes, InodesFree, InodesUsed int64
}

// Known reports whether the server reports bytes.
func (s Space) Known() bool { return s.Total > 0 }

// InodesKnown reports whether the server reports inodes.
func (s Space) InodesKnown() bool { return s.Inodes > 0 }

// CompareFree compares the free space of s and o: +1 if s has more. Unknown free space is more than none,
// and less than any other.
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

// NewSpace converts the counts of statfs(2): the size of a block; the total, free and available (to
// unprivileged users) blocks; the total and free inodes. It decides what is known. For values that
// they do not count, servers return nonsense: zero, more free than total, all bits set.
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

// multiply returns n*unit, and false if the product does not fit.
func multiply(n uint64, unit int64) (int64, bool) {
	if unit <= 0 {
		return 0, false
	}
	high, low := bits.Mul64(n, uint64(unit))
	return int64(low), high == 0 && low <= math.MaxInt64
}
