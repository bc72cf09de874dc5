// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// size writes bytes for people: 5Gi, 1.2Gi.
func size(bytes int64) string {
	n, unit := float64(bytes), ""
	for _, unit = range []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"} {
		if n < 1024 {
			break
		}
		if unit != "Ei" {
			n /= 1024
		}
	}
	text := strconv.FormatFloat(n, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + unit
}

// sizeOf is size, where that is known.
func sizeOf(bytes *int64) string {
	if bytes == nil {
		return ""
	}
	return size(*bytes)
}

// span writes a time for people, as kubectl does: 45s, 12m, 5h, 3d.
func span(d time.Duration) string {
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

// age, ago and at write a time; "": it is not known.
func age(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return span(time.Since(t))
}

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return age(t) + " ago"
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func claim(c *volume.PVC) string {
	if c == nil {
		return ""
	}
	return c.String()
}

func id(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// isTerminal reports whether a stream of the command is one.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
