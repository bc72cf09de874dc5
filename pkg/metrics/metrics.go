// SPDX-License-Identifier: Apache-2.0

// Package metrics has what Prometheus is told: how RPCs, mounts, child processes and the
// trash fare. Nothing here asks a server when it is scraped.
package metrics

import (
	"net/http"
	"time"

	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics collects. Its zero value is of no use: see New.
type Metrics struct {
	rpc      csimetrics.CSIMetricsManager
	registry *prometheus.Registry
	rpcs     *prometheus.CounterVec
	mounts   *prometheus.HistogramVec
	laidOut  prometheus.Counter
}

// Build is what the program is, for mooring_build_info.
type Build struct {
	Driver, Version string
	Role            string // controller, node, or all
}

// New returns the metrics of a driver.
func New(b Build) *Metrics {
	m := &Metrics{
		rpc:      csimetrics.NewCSIMetricsManagerForPlugin(b.Driver),
		registry: prometheus.NewRegistry(),
		rpcs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooring_rpcs_total", Help: "CSI calls that have ended, by method and gRPC code; all of both are there from the start, at 0.",
			ConstLabels: prometheus.Labels{"driver_name": b.Driver},
		}, []string{"method_name", "grpc_status_code"}),
		mounts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mooring_mount_duration_seconds", Help: "Time that mount operations took.",
			Buckets: []float64{.001, .01, .03, .1, .3, 1, 3, 10, 30, 60},
		}, []string{"operation", "result"}),
		laidOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mooring_shares_laid_out_total", Help: "Shares on which there was nothing of Mooring's, and that this controller has laid out for a first volume: one that is none of yours may be a disk that is not mounted on its server.",
		}),
	}
	m.registry.MustRegister(m.rpcs, m.mounts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mooring_build_info", Help: "1, with labels that say which driver this is, in which version, and whether it is controller, node or all.",
		ConstLabels: prometheus.Labels{"driver_name": b.Driver, "version": b.Version, "role": b.Role},
	}, func() float64 { return 1 }))
	return m
}

// RPCs has a counter begin at 0 for each of these methods and codes. It is called before
// anything is served: a counter that Prometheus first sees at 1 has not grown, and the first
// error, often the only one, would not be seen by rate() and increase(). A histogram for each
// would be sixteen series, so that of the CSI library has those alone that there were.
func (m *Metrics) RPCs(methods, codes []string) {
	for _, method := range methods {
		for _, code := range codes {
			m.rpcs.WithLabelValues(method, code)
		}
	}
}

// ObserveRPC is a driver.Observer.
func (m *Metrics) ObserveRPC(method, code string, err error, took time.Duration) {
	m.rpcs.WithLabelValues(method, code).Inc()
	m.rpc.RecordMetrics(method, err, took)
}

// ProcessCounter are child processes that are counted: child.ProcessCounter, child.Workers.
type ProcessCounter interface {
	Alive() int
	Started() int
	Abandoned() int
}

// Children adds the child processes of a kind: how many there are, and have been.
func (m *Metrics) Children(kind string, c ProcessCounter) {
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

// Asks adds what is asked of mounted file systems: how many questions wait for others, and how
// many file systems are in quarantine, because one has not come back.
func (m *Metrics) Asks(held func() (waiting, quarantined int)) { m.registry.MustRegister(asks(held)) }

// Trash adds what the purger says of the shares' trash.
func (m *Metrics) Trash(status func() []jobs.Trash) { m.registry.MustRegister(trash(status)) }

// Copies adds what the copier says of the copies to each share.
func (m *Metrics) Copies(status func() []jobs.CopyTotals) { m.registry.MustRegister(copies(status)) }

// Shares adds which shares are mounted in the controller's pool, by which NFS version, and what was
// seen of them.
func (m *Metrics) Shares(opened func() []string, versions func() map[string]string, seen func() []jobs.ShareStatus) {
	m.registry.MustRegister(shares{opened, versions, seen})
}

// LaidOut adds how many shares the controller has laid out, and returns what counts one.
func (m *Metrics) LaidOut() (count func()) {
	m.registry.MustRegister(m.laidOut)
	return m.laidOut.Inc
}

// Servers adds what is known of the NFS servers that are asked whether they answer.
func (m *Metrics) Servers(status func() []probe.ServerStatus) {
	m.registry.MustRegister(servers(status))
}

// Handler serves the metrics at /metrics, and at /healthz that the process is alive.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	m.rpc.WithAdditionalRegistry(m.registry).RegisterToServer(mux, "/metrics")
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
