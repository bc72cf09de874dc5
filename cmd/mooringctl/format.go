// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// optionalSize formats a size; "": it is not known.
func optionalSize(bytes *int64) string {
	if bytes == nil {
		return ""
	}
	return volume.FormatBytes(*bytes)
}

// formatDuration formats a duration as kubectl does: 45s, 12m, 5h, 3d.
func formatDuration(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(int(d/time.Second), 0))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// formatAge, formatAgo and formatTime format a time; "": it is not known.
func formatAge(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return formatDuration(time.Since(t))
}

func formatAgo(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return formatAge(t) + " ago"
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func formatClaim(c *volume.PVC) string {
	if c == nil {
		return ""
	}
	return c.String()
}

func formatID(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}
