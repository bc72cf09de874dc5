// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/prometheus/client_golang/prometheus"
)

// Mounter is a mounter whose operations are measured.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error
	Restrict(target string) error
	Unmount(ctx context.Context, target string) error
	Interrupt(target string) error
	Table() (mount.Table, error)
}

// Timed returns a Mounter that calls next and measures the duration.
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

// Mount measures the next Mounter's Mount.
func (t *timed) Mount(ctx context.Context, s mount.Spec) error {
	start := time.Now()
	return t.observe("mount", start, t.Mounter.Mount(ctx, s))
}

// Bind measures the next Mounter's Bind.
func (t *timed) Bind(ctx context.Context, source mount.Entry, target string, readOnly bool) error {
	start := time.Now()
	return t.observe("bind", start, t.Mounter.Bind(ctx, source, target, readOnly))
}

// Unmount measures the next Mounter's Unmount.
func (t *timed) Unmount(ctx context.Context, target string) error {
	start := time.Now()
	return t.observe("unmount", start, t.Mounter.Unmount(ctx, target))
}
