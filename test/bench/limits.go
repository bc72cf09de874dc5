// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// limit is the project's promise for a row: in the lab, with NFSv4.2, with the share in the pool and warm,
// at any delay.
type limit struct {
	operation, variant, disk string
	bounds                   []bound
}

// bound is a limit of one figure of a row.
type bound struct {
	of    string
	value func(b *bench, r row) (value float64, known bool)
	limit float64
	least bool // the limit is a minimum, not a maximum
}

func figure(of string, limit float64, value func(row) float64) bound {
	return bound{of: of, limit: limit, value: func(_ *bench, r row) (float64, bool) { return value(r), true }}
}

func trips(most float64) bound {
	return figure("trips", most, func(r row) float64 { return r.RoundTrips })
}

func mounts(most float64) bound {
	return figure("mounts", most, func(r row) float64 { return r.Mounts })
}

func processes(most float64) bound {
	return figure("processes", most, func(r row) float64 { return r.Processes })
}

func perFile(most float64) bound { return figure("trips a file", most, row.tripsPerFile) }

// ownBytes is the maximum size of the driver's own files, of some 500 bytes each: the records, the job,
// and the heartbeats of a copy. They pass through the client like file data, and their number does not
// depend on the size of the copy.
const ownBytes = 16 << 10

// noData: no copied data passes through the client.
func noData() bound {
	return figure("client bytes", ownBytes, func(r row) float64 { return r.ClientBytes })
}

// faster: than with one worker. Delays without a measurement with one worker are not compared.
func faster(times float64) bound {
	return bound{"times as fast as one worker", func(b *bench, r row) (float64, bool) {
		for _, single := range b.rows {
			if single.Operation == r.Operation && single.Case == r.Case+oneWorker && single.Protocol == r.Protocol &&
				single.Disk == r.Disk && single.DelayMS == r.DelayMS {
				return single.MedianS / r.MedianS, true
			}
		}
		return 0, false
	}, times, true}
}

// asAlone: at most this multiple of another row's round trips.
func asAlone(operation string, times float64) bound {
	return bound{"times the trips of " + operation, func(b *bench, r row) (float64, bool) {
		for _, other := range b.rows {
			if other.Operation == operation && other.Protocol == r.Protocol && other.DelayMS == r.DelayMS {
				return r.RoundTrips / other.RoundTrips, true
			}
		}
		return 0, false
	}, times, false}
}

// slack is for a GETATTR that the kernel sends when a cache entry expires.
const slack = 1.05

var limits = []limit{
	{"create", "plain", "xfs", []bound{trips(16), mounts(0), processes(0)}},
	{"delete", "1 file", "xfs", []bound{trips(12), mounts(0), processes(0)}},
	{"delete", "10,000 files", "xfs", []bound{trips(12), mounts(0), processes(0)}},
	{"delete", "controller restarted since", "xfs", []bound{trips(15), mounts(0), processes(0)}},
	// 2 more: a share may lie in it.
	{"delete", "controller restarted since, directories in it", "xfs", []bound{trips(17), mounts(0), processes(0)}},
	{"publish-first", "share in use on the node", "xfs", []bound{mounts(1), processes(1), asAlone("mount(8) alone", slack)}},
	// It is mounted twice. The second superblock also queries the server's capabilities.
	{"publish-first", shownBefore, "xfs", []bound{mounts(1), processes(1), asAlone("mount(8) alone", 2.4)}},
	{"publish-second", "", "xfs", []bound{trips(0), mounts(0), processes(0)}},
	{"unpublish", "", "xfs", []bound{trips(0), mounts(0), processes(0)}},
	{"unpublish-last", "", "xfs", []bound{mounts(0), processes(0)}},
	{"stats", "", "xfs", []bound{trips(2), mounts(0), processes(0)}},
	{"stats", "1,000 pods at once", "xfs", []bound{trips(2), mounts(0), processes(0)}},

	{"snapshot", largeFile.name, "xfs", []bound{trips(80), noData()}},
	{"restore", largeFile.name, "xfs", []bound{trips(80), noData()}},
	{"clone", largeFile.name, "xfs", []bound{trips(80), noData()}},
	{"snapshot", sparseFile.name, "xfs", []bound{trips(80), noData()}},
	{"restore", sparseFile.name, "xfs", []bound{trips(80), noData()}},
	{"clone", sparseFile.name, "xfs", []bound{trips(80), noData()}},
	{"snapshot", manyFiles.name, "xfs", []bound{noData()}},
	{"restore", manyFiles.name, "xfs", []bound{perFile(8), noData()}},
	// 8 for each file, 2 of them for its attributes and its ACL, and some once for the copy. For a restore
	// the snapshot tells that there are none.
	{"clone", manyFiles.name, "xfs", []bound{perFile(8.1), noData()}},
	{"restore", spreadFiles.name, "xfs", []bound{noData(), faster(8)}},
	{"snapshot", largeFile.name, "ext4", []bound{noData()}},
	{"restore", largeFile.name, "ext4", []bound{noData()}},
	{"clone", largeFile.name, "ext4", []bound{noData()}},
	{"snapshot", manyFiles.name, "ext4", []bound{noData()}},
	{"restore", manyFiles.name, "ext4", []bound{noData()}},
	{"snapshot", sparseFile.name, "ext4", []bound{noData()}},
	{"restore", sparseFile.name, "ext4", []bound{noData()}},
	{"clone", sparseFile.name, "ext4", []bound{noData()}},
}

// limits checks each limit whose row was measured.
func (b *bench) limits(to io.Writer) error {
	broken := 0
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nlimit of\ton\tdelay ms\tparallel\tmeasured\t")
	for _, l := range limits {
		measured := b.only != nil
		for _, r := range b.rows {
			if r.Operation != l.operation || r.Case != l.variant || r.Disk != l.disk || r.Protocol != "4.2" {
				continue
			}
			measured = true
			texts, holds := l.judge(b, r)
			verdict := "holds"
			if !holds {
				verdict = "BROKEN"
				broken++
			}
			fmt.Fprintf(w, "%s %s\t%s\t%g\t%d\t%s\t%s\n", r.Operation, r.Case, r.Disk, r.DelayMS, r.Parallel, texts, verdict)
		}
		if !measured {
			return fmt.Errorf("there is a limit of %s %s on %s, and no such row", l.operation, l.variant, l.disk)
		}
	}
	_ = w.Flush()
	if broken > 0 {
		return fmt.Errorf("%d limits are broken", broken)
	}
	return nil
}

// judge returns the measured and the allowed figure of a row: "14 of at most 16 trips".
func (l limit) judge(b *bench, r row) (text string, holds bool) {
	var texts []string
	holds = true
	for _, bound := range l.bounds {
		value, known := bound.value(b, r)
		if !known {
			continue
		}
		relation := "most"
		if bound.least {
			relation = "least"
			holds = holds && value >= bound.limit
		} else {
			holds = holds && value <= bound.limit
		}
		texts = append(texts, fmt.Sprintf("%s of at %s %s %s", short(value), relation, short(bound.limit), bound.of))
	}
	return strings.Join(texts, ", "), holds
}
