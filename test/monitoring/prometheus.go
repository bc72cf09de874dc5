// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Timeout bounds the wait for one event: long enough for a slow and busy machine.
const Timeout = 5 * time.Minute

// Prometheus is a running server.
type Prometheus struct {
	address string
	cmd     *exec.Cmd
	log     string
	done    chan error
}

const settings = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - {job_name: mooring, static_configs: [{targets: ["%s"]}]}
`

// StartPrometheus starts a server in dir that scrapes target and evaluates the rules in a file.
func StartPrometheus(dir, target, rules string) (*Prometheus, error) {
	file, log := filepath.Join(dir, "prometheus.yml"), filepath.Join(dir, "prometheus.log")
	if err := os.WriteFile(file, fmt.Appendf(nil, settings, rules, target), 0o644); err != nil {
		return nil, err
	}
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p := &Prometheus{address: "127.0.0.1:9090", log: log, done: make(chan error, 1)}
	p.cmd = exec.Command("prometheus", "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.address, "--log.level=warn")
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start prometheus (package prometheus): %w", err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	if err := p.Wait(ctx, `mooring_build_info`); err != nil {
		p.Stop()
		text, _ := os.ReadFile(log)
		return nil, fmt.Errorf("%w; its log:\n%s", err, text)
	}
	return p, nil
}

// Stop ends the server and waits for its end.
func (p *Prometheus) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Series is one series of a response.
type Series struct {
	Metric map[string]string
	Value  [2]any   // of an instant query
	Values [][2]any // of a range query
}

// Number returns the second half of a pair of time and value.
func Number(pair [2]any) float64 {
	text, _ := pair[1].(string)
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err) // the API always has a number (Prometheus, HTTP API, instant vectors)
	}
	return n
}

// Query returns the current value of an expression.
func (p *Prometheus) Query(expr string) ([]Series, error) {
	return p.get("query", url.Values{"query": {expr}})
}

// Range returns the values of an expression in a period.
func (p *Prometheus) Range(expr string, from, to time.Time, step time.Duration) ([]Series, error) {
	unix := func(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
	return p.get("query_range", url.Values{
		"query": {expr}, "start": {unix(from)}, "end": {unix(to)}, "step": {strconv.Itoa(int(step.Seconds()))},
	})
}

func (p *Prometheus) get(what string, form url.Values) ([]Series, error) {
	client := http.Client{Timeout: time.Minute}
	r, err := client.PostForm("http://"+p.address+"/api/v1/"+what, form)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct{ Result []Series }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", form.Get("query"), err, body)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", form.Get("query"), answer.Error)
	}
	return answer.Data.Result, nil
}

// Wait waits until an expression has a value.
func (p *Prometheus) Wait(ctx context.Context, expr string) error {
	return p.WaitAll(ctx, map[string]string{"waiting": expr})
}

// WaitAll waits until each of the expressions, which have names, has had a value.
func (p *Prometheus) WaitAll(ctx context.Context, wanted map[string]string) error {
	missing := maps.Clone(wanted)
	for {
		var err error
		for name, expr := range missing {
			found, failed := p.Query(expr)
			if failed == nil && len(found) > 0 {
				delete(missing, name)
			}
			err = cmp.Or(err, failed)
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			for name, expr := range missing {
				err = errors.Join(err, fmt.Errorf("%s: %s has no value", name, expr))
			}
			return errors.Join(context.Cause(ctx), err)
		case exit := <-p.done:
			p.done <- exit
			return fmt.Errorf("prometheus has ended: %v", exit)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
