// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// row is one line of the table. Round trips, mounts, processes and bytes are per operation.
type row struct {
	Operation   string             `json:"operation"`
	Case        string             `json:"case"`
	Protocol    string             `json:"protocol"`
	Disk        string             `json:"disk"` // the exported file system
	DelayMS     float64            `json:"delay_ms"`
	Parallel    int                `json:"parallel"`
	N           int                `json:"n"`
	MedianS     float64            `json:"median_s"`
	P99S        float64            `json:"p99_s"`
	RoundTrips  float64            `json:"round_trips"`
	ByKind      map[string]float64 `json:"by_kind"`
	Mounts      float64            `json:"mounts"`
	ClientBytes float64            `json:"client_bytes"`
	Processes   float64            `json:"processes"`
	Forks       float64            `json:"forks"`             // of the whole machine, threads too
	CPUMS       float64            `json:"cpu_ms"`            // of the process and its children
	Files       int                `json:"files,omitempty"`   // in the copied tree
	Threads     int                `json:"threads,omitempty"` // of the process and its children, afterwards
	MemoryMB    float64            `json:"memory_mb,omitempty"`
}

// tripsPerFile are those of copying a tree.
func (r row) tripsPerFile() float64 { return r.RoundTrips / float64(r.Files) }

func newRow(s spec, delay float64, took []time.Duration, spent sample) row {
	per := func(n int64) float64 { return round(float64(n)/float64(len(took)), 1000) }
	r := row{
		Operation: s.operation, Case: s.variant, Protocol: s.protocol, Disk: s.disk, DelayMS: delay, Parallel: s.parallel, N: len(took),
		MedianS: round(quantile(took, 0.5), 1e6), P99S: round(quantile(took, 0.99), 1e6),
		RoundTrips: per(spent.trips.Total()), ByKind: map[string]float64{},
		Mounts: per(spent.mounts), ClientBytes: per(spent.trips.Bytes),
		Processes: per(spent.processes), Files: s.files, Forks: per(spent.forks),
		CPUMS: round(spent.cpu.Seconds()*1e3/float64(len(took)), 1000),
	}
	for kind, n := range spent.trips.ByKind {
		r.ByKind[kind] = per(n)
	}
	return r
}

func round(x, steps float64) float64 { return math.Round(x*steps) / steps }

// short writes a number with at most two decimals.
func short(x float64) string { return strconv.FormatFloat(round(x, 100), 'f', -1, 64) }

// kinds names the operations of a row, the most frequent first: "OPEN 1, LINK 2".
func (r row) kinds() string {
	names := slices.SortedFunc(maps.Keys(r.ByKind), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.ByKind[b], r.ByKind[a]), strings.Compare(a, b))
	})
	for i, name := range names {
		names[i] = name + " " + short(r.ByKind[name])
	}
	return strings.Join(names, ", ")
}

func (b *bench) print(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operation\tcase\tNFS\tdelay ms\tparallel\tn\tmedian ms\tp99 ms\ttrips\tmounts\tprocesses\tby kind")
	copies := 0
	for _, r := range b.rows {
		if r.Files > 0 {
			copies++
		}
		if r.Files > 0 || r.Threads > 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%g\t%d\t%d\t%.1f\t%.1f\t%s\t%g\t%g\t%s\n",
			r.Operation, r.Case, r.Protocol, r.DelayMS, r.Parallel, r.N, r.MedianS*1e3, r.P99S*1e3, short(r.RoundTrips), r.Mounts, r.Processes, r.kinds())
	}
	_ = w.Flush()
	b.printLoads(to)
	if copies > 0 {
		b.printCopies(to)
	}
}

// printCopies prints the rows of copies of a tree, with their additional figures.
func (b *bench) printCopies(to io.Writer) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ncopying\tcase\tNFS\ton\tdelay ms\tn\tmedian s\tms a file\ttrips\ta file\tclient bytes\tmounts\tprocesses\tby kind")
	for _, r := range b.rows {
		if r.Files == 0 {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%g\t%d\t%.2f\t%s\t%s\t%s\t%.0f\t%g\t%g\t%s\n",
			r.Operation, r.Case, r.Protocol, r.Disk, r.DelayMS, r.N, r.MedianS, short(r.MedianS*1e3/float64(r.Files)),
			short(r.RoundTrips), short(r.tripsPerFile()), r.ClientBytes, r.Mounts, r.Processes, r.kinds())
	}
	_ = w.Flush()
}

func (b *bench) save(path string) error {
	data, err := json.MarshalIndent(b.rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// quantile returns the value that a part of all values do not exceed.
func quantile(took []time.Duration, part float64) float64 {
	i := int(math.Ceil(part*float64(len(took)))) - 1
	return slices.Sorted(slices.Values(took))[max(i, 0)].Seconds()
}
