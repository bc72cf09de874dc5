// SPDX-License-Identifier: Apache-2.0

// Package monitoring proves the chart's dashboard and alerts with a real Prometheus: it
// scrapes the real program, which works on a real NFS server, and everything that dashboard
// and alerts ask for has to be there.
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

// Dashboard is what is used here of Grafana's model of one.
type Dashboard struct {
	Title      string
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []Panel
}

// Panel is a panel or the head of a row.
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

// Legend returns what Grafana calls a series of one of the panel's targets.
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

// ReadDashboard reads the chart's dashboard. root is the repository's.
func ReadDashboard(root string) (*Dashboard, error) {
	data, err := os.ReadFile(filepath.Join(root, "charts/mooring/files/dashboard.json"))
	if err != nil {
		return nil, err
	}
	var d Dashboard
	return &d, json.Unmarshal(data, &d)
}

// Expand puts values in the place of the variables, as Grafana does where "All" is chosen.
func (d *Dashboard) Expand(expr, interval string) (string, error) {
	expr = strings.ReplaceAll(expr, "$__rate_interval", interval)
	for _, v := range d.Templating.List {
		expr = strings.ReplaceAll(expr, "$"+v.Name, ".*")
	}
	if strings.Contains(expr, "$") {
		return "", fmt.Errorf("%s has a variable that the dashboard has not", expr)
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

// Rules are those of a rule file.
type Rules struct {
	Groups []struct {
		Name  string  `json:"name"`
		Rules []Alert `json:"rules"`
	} `json:"groups"`
}

// ReadRules returns the alerts as the chart renders them: its golden file has them, and the
// chart's own test sees to it that this is what helm makes.
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

// Driver returns the name of the driver that the alerts are rendered for.
func (r *Rules) Driver() string {
	data, _ := yaml.Marshal(r)
	return string(regexp.MustCompile(`driver_name=\\?"([^"\\]+)`).FindSubmatch(data)[1])
}

// Hasty returns the rules with hardly any time for which a condition has to hold.
func (r *Rules) Hasty() *Rules {
	hasty := *r
	hasty.Groups = slices.Clone(r.Groups)
	for i := range hasty.Groups {
		hasty.Groups[i].Rules = slices.Clone(r.Groups[i].Rules)
		for j := range hasty.Groups[i].Rules {
			hasty.Groups[i].Rules[j].For = "1s"
		}
	}
	return &hasty
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

// Unconditional returns what an alert compares, whatever comes of the comparison: a value for
// each thing that it watches.
func Unconditional(expr string) string {
	if m := absence.FindStringSubmatch(expr); m != nil {
		return m[1]
	}
	return compared.ReplaceAllString(expr, " $1 bool ")
}
