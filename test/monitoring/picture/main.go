// SPDX-License-Identifier: Apache-2.0

// Command picture draws the chart's dashboard after ten minutes in the lab: a real driver works on two real
// servers, one of which is silent for a while, and a real Prometheus answers the queries of the panels.
// Grafana is not needed.
//
//	picture FILE.svg              in the lab; leaves the data in FILE.svg.json
//	picture -draw FILE.svg        draws FILE.svg.json again
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/monitoring"
)

// The length of the period, and the step and the window of the queries.
const (
	length = 10 * time.Minute
	step   = 3 * time.Second
	window = "20s" // for rates
)

// Line is one series of a panel.
type Line struct {
	Name   string
	At     []float64 // seconds from the beginning
	Values []float64
}

// Drawn is a panel with its data.
type Drawn struct {
	monitoring.Panel
	Lines []Line
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "-draw" {
		return draw(args[1])
	}
	if len(args) != 1 {
		return fmt.Errorf("picture [-draw] FILE.svg")
	}
	panels, err := watch()
	if err != nil {
		return err
	}
	data, err := json.Marshal(panels)
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0]+".json", data, 0o644); err != nil {
		return err
	}
	return draw(args[0])
}

func draw(file string) error {
	data, err := os.ReadFile(file + ".json")
	if err != nil {
		return err
	}
	var panels []Drawn
	if err := json.Unmarshal(data, &panels); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(picture(panels, length.Seconds())), 0o644)
}

// watch makes the driver work for the period, and returns the data of the panels.
func watch() ([]Drawn, error) {
	dir, err := os.MkdirTemp("", "picture")
	if err != nil {
		return nil, err
	}
	rules, err := monitoring.ReadRules(".")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "rules.yaml")
	if err := rules.Write(file); err != nil {
		return nil, err
	}
	load, err := monitoring.StartLoad(dir, rules.Driver())
	if err != nil {
		return nil, err
	}
	defer func() { _ = load.Driver.Stop() }()
	p, err := monitoring.StartPrometheus(dir, monitoring.Metrics, file)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	start := time.Now()
	if err := work(load, start); err != nil {
		return nil, err
	}
	return query(p, start)
}

// work makes the events of the picture.
func work(load *monitoring.Load, start time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*length)
	defer cancel()
	release := func() error { return nil }
	passed := func(part float64) bool { return time.Since(start) > time.Duration(part*float64(length)) }
	var stuck, cut, healed, freed bool
	for n := 0; !passed(1); n++ {
		var err error
		switch {
		case !stuck && passed(0.15):
			stuck = true
			release, err = load.Stuck(ctx)
		case !cut && passed(0.4):
			cut, err = true, lab.Do("second", "cut")
		case !healed && passed(0.6):
			healed, err = true, lab.Do("second", "heal")
		case !freed && passed(0.7):
			freed, err = true, release()
		}
		if err != nil {
			return err
		}
		if err := load.Round(ctx, "nas1", 10+60*(n%4)); err != nil {
			return err
		}
		// The second server fails for a while, and so do calls about it.
		if err := load.Round(ctx, "nas2", 20); err != nil && !cut {
			return err
		}
		if n%9 == 4 {
			if err := load.Mistake(ctx); err != nil {
				return err
			}
		}
		time.Sleep(time.Duration(300+900*(n%5)) * time.Millisecond) // the work of pods
	}
	return nil
}

// query returns the data of each panel.
func query(p *monitoring.Prometheus, start time.Time) ([]Drawn, error) {
	d, err := monitoring.ReadDashboard(".")
	if err != nil {
		return nil, err
	}
	var all []Drawn
	for _, panel := range d.Panels {
		drawn := Drawn{Panel: panel}
		for _, target := range panel.Targets {
			expr, err := d.Expand(target.Expr, window)
			if err != nil {
				return nil, err
			}
			found, err := p.Range(expr, start, start.Add(length), step)
			if err != nil {
				return nil, err
			}
			for _, s := range found {
				line := Line{}
				if line.Name, err = panel.Legend(target.LegendFormat, s); err != nil {
					return nil, err
				}
				for _, v := range s.Values {
					at, _ := v[0].(float64)
					line.At = append(line.At, at-float64(start.Unix()))
					line.Values = append(line.Values, finite(monitoring.Number(v)))
				}
				drawn.Lines = append(drawn.Lines, line)
			}
		}
		all = append(all, drawn)
	}
	return all, nil
}
