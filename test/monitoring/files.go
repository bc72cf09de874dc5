// SPDX-License-Identifier: Apache-2.0

// Package monitoring tests the chart's dashboard and alerts with a real Prometheus, which scrapes the real
// program on a real NFS server: each query of the dashboard and the alerts must return data.
package monitoring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Dashboard is the part of Grafana's model that the tests use.
type Dashboard struct {
	Title      string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []Panel
}

// Panel is a panel or the header of a row.
type Panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct{ Expr, LegendFormat string }
	FieldConfig struct {
		Defaults struct {
			Unit     string
			Min, Max *float64
			Mappings []any
		}
	}
	Options         struct{ TextMode string }
	Transformations []struct {
		ID      string
		Options struct{ Regex, RenamePattern string }
	}
}

var placeholder = regexp.MustCompile(`{{\s*(\w+)\s*}}`)

// Legend returns the name that Grafana gives a series of one of the panel's targets.
func (p *Panel) Legend(format string, s Series) (string, error) {
	name := placeholder.ReplaceAllStringFunc(format, func(found string) string {
		return s.Metric[placeholder.FindStringSubmatch(found)[1]]
	})
	for _, t := range p.Transformations {
		rename, err := regexp.Compile(t.Options.Regex)
		if err != nil || t.ID != "renameByRegex" {
			return "", fmt.Errorf("panel %s: transformation %s: %v", p.Title, t.ID, err)
		}
		name = rename.ReplaceAllString(name, t.Options.RenamePattern)
	}
	return name, nil
}

// ReadDashboard reads the chart's dashboard. root is the repository's root.
func ReadDashboard(root string) (*Dashboard, error) {
	data, err := os.ReadFile(filepath.Join(root, "charts/mooring/files/dashboard.json"))
	if err != nil {
		return nil, err
	}
	var d Dashboard
	return &d, json.Unmarshal(data, &d)
}

// Expand replaces the variables with values, as Grafana does if "All" is chosen.
func (d *Dashboard) Expand(expr, interval string) (string, error) {
	expr = strings.ReplaceAll(expr, "$__rate_interval", interval)
	for _, v := range d.Templating.List {
		expr = strings.ReplaceAll(expr, "$"+v.Name, ".*")
	}
	if strings.Contains(expr, "$") {
		return "", fmt.Errorf("%s has a variable that the dashboard does not define", expr)
	}
	return expr, nil
}

// Alert is one rule.
type Alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// Rules are the content of a rule file.
type Rules struct {
	Groups []struct {
		Name  string  `json:"name"`
		Rules []Alert `json:"rules"`
	} `json:"groups"`
}

// ReadRules returns the alerts as the chart renders them. It reads the chart's golden file, which the
// test of the chart compares with the output of helm.
func ReadRules(root string) (*Rules, error) {
	data, err := os.ReadFile(filepath.Join(root, "test/chart/testdata/everything.golden.yaml"))
	if err != nil {
		return nil, err
	}
	for part := range bytes.SplitSeq(data, []byte("\n---\n")) {
		var object struct {
			Kind string
			Spec Rules
		}
		if err := yaml.Unmarshal(part, &object); err != nil {
			return nil, err
		}
		if object.Kind == "PrometheusRule" {
			return &object.Spec, nil
		}
	}
	return nil, fmt.Errorf("the chart's golden file has no PrometheusRule")
}

// Driver returns the driver's name in the alerts.
func (r *Rules) Driver() string {
	data, _ := yaml.Marshal(r)
	return string(regexp.MustCompile(`driver_name=\\?"([^"\\]+)`).FindSubmatch(data)[1])
}

// WithoutDelay returns the rules with an alert's "for" of one second.
func (r *Rules) WithoutDelay() *Rules {
	rules := *r
	rules.Groups = slices.Clone(r.Groups)
	for i := range rules.Groups {
		rules.Groups[i].Rules = slices.Clone(r.Groups[i].Rules)
		for j := range rules.Groups[i].Rules {
			rules.Groups[i].Rules[j].For = "1s"
		}
	}
	return &rules
}

// Write writes the rules as a rule file of Prometheus.
func (r *Rules) Write(file string) error {
	data, err := yaml.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

var (
	compared = regexp.MustCompile(`\s(==|!=|<=|>=|<|>)\s`)
	absence  = regexp.MustCompile(`^absent\((.*)\)$`)
)

// Unconditional returns the expression of an alert without its condition: it has a value for each object
// that the alert watches.
func Unconditional(expr string) string {
	if m := absence.FindStringSubmatch(expr); m != nil {
		return m[1]
	}
	return compared.ReplaceAllString(expr, " $1 bool ")
}
