// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math"
	"testing"
)

func TestFormatBytes(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0", 1: "1", 1023: "1023", 1024: "1Ki", 1 << 30: "1Gi", 1288490189: "1.2Gi", math.MaxInt64: "8Ei",
	} {
		if got := FormatBytes(bytes); got != want {
			t.Errorf("FormatBytes(%d) = %s, want %s", bytes, got, want)
		}
	}
}

func TestAddBytes(t *testing.T) {
	for _, c := range [][3]int64{{1, 2, 3}, {math.MaxInt64, 0, math.MaxInt64}, {math.MaxInt64, math.MaxInt64, math.MaxInt64}, {math.MaxInt64 - 1, 1, math.MaxInt64}} {
		if got := AddBytes(c[0], c[1]); got != c[2] {
			t.Errorf("AddBytes(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
