// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"math"
	"strconv"
	"strings"
)

// FormatBytes formats a number of bytes with a unit of Kubernetes, rounded to one decimal place: 5Gi, 1.2Gi.
func FormatBytes(bytes int64) string {
	units := []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
	n, i := float64(bytes), 0
	for ; n >= 1024; i++ {
		n /= 1024
	}
	return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0") + units[i]
}

// AddBytes returns the sum of two numbers of bytes, neither of which is negative. It does not overflow: capacities are
// what claims request, and two can request more than an int64 holds.
func AddBytes(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
