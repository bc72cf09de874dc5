// SPDX-License-Identifier: Apache-2.0

// Package metrics has the Prometheus metrics of RPCs, mounts, child processes, shares and the trash.
// A scrape calls no NFS server.
package metrics

import (
	"net/http"
	"time"

	csimetrics "github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics has all metrics of a process. Use New: the zero value is not usable.
type Metrics struct {
	rpc      csimetrics.CSIMetricsManager
	registry *prometheus.Registry
	own      prometheus.Registerer // registers in registry, with the label driver_name
	rpcs     *prometheus.CounterVec
	mounts   *prometheus.HistogramVec
	laidOut  prometheus.Counter
}

// Build describes the process, for mooring_build_info.
type Build struct {
	Driver, Version string
	Role            string // controller, node, or all
}

// New returns the metrics of a process.
func New(b Build) *Metrics {
	m := &Metrics{
		rpc: csimetrics.NewCSIMetricsManagerWithOptions(b.Driver, csimetrics.WithSubsystem(csimetrics.SubsystemPlugin),
			csimetrics.WithProcessStartTime(false)), // the collector of the process has it
		registry: prometheus.NewRegistry(),
		rpcs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mooring_rpcs_total", Help: "CSI calls that have ended, by method and gRPC code; all combinations exist from the start, at 0.",
		}, []string{"method_name", "grpc_status_code"}),
		mounts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mooring_mount_duration_seconds", Help: "Duration of mount operations.",
			Buckets: []float64{.001, .01, .03, .1, .3, 1, 3, 10, 30, 60},
		}, []string{"operation", "result"}),
		laidOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mooring_shares_laid_out_total", Help: "Shares without Mooring data that this controller has laid out for a first volume: an unexpected one may be a disk that is not mounted on its server.",
		}),
	}
	m.own = prometheus.WrapRegistererWith(prometheus.Labels{"driver_name": b.Driver}, m.registry)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.own.MustRegister(m.rpcs, m.mounts, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mooring_build_info", Help: "1, with the driver's name, its version, and its role (controller, node or all) as labels.",
		ConstLabels: prometheus.Labels{"version": b.Version, "role": b.Role},
	}, func() float64 { return 1 }))
	return m
}

// RPCs initializes the counters of these methods and codes to 0. It must be called before the server
// starts: rate() and increase() do not see the step of a counter that Prometheus first scrapes at 1, and
// the first error is often the only one. The histogram of the CSI library is not initialized, because
// each of its combinations has sixteen series.
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

// ProcessCounter counts child processes: child.Runner, child.Workers.
type ProcessCounter interface {
	Alive() int
	Started() int
	Abandoned() int
}

// Processes adds the numbers of child processes of a kind: running, started, and abandoned.
func (m *Metrics) Processes(kind string, c ProcessCounter) {
	labels := prometheus.Labels{"kind": kind}
	m.own.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mooring_children", Help: "Child processes that run or are stuck.", ConstLabels: labels,
		}, func() float64 { return float64(c.Alive()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mooring_children_started_total", Help: "Child processes that were started.", ConstLabels: labels,
		}, func() float64 { return float64(c.Started()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mooring_children_abandoned", Help: "Child processes that have not ended in spite of SIGKILL.", ConstLabels: labels,
		}, func() float64 { return float64(c.Abandoned()) }),
	)
}

// Queries adds the queries of mounted file systems: how many wait for a slot, and how many file systems
// are in quarantine because a query has not returned.
func (m *Metrics) Queries(held func() (waiting, quarantined int)) {
	m.own.MustRegister(queryLoad(held))
}

// Trash adds the purger's status of the shares' trash.
func (m *Metrics) Trash(status func() []jobs.Trash) { m.own.MustRegister(trash(status)) }

// Volumes adds the number of volumes of each share, and the sum of their capacities.
func (m *Metrics) Volumes(status func() []jobs.VolumeCount) { m.own.MustRegister(volumes(status)) }

// Copies adds the copier's totals of each share.
func (m *Metrics) Copies(status func() []jobs.CopyTotals) { m.own.MustRegister(copies(status)) }

// Shares adds the shares that are mounted in the controller's pool, their NFS versions, and the status
// of their last checks.
func (m *Metrics) Shares(opened func() []string, versions func() map[string]string, seen func() []jobs.ShareStatus) {
	m.own.MustRegister(shares{opened, versions, seen})
}

// LaidOut adds the number of shares that the controller has laid out, and returns a function that counts one.
func (m *Metrics) LaidOut() (count func()) {
	m.own.MustRegister(m.laidOut)
	return m.laidOut.Inc
}

// Servers adds the status of the NFS servers.
func (m *Metrics) Servers(status func() []probe.ServerStatus) {
	m.own.MustRegister(servers(status))
}

// Handler serves the metrics at /metrics, a liveness check at /healthz, and at /readyz whether the process
// is ready, as the CSI call Probe does.
func (m *Metrics) Handler(ready func() bool) http.Handler {
	mux := http.NewServeMux()
	m.rpc.WithAdditionalRegistry(m.registry).RegisterToServer(mux, "/metrics")
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	return mux
}
