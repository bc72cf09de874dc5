// SPDX-License-Identifier: Apache-2.0

// Package metrics has what Prometheus is told: how RPCs, mounts, child processes and the
// trash fare. Nothing here asks a server when it is scraped.
package metrics

import (
	"context"
	"net/http"
	"time"

	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics collects. Its zero value is of no use: see New.
type Metrics struct {
	rpc      csimetrics.CSIMetricsManager
	registry *prometheus.Registry
	mounts   *prometheus.HistogramVec
}

// New returns the metrics of a driver of that name.
func New(driver string) *Metrics {
	m := &Metrics{
		rpc:      csimetrics.NewCSIMetricsManagerForPlugin(driver),
		registry: prometheus.NewRegistry(),
		mounts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mooring_mount_duration_seconds", Help: "Time that mount operations took.",
			Buckets: []float64{.001, .01, .03, .1, .3, 1, 3, 10, 30, 60},
		}, []string{"operation", "result"}),
	}
	m.registry.MustRegister(m.mounts)
	return m
}

// ObserveRPC is a driver.Observer.
func (m *Metrics) ObserveRPC(method string, err error, took time.Duration) {
	m.rpc.RecordMetrics(method, err, took)
}

// Children adds the child processes of a kind: how many there are, and have been.
func (m *Metrics) Children(kind string, c *child.Children) {
	labels := prometheus.Labels{"kind": kind}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mooring_children", Help: "Child processes that run or are stuck.", ConstLabels: labels,
		}, func() float64 { return float64(c.Alive()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mooring_children_started_total", Help: "Child processes that were started.", ConstLabels: labels,
		}, func() float64 { return float64(c.Started()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mooring_children_abandoned", Help: "Child processes that not even SIGKILL has ended so far.", ConstLabels: labels,
		}, func() float64 { return float64(c.Abandoned()) }),
	)
}

// Trash adds what the purger says of the shares' trash.
func (m *Metrics) Trash(status func() []jobs.Trash) { m.registry.MustRegister(trash(status)) }

// Copies adds what the copier says of the copies to each share.
func (m *Metrics) Copies(status func() []jobs.CopyTotals) { m.registry.MustRegister(copies(status)) }

// Shares adds which shares are mounted in the controller's pool.
func (m *Metrics) Shares(opened func() []string) { m.registry.MustRegister(shares(opened)) }

// Servers adds what is known of the NFS servers that are asked whether they answer.
func (m *Metrics) Servers(status func() []probe.Status) { m.registry.MustRegister(servers(status)) }

// Handler serves the metrics at /metrics, and at /healthz that the process is alive.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	m.rpc.WithAdditionalRegistry(m.registry).RegisterToServer(mux, "/metrics")
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}

type trash func() []jobs.Trash

var (
	trashVolumes = prometheus.NewDesc("mooring_trash_volumes", "Deleted volumes and snapshots that wait in the trash.", []string{"share"}, nil)
	trashOldest  = prometheus.NewDesc("mooring_trash_oldest_timestamp_seconds", "Unix time at which the longest waiting volume was deleted; 0 where none waits.", []string{"share"}, nil)
	trashPurged  = prometheus.NewDesc("mooring_trash_purged_volumes_total", "Volumes that were purged.", []string{"share"}, nil)
	trashEntries = prometheus.NewDesc("mooring_trash_purged_entries_total", "Files and directories that were purged.", []string{"share"}, nil)
	trashFailed  = prometheus.NewDesc("mooring_trash_failures_total", "Attempts to purge a volume that failed.", []string{"share"}, nil)
	shareOpen    = prometheus.NewDesc("mooring_share_mounted", "1 for each share that the controller has mounted.", []string{"share"}, nil)
)

// Describe implements prometheus.Collector.
func (t trash) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(t, ch) }

// Collect implements prometheus.Collector.
func (t trash) Collect(ch chan<- prometheus.Metric) {
	for _, s := range t() {
		oldest := 0.0
		if !s.Oldest.IsZero() {
			oldest = float64(s.Oldest.Unix())
		}
		ch <- prometheus.MustNewConstMetric(trashVolumes, prometheus.GaugeValue, float64(s.Volumes), s.Share)
		ch <- prometheus.MustNewConstMetric(trashOldest, prometheus.GaugeValue, oldest, s.Share)
		ch <- prometheus.MustNewConstMetric(trashPurged, prometheus.CounterValue, float64(s.Purged), s.Share)
		ch <- prometheus.MustNewConstMetric(trashEntries, prometheus.CounterValue, float64(s.Entries), s.Share)
		ch <- prometheus.MustNewConstMetric(trashFailed, prometheus.CounterValue, float64(s.Failed), s.Share)
	}
}

type copies func() []jobs.CopyTotals

var (
	copiesRunning  = prometheus.NewDesc("mooring_copies_running", "Copies for snapshots, restores and clones that are under way or wait for their turn.", []string{"share"}, nil)
	copiesDone     = prometheus.NewDesc("mooring_copies_total", "Copies that have ended, by result.", []string{"share", "result"}, nil)
	copiesFiles    = prometheus.NewDesc("mooring_copied_files_total", "Regular files whose data was copied, by how: clone (shared blocks), copy (by the server), readwrite (through the controller).", []string{"share", "method"}, nil)
	copiesBytes    = prometheus.NewDesc("mooring_copied_bytes_total", "Bytes of data that were copied, by how.", []string{"share", "method"}, nil)
	copiesEntries  = prometheus.NewDesc("mooring_copied_entries_total", "Files, directories and all else that was copied.", []string{"share"}, nil)
	copiesSkipped  = prometheus.NewDesc("mooring_copy_skipped_total", "Sockets, and devices that the server does not let us make, which are not in the copies.", []string{"share"}, nil)
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

type servers func() []probe.Status

var (
	serverUp   = prometheus.NewDesc("mooring_server_up", "1 for each NFS server that answered when it was asked last, 0 for one that did not.", []string{"server"}, nil)
	serverTook = prometheus.NewDesc("mooring_server_response_seconds", "Time until that answer.", []string{"server"}, nil)
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

type shares func() []string

// Describe implements prometheus.Collector.
func (s shares) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s shares) Collect(ch chan<- prometheus.Metric) {
	for _, name := range s() {
		ch <- prometheus.MustNewConstMetric(shareOpen, prometheus.GaugeValue, 1, name)
	}
}

// Mounter is what is timed.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source, target string, readOnly bool) error
	Unmount(ctx context.Context, target string) error
	Table() (mount.Table, error)
}

// Timed returns a Mounter that does what next does and times it.
func (m *Metrics) Timed(next Mounter) Mounter { return &timed{next, m.mounts} }

type timed struct {
	Mounter
	took *prometheus.HistogramVec
}

func (t *timed) observe(operation string, start time.Time, err error) error {
	result := "ok"
	if err != nil {
		result = "error"
	}
	t.took.WithLabelValues(operation, result).Observe(time.Since(start).Seconds())
	return err
}

// Mount times the next Mounter's.
func (t *timed) Mount(ctx context.Context, s mount.Spec) error {
	start := time.Now()
	return t.observe("mount", start, t.Mounter.Mount(ctx, s))
}

// Bind times the next Mounter's.
func (t *timed) Bind(ctx context.Context, source, target string, readOnly bool) error {
	start := time.Now()
	return t.observe("bind", start, t.Mounter.Bind(ctx, source, target, readOnly))
}

// Unmount times the next Mounter's.
func (t *timed) Unmount(ctx context.Context, target string) error {
	start := time.Now()
	return t.observe("unmount", start, t.Mounter.Unmount(ctx, target))
}
