// SPDX-License-Identifier: Apache-2.0

//go:build lab

package monitoring

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

// TestMonitoring has a driver work, fail and lose a server, and asks a Prometheus that scrapes
// it for all that dashboard and alerts ask for.
func TestMonitoring(t *testing.T) {
	r, dir := rules(t), t.TempDir()
	file := filepath.Join(dir, "rules.yaml")
	if err := r.Hasty().Write(file); err != nil {
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

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	release, err := load.Stuck(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	// Twice at least: a rate is of what grows from one scrape to the next.
	for range 3 {
		for _, share := range []string{"nas1", "nas2"} {
			if err := load.Round(ctx, share, 3); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			if err := load.Mistake(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	check(t)
	present(t, ctx, p, r)
	outage(t, ctx, p, load)
	for _, alert := range []string{"MooringRPCErrors", "MooringShareDown", "MooringServerDown"} {
		if err := p.Wait(ctx, `ALERTS{alertname="`+alert+`", alertstate="firing"}`); err != nil {
			t.Error(err)
		}
	}
	if err := lab.Do("second", "heal"); err != nil {
		t.Fatal(err)
	}
	for _, ends := range []string{`mooring_share_up{share="nas2"} == 1`, `absent(ALERTS{alertname=~"Mooring(Share|Server)Down", alertstate="firing"})`} {
		if err := p.Wait(ctx, ends); err != nil {
			t.Error(err)
		}
	}
}

// check has promtool look at what is served.
func check(t *testing.T) {
	t.Helper()
	r, err := http.Get("http://" + Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	promtool(t, r.Body, "check", "metrics")
}

// present has every expression give something.
func present(t *testing.T, ctx context.Context, p *Prometheus, r *Rules) {
	t.Helper()
	d, err := ReadDashboard(root)
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]string{}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			expr, err := d.Expand(target.Expr, "10s")
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
		expr := Unconditional(a.Expr)
		if slices.Contains([]string{"MooringBug"}, a.Alert) {
			expr = strings.ReplaceAll(expr, "Internal|Unknown", "FailedPrecondition") // there is none
		}
		wanted["alert "+a.Alert] = expr
	}
	soon, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for where, expr := range wanted {
		if err := p.Wait(soon, expr); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

// outage has the second server fall silent, and asks of it what a user would.
func outage(t *testing.T, ctx context.Context, p *Prometheus, load *Load) {
	t.Helper()
	if err := lab.Do("second", "cut"); err != nil {
		t.Fatal(err)
	}
	if _, err := load.Create(ctx, "nas2", nil); err == nil {
		t.Error("a volume was made on a server that does not answer")
	}
	// Nobody else asks: the controller looks at the share by itself.
	for _, is := range []string{`mooring_server_up{server="10.77.0.2:2049"} == 0`, `mooring_share_up{share="nas2"} == 0`, `absent(mooring_share_free_bytes{share="nas2"})`} {
		if err := p.Wait(ctx, is); err != nil {
			t.Error(err)
		}
	}
	if up, err := p.Query(`mooring_share_up{share="nas1"}`); err != nil || len(up) != 1 || Number(up[0].Value) != 1 {
		t.Errorf("of the other share is told %v, %v", up, err)
	}
}
