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
			if !c.Contains(size) {
				t.Errorf("%v does not contain %d", c.Capacity, size)
			}
		}
		for _, size := range c.fails {
			if c.Contains(size) {
				t.Errorf("%v contains %d", c.Capacity, size)
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
		{4096, 10, 0, 0, 100, 0, Space{Total: 40960, Used: 40960, Inodes: 100, InodesUsed: 100}}, // full, which is known
		{4096, 10, 10, 10, 1, 1, Space{Total: 40960, Free: 40960, Inodes: 1, InodesFree: 1}},
		{4096, 0, 0, 0, 0, 0, Space{}},
		{1, 10, 11, 10, 7, 7, Space{Inodes: 7, InodesFree: 7}},
		{1, 10, 10, 11, 0, 7, Space{}},
		{1 << 20, 10, 4, all >> 20, 100, 60, Space{Inodes: 100, InodesFree: 60, InodesUsed: 40}}, // -1 byte
		{4096, 10, 4, 3, 2, all, Space{Total: 40960, Free: 12288, Used: 24576}},                  // CephFS by NFS-Ganesha
		{4096, all, all, all, all, all, Space{}},
		{4096, all, 0, 0, all, 0, Space{}},
		{1 << 20, 1 << 43, 0, 1, 1 << 63, 0, Space{}},
		{0, 10, 4, 3, 0, 0, Space{}},
		{-1, 10, 4, 3, 0, 0, Space{}},
		{1, most, 0, 0, most, most, Space{Total: most, Used: most, Inodes: most, InodesFree: most}},
	} {
		if got := NewSpace(c.block, c.blocks, c.free, c.available, c.inodes, c.inodesFree); got != c.want {
			t.Errorf("%+v is %+v", c, got)
		} else if got.Known() != (c.want.Total > 0) || got.InodesKnown() != (c.want.Inodes > 0) {
			t.Errorf("%+v: known: %v, and inodes %v", c, got.Known(), got.InodesKnown())
		}
	}
}

// TestCompareFree compares spaces that are sorted by their free space.
func TestCompareFree(t *testing.T) {
	order := []Space{{Total: 10}, {}, {Total: 10, Free: 1}, {Total: 5, Free: 2}}
	for i, s := range order {
		for j, o := range order {
			want := 0
			if i != j {
				want = 2*min(1, max(0, i-j)) - 1
			}
			if got := s.CompareFree(o); got != want {
				t.Errorf("%+v compared to %+v is %d, want %d", s, o, got, want)
			}
		}
	}
}
