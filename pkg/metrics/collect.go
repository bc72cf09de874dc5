// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strconv"

	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/prometheus/client_golang/prometheus"
)

type trash func() []jobs.Trash

var (
	trashVolumes = prometheus.NewDesc("mooring_trash_volumes", "Deleted volumes and snapshots that wait in the trash; absent before the controller's first scan.", []string{"share"}, nil)
	trashOldest  = prometheus.NewDesc("mooring_trash_oldest_timestamp_seconds", "Unix time at which the longest waiting volume was deleted; absent if none waits.", []string{"share"}, nil)
	trashPurged  = prometheus.NewDesc("mooring_trash_purged_volumes_total", "Volumes that were purged.", []string{"share"}, nil)
	trashEntries = prometheus.NewDesc("mooring_trash_purged_entries_total", "Files and directories that were purged.", []string{"share"}, nil)
	trashFailed  = prometheus.NewDesc("mooring_trash_failures_total", "Attempts to purge a volume that failed.", []string{"share"}, nil)
	trashOverdue = prometheus.NewDesc("mooring_trash_overdue_volumes", "Volumes and snapshots in the trash whose retention is over and that are not purged yet; absent before the controller's first scan.", []string{"share"}, nil)
	trashSince   = prometheus.NewDesc("mooring_trash_overdue_timestamp_seconds", "Unix time at which the longest overdue should have been purged; absent if none is overdue.", []string{"share"}, nil)
)

// Describe implements prometheus.Collector.
func (t trash) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(t, ch) }

// Collect implements prometheus.Collector.
func (t trash) Collect(ch chan<- prometheus.Metric) {
	for _, s := range t() {
		if s.Scanned {
			ch <- prometheus.MustNewConstMetric(trashVolumes, prometheus.GaugeValue, float64(s.Volumes), s.Share)
			ch <- prometheus.MustNewConstMetric(trashOverdue, prometheus.GaugeValue, float64(s.Overdue), s.Share)
		}
		if !s.Oldest.IsZero() {
			ch <- prometheus.MustNewConstMetric(trashOldest, prometheus.GaugeValue, float64(s.Oldest.Unix()), s.Share)
		}
		if !s.Since.IsZero() {
			ch <- prometheus.MustNewConstMetric(trashSince, prometheus.GaugeValue, float64(s.Since.Unix()), s.Share)
		}
		ch <- prometheus.MustNewConstMetric(trashPurged, prometheus.CounterValue, float64(s.Purged), s.Share)
		ch <- prometheus.MustNewConstMetric(trashEntries, prometheus.CounterValue, float64(s.Entries), s.Share)
		ch <- prometheus.MustNewConstMetric(trashFailed, prometheus.CounterValue, float64(s.Failed), s.Share)
	}
}

type volumes func() []jobs.VolumeCount

var (
	shareVolumes     = prometheus.NewDesc("mooring_share_volumes", "Volumes of the share; absent until the controller has counted them, a minute after its start. It counts every 10 minutes.", []string{"share"}, nil)
	shareProvisioned = prometheus.NewDesc("mooring_share_provisioned_bytes", "Sum of the capacities of the share's volumes: it can exceed the size of the file system; absent as mooring_share_volumes is.", []string{"share"}, nil)
)

// Describe implements prometheus.Collector.
func (v volumes) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(v, ch) }

// Collect implements prometheus.Collector.
func (v volumes) Collect(ch chan<- prometheus.Metric) {
	for _, n := range v() {
		ch <- prometheus.MustNewConstMetric(shareVolumes, prometheus.GaugeValue, float64(n.Volumes), n.Share)
		ch <- prometheus.MustNewConstMetric(shareProvisioned, prometheus.GaugeValue, float64(n.Bytes), n.Share)
	}
}

type copies func() []jobs.CopyTotals

var (
	copiesRunning  = prometheus.NewDesc("mooring_copies_running", "Copies for snapshots, restores and clones that run or wait for a slot.", []string{"share"}, nil)
	copiesDone     = prometheus.NewDesc("mooring_copies_total", "Copies that have ended, by result.", []string{"share", "result"}, nil)
	copiesFiles    = prometheus.NewDesc("mooring_copied_files_total", "Regular files whose data was copied, by method: clone (shared blocks), copy (by the server), readwrite (through the controller).", []string{"share", "method"}, nil)
	copiesBytes    = prometheus.NewDesc("mooring_copied_bytes_total", "Bytes of data that were copied, by method.", []string{"share", "method"}, nil)
	copiesEntries  = prometheus.NewDesc("mooring_copied_entries_total", "Files, directories and other entries that were copied.", []string{"share"}, nil)
	copiesSkipped  = prometheus.NewDesc("mooring_copy_skipped_total", "Entries that are not in the copies: sockets, and devices that the server does not allow.", []string{"share"}, nil)
	copiesVanished = prometheus.NewDesc("mooring_copy_vanished_total", "Files that were removed while they were copied.", []string{"share"}, nil)
)

// Describe implements prometheus.Collector.
func (c copies) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c copies) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for _, s := range c() {
		ch <- prometheus.MustNewConstMetric(copiesRunning, prometheus.GaugeValue, float64(s.Running), s.Share)
		counter(copiesDone, s.Done, s.Share, "ok")
		counter(copiesDone, s.Failed, s.Share, "error")
		for method, n := range s.ByMethod {
			counter(copiesFiles, n.Files, s.Share, method)
			counter(copiesBytes, n.Bytes, s.Share, method)
		}
		counter(copiesEntries, s.Entries, s.Share)
		counter(copiesSkipped, s.Skipped, s.Share)
		counter(copiesVanished, s.Vanished, s.Share)
	}
}

type queryLoad func() (waiting, quarantined int)

var (
	queriesWaiting         = prometheus.NewDesc("mooring_asks_waiting", "Queries of mounts on this node that wait for a slot.", nil, nil)
	fileSystemsQuarantined = prometheus.NewDesc("mooring_file_systems_quarantined", "Mounted file systems that are not queried because an earlier query has not returned.", nil, nil)
)

// Describe implements prometheus.Collector.
func (a queryLoad) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(a, ch) }

// Collect implements prometheus.Collector.
func (a queryLoad) Collect(ch chan<- prometheus.Metric) {
	waiting, quarantined := a()
	ch <- prometheus.MustNewConstMetric(queriesWaiting, prometheus.GaugeValue, float64(waiting))
	ch <- prometheus.MustNewConstMetric(fileSystemsQuarantined, prometheus.GaugeValue, float64(quarantined))
}

type servers func() []probe.ServerStatus

var (
	serverUp   = prometheus.NewDesc("mooring_server_up", "1 for each NFS server that answered the last probe, 0 for one that did not.", []string{"server"}, nil)
	serverTook = prometheus.NewDesc("mooring_server_response_seconds", "Time in which the server answered the last probe.", []string{"server"}, nil)
)

// Describe implements prometheus.Collector.
func (s servers) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s servers) Collect(ch chan<- prometheus.Metric) {
	for _, v := range s() {
		up := 0.0
		if v.Up {
			up = 1
			ch <- prometheus.MustNewConstMetric(serverTook, prometheus.GaugeValue, v.Took.Seconds(), v.Address)
		}
		ch <- prometheus.MustNewConstMetric(serverUp, prometheus.GaugeValue, up, v.Address)
	}
}

type shares struct {
	opened   func() []string
	versions func() map[string]string // of NFS, for example "4.2"
	seen     func() []jobs.ShareStatus
}

var (
	shareOpen       = prometheus.NewDesc("mooring_share_mounted", "1 for each share that the controller has mounted.", []string{"share"}, nil)
	shareVersion    = prometheus.NewDesc("mooring_share_nfs_version", "NFS version with which the controller has mounted the share: 3, 4, 4.1 or 4.2; 4 is 4.0.", []string{"share"}, nil)
	shareUp         = prometheus.NewDesc("mooring_share_up", "1 for each share that was usable at the controller's last check, 0 for one that was not.", []string{"share"}, nil)
	shareFault      = prometheus.NewDesc("mooring_share_fault", "1 for the reason why the controller's last write to the share failed (DiskFailing, ReadOnlyServer, ShareFull, AccessDenied, SlowResponses), 0 for each other; absent before the first write.", []string{"share", "reason"}, nil)
	shareTook       = prometheus.NewDesc("mooring_share_response_seconds", "Time in which the share answered the controller's last query of its space.", []string{"share"}, nil)
	shareCapacity   = prometheus.NewDesc("mooring_share_capacity_bytes", "Size of the share's file system, or of the quota on it; absent if the server does not report it.", []string{"share"}, nil)
	shareFree       = prometheus.NewDesc("mooring_share_free_bytes", "Free space of the share's file system, or of the quota on it, for unprivileged users; absent if the server does not report it.", []string{"share"}, nil)
	shareInodes     = prometheus.NewDesc("mooring_share_inodes", "Maximum number of files and directories of the file system; absent if the server does not report it.", []string{"share"}, nil)
	shareInodesFree = prometheus.NewDesc("mooring_share_inodes_free", "Free inodes of the share's file system; absent if the server does not report them.", []string{"share"}, nil)
)

// Describe implements prometheus.Collector.
func (s shares) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector. A share that is down has no values but its fault: the earlier
// ones no longer hold.
func (s shares) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, share string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, share)
	}
	for _, name := range s.opened() {
		gauge(shareOpen, 1, name)
	}
	for name, version := range s.versions() {
		number, err := strconv.ParseFloat(version, 64)
		if err != nil {
			continue
		}
		gauge(shareVersion, number, name)
	}
	for _, v := range s.seen() {
		for reason, is := range v.Faults() {
			value := 0.0
			if is {
				value = 1
			}
			ch <- prometheus.MustNewConstMetric(shareFault, prometheus.GaugeValue, value, v.Share, reason)
		}
		if !v.Up {
			gauge(shareUp, 0, v.Share)
			continue
		}
		gauge(shareUp, 1, v.Share)
		gauge(shareTook, v.Latency.Seconds(), v.Share)
		if v.Space.Known() {
			gauge(shareCapacity, float64(v.Space.Total), v.Share)
			gauge(shareFree, float64(v.Space.Free), v.Share)
		}
		if v.Space.InodesKnown() {
			gauge(shareInodes, float64(v.Space.Inodes), v.Share)
			gauge(shareInodesFree, float64(v.Space.InodesFree), v.Share)
		}
	}
}
