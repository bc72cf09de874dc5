// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math"
	"testing"
)

func TestCapacity(t *testing.T) {
	for _, c := range []struct {
		Capacity
		size         int64
		holds, fails []int64
		text         string
	}{
		{Capacity{}, 0, []int64{0, 1 << 40}, nil, "at least 0 bytes"},
		{Capacity{Required: 5}, 5, []int64{5, 6}, []int64{0, 4}, "at least 5 bytes"},
		{Capacity{Limit: 7}, 7, []int64{0, 7}, []int64{8}, "0 to 7 bytes"},
		{Capacity{Required: 5, Limit: 7}, 5, []int64{5, 6, 7}, []int64{4, 8}, "5 to 7 bytes"},
		{Capacity{Required: 5, Limit: 5}, 5, []int64{5}, []int64{4, 6}, "5 to 5 bytes"},
	} {
		wantKind(t, c.text, c.Check(), nil)
		if got := c.Size(); got != c.size {
			t.Errorf("%v: the size is %d, want %d", c.Capacity, got, c.size)
		}
		if got := c.String(); got != c.text {
			t.Errorf("the text is %q, want %q", got, c.text)
		}
		for _, size := range c.holds {
			if !c.Holds(size) {
				t.Errorf("%v does not hold %d", c.Capacity, size)
			}
		}
		for _, size := range c.fails {
			if c.Holds(size) {
				t.Errorf("%v holds %d", c.Capacity, size)
			}
		}
	}
	for _, c := range []Capacity{{Required: -1}, {Limit: -1}, {Required: -2, Limit: -1}, {Required: 8, Limit: 7}} {
		wantKind(t, c.String(), c.Check(), ErrInvalid)
	}
}

func TestNewSpace(t *testing.T) {
	const most, all = math.MaxInt64, math.MaxUint64
	for _, c := range []struct {
		block                                       int64
		blocks, free, available, inodes, inodesFree uint64
		want                                        Space
	}{
		{4096, 10, 4, 3, 100, 60, Space{Total: 40960, Free: 12288, Used: 24576, Inodes: 100, InodesFree: 60, InodesUsed: 40}},
		{4096, 0, 0, 0, 0, 0, Space{}},
		{1, 10, 11, 11, 0, 7, Space{Total: 10, Free: 11, InodesFree: 7}},
		{4096, all, all, all, all, all, Space{Total: most, Free: most, Inodes: most, InodesFree: most}},
		{1 << 20, 1 << 43, 0, 1, 1 << 63, 0, Space{Total: most, Free: 1 << 20, Used: most, Inodes: most, InodesUsed: most}},
	} {
		if got := NewSpace(c.block, c.blocks, c.free, c.available, c.inodes, c.inodesFree); got != c.want {
			t.Errorf("%+v is %+v", c, got)
		}
	}
}
