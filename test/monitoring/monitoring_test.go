// SPDX-License-Identifier: Apache-2.0

//go:build lab

package monitoring

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

// TestMonitoring makes a driver work, fail and lose a server. A Prometheus that scrapes the driver must
// have data for all queries of the dashboard and the alerts.
func TestMonitoring(t *testing.T) {
	r, dir := rules(t), t.TempDir()
	file := filepath.Join(dir, "rules.yaml")
	if err := r.WithoutDelay().Write(file); err != nil {
		t.Fatal(err)
	}
	load, err := StartLoad(dir, r.Driver())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := load.Driver.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			log := load.Driver.Log()
			t.Log(log[max(0, len(log)-3000):])
		}
	})
	p, err := StartPrometheus(dir, Metrics, file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)

	w := &watched{load: load, prometheus: p}
	w.ctx, w.fail = context.WithCancelCause(t.Context())
	w.first(t)
	w.stuck(t)
	stop := w.work(t, "nas1", "nas2")
	check(t)
	w.wait(t, queries(t, r))
	w.wait(t, map[string]string{"half of the calls fail, because of their class": `absent(` + firing("MooringRPCErrors") + `)`})
	stop()
	w.outage(t)
}

// watched is a driver that Prometheus scrapes. fail ends the test early.
type watched struct {
	load       *Load
	prometheus *Prometheus
	ctx        context.Context
	fail       context.CancelCauseFunc
}

// withTimeout returns a context with a new Timeout.
func (w *watched) withTimeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, Timeout)
}

// wait waits until each of the expressions has had a value. If one has none, the test fails.
func (w *watched) wait(t *testing.T, wanted map[string]string) {
	t.Helper()
	ctx, cancel := w.withTimeout()
	defer cancel()
	if err := w.prometheus.WaitAll(ctx, wanted); err != nil {
		t.Fatal(err)
	}
}

// firing returns the expression for an alert that fires.
func firing(alert string) string { return `ALERTS{alertname="` + alert + `", alertstate="firing"}` }

// first makes one call that fails. Prometheus must see it: a bug may appear only once.
func (w *watched) first(t *testing.T) {
	t.Helper()
	const failed = `mooring_rpcs_total{method_name="/csi.v1.Controller/CreateVolume", grpc_status_code="FailedPrecondition"}`
	w.wait(t, map[string]string{"before the first failure": failed + ` == 0`})
	ctx, cancel := w.withTimeout()
	defer cancel()
	if err := w.load.Mistake(ctx); err != nil {
		t.Fatal(err)
	}
	w.wait(t, map[string]string{"after it": `increase(` + failed + `[1h]) > 0`})
}

// stuck puts a volume into the trash that cannot be purged until the test ends.
func (w *watched) stuck(t *testing.T) {
	t.Helper()
	ctx, cancel := w.withTimeout()
	defer cancel()
	release, err := w.load.Stuck(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
}

// work runs rounds on shares, in which half of the calls for volumes fail, until the returned function is
// called. That waits for the end of the round. It needs many rounds, because rate() needs growth between two
// scrapes.
func (w *watched) work(t *testing.T, shares ...string) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			for _, share := range shares {
				select {
				case <-quit:
					return
				default:
				}
				if err := w.round(share); err != nil {
					t.Error(err)
					w.fail(err)
					return
				}
			}
		}
	})
	stop = sync.OnceFunc(func() { close(quit); done.Wait() })
	t.Cleanup(stop)
	return stop
}

// round creates two volumes on a share, and makes as many mistakes.
func (w *watched) round(share string) error {
	// Not the test's context, which ends before stop is called: the round must finish.
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	if err := w.load.Round(ctx, share, 3); err != nil {
		return fmt.Errorf("a round on %s: %w", share, err)
	}
	return errors.Join(w.load.Mistake(ctx), w.load.Mistake(ctx))
}

// check checks the metrics with promtool.
func check(t *testing.T) {
	t.Helper()
	r, err := http.Get("http://" + Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	promtool(t, r.Body, "check", "metrics")
}

// fails makes calls for new volumes on a share whose server does not answer, until the returned function
// is called. It stops at the first call that succeeds, for example because the server is back.
func (w *watched) fails(t *testing.T, share string) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if _, err := w.load.Create(ctx, share, nil); err == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(stop)
	return stop
}

// queries returns all queries of the dashboard and the alerts.
func queries(t *testing.T, r *Rules) map[string]string {
	t.Helper()
	d, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expr, err := d.Expand(target.Expr, "1m")
			if err != nil {
				t.Fatal(err)
			}
			wanted["panel "+panel.Title+": "+target.LegendFormat] = expr
		}
	}
	for _, v := range d.Templating.List {
		if of, ok := strings.CutPrefix(v.Definition, "label_values("); ok {
			of = of[:strings.LastIndex(of, ",")]
			if wanted["variable "+v.Name], err = d.Expand(of, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(wanted) < 30 {
		t.Errorf("only %d expressions are in the dashboard", len(wanted))
	}
	for _, a := range r.Groups[0].Rules {
		wanted["alert "+a.Alert] = Unconditional(a.Expr)
	}
	return wanted
}

// outage makes the second server silent, checks what a user sees of it, and brings it back, while the work
// on the first continues.
func (w *watched) outage(t *testing.T) {
	t.Helper()
	if err := lab.Do("second", "cut"); err != nil {
		t.Fatal(err)
	}
	heal := sync.OnceValue(func() error { return lab.Do("second", "heal") })
	t.Cleanup(func() { _ = heal() }) // the driver must end, also if the test ends early
	defer w.work(t, "nas1")()
	ctx, cancel := w.withTimeout()
	defer cancel()
	if _, err := w.load.Create(ctx, "nas2", nil); err == nil {
		t.Error("a volume was created on a server that does not answer")
	}
	defer w.fails(t, "nas2")()
	// The controller checks the share by itself.
	w.wait(t, map[string]string{
		"the server":           `mooring_server_up{server="10.77.0.2:2049"} == 0`,
		"its share":            `mooring_share_up{share="nas2"} == 0`,
		"the other":            `mooring_share_up{share="nas1"} == 1 and on () mooring_share_up{share="nas2"} == 0`,
		"its space":            `absent(mooring_share_free_bytes{share="nas2"})`,
		"alert for the share":  firing("MooringShareDown"),
		"alert for the server": firing("MooringServerDown"),
		"alert for the calls":  firing("MooringRPCErrors"),
	})
	if err := heal(); err != nil {
		t.Fatal(err)
	}
	w.wait(t, map[string]string{
		"the share again":         `mooring_share_up{share="nas2"} == 1`,
		"no alert for the share":  `absent(` + firing("MooringShareDown") + `)`,
		"no alert for the server": `absent(` + firing("MooringServerDown") + `)`,
	})
}
