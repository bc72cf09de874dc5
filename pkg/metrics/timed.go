// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/prometheus/client_golang/prometheus"
)

// Mounter is what is timed.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error
	Restrict(target string) error
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
func (t *timed) Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error {
	start := time.Now()
	return t.observe("bind", start, t.Mounter.Bind(ctx, source, target, readOnly))
}

// Unmount times the next Mounter's.
func (t *timed) Unmount(ctx context.Context, target string) error {
	start := time.Now()
	return t.observe("unmount", start, t.Mounter.Unmount(ctx, target))
}
