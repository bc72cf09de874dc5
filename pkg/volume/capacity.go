// SPDX-License-Identifier: Apache-2.0

package volume

import (
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

// Holds reports whether a volume of size satisfies the range.
func (c Capacity) Holds(size int64) bool {
	return size >= c.Required && (c.Limit == 0 || size <= c.Limit)
}

func (c Capacity) String() string {
	if c.Limit == 0 {
		return fmt.Sprintf("at least %d bytes", c.Required)
	}
	return fmt.Sprintf("%d to %d bytes", c.Required, c.Limit)
}

// Space is what statfs(2) says of a file system, in bytes and inodes.
type Space struct {
	Total, Free, Used              int64 // Free: to unprivileged users
	Inodes, InodesFree, InodesUsed int64
}

// NewSpace converts the counts of statfs(2): blocks of so many bytes, in all, free, and free
// to the unprivileged; inodes in all and free. Servers answer nonsense for what they do not
// count (more free than there is, all bits set): no number here is negative for that.
func NewSpace(block int64, blocks, free, available, inodes, inodesFree uint64) Space {
	return Space{
		Total: times(blocks, block), Free: times(available, block), Used: times(blocks-min(free, blocks), block),
		Inodes: times(inodes, 1), InodesFree: times(inodesFree, 1), InodesUsed: times(inodes-min(inodesFree, inodes), 1),
	}
}

// times returns n*unit, or the largest number where that is more.
func times(n uint64, unit int64) int64 {
	if high, low := bits.Mul64(n, uint64(unit)); high == 0 && low <= math.MaxInt64 {
		return int64(low)
	}
	return math.MaxInt64
}
