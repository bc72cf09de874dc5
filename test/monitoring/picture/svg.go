// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The picture's measures, in pixels. A dashboard is 24 units wide.
const (
	unitX, unitY = 56.0, 29.0
	gap          = 6.0
	header       = 52.0
)

// colours are Grafana's classic palette.
var colours = [...]string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37b0c9", "#ff780a", "#8ab8ff", "#c8f2c2"}

// unknown represents a value that is not a number: JSON has none.
const unknown = -1e300

func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return unknown
	}
	return v
}

type canvas struct {
	strings.Builder
	length float64 // seconds from left to right
}

func (c *canvas) add(format string, args ...any) { fmt.Fprintf(&c.Builder, format+"\n", args...) }

// text writes at x, y. class has the size and colour.
func (c *canvas) text(x, y float64, class, anchor, text string) {
	c.add(`<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`, x, y, class, anchor, html.EscapeString(text))
}

// picture draws the panels, each in its place.
func picture(panels []Drawn, length float64) string {
	bottom := 0.0
	for _, p := range panels {
		bottom = max(bottom, float64(p.GridPos.Y+p.GridPos.H))
	}
	width, height := 24*unitX+gap, header+bottom*unitY+gap
	c := &canvas{length: length}
	c.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img" aria-label="The dashboard of Mooring">`, width, height)
	c.add(`<style>text{font-family:Inter,"Helvetica Neue",Arial,"DejaVu Sans",sans-serif;fill:#ccccdc}.h{font-size:19px;font-weight:600}.r{font-size:15px;font-weight:600}.t{font-size:13px;font-weight:600}.s{font-size:11px;fill:#9fa7b3}.l{font-size:11px}.b{font-weight:600}</style>`)
	c.add(`<rect width="100%%" height="100%%" fill="#111217"/>`)
	c.text(gap+8, 33, "h", "start", "Mooring")
	c.text(width-gap-8, 32, "s", "end", "driver: All    share: All    instance: All    last 10 minutes")
	for _, p := range panels {
		x, y := gap+float64(p.GridPos.X)*unitX, header+float64(p.GridPos.Y)*unitY
		w, h := float64(p.GridPos.W)*unitX-gap, float64(p.GridPos.H)*unitY-gap
		if p.Type == "row" {
			c.add(`<path d="M%.1f %.1fl5 5l5 -5" fill="none" stroke="#ccccdc" stroke-width="1.5"/>`, x+6, y+10)
			c.text(x+24, y+18, "r", "start", p.Title)
			continue
		}
		c.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3" fill="#181b1f" stroke="#2c3235"/>`, x, y, w, h)
		c.text(x+9, y+19, "t", "start", p.Title)
		if p.Type == "stat" {
			c.stat(p, x, y+26, w, h-26)
		} else {
			c.graph(p, x, y+28, w, h-28)
		}
	}
	c.add(`</svg>`)
	return c.String()
}

// stat draws the last value of each series beside the others.
func (c *canvas) stat(p Drawn, x, y, w, h float64) {
	n := float64(max(len(p.Lines), 1))
	for i, l := range p.Lines {
		value := l.Values[len(l.Values)-1]
		left, wide := x+4+float64(i)*(w-4)/n, (w-4)/n-4
		show, fill, name := short(p.FieldConfig.Defaults.Unit, math.Round(value)), "#73bf69", len(p.Lines) > 1
		if value > 0 && len(p.FieldConfig.Defaults.Mappings) == 0 {
			fill = "#f2495c"
		}
		switch {
		case p.Options.TextMode == "name":
			show, fill = l.Name, "#ccccdc"
		case len(p.FieldConfig.Defaults.Mappings) > 0:
			show, fill = "up", "#299c46"
			if value == 0 {
				show, fill = "down", "#d44a3a"
			}
			c.add(`<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2" fill="%s"/>`, left, y, wide, h-4, fill)
			fill, name = "#ffffff", true
		}
		size := min(26, 1.6*wide/float64(max(len(show), 1)))
		middle := y + h/2 + size/3
		if name {
			c.text(left+wide/2, y+18, "l", "middle", l.Name)
			middle += 7
		}
		c.add(`<text x="%.1f" y="%.1f" class="b" style="font-size:%.0fpx;fill:%s" text-anchor="middle">%s</text>`, left+wide/2, middle, size, fill, html.EscapeString(show))
	}
}

// graph draws lines over time, with a legend of one or two rows below.
func (c *canvas) graph(p Drawn, x, y, w, h float64) {
	rows := legend(p.Lines, w-20)
	left, right, top, bottom := x+54, x+w-12, y+4, y+h-24-15*float64(len(rows))
	highest := 0.0
	for _, l := range p.Lines {
		highest = max(highest, slices.Max(l.Values))
	}
	tick := nice(p.FieldConfig.Defaults.Unit, highest)
	high := tick * math.Ceil(highest/tick*1.02)
	if m := p.FieldConfig.Defaults.Max; m != nil {
		high, tick = *m, 0.25**m
		if *m == 1.1 {
			tick = 0.5
		}
	}
	high = max(high, tick)
	at := func(t, v float64) (float64, float64) {
		return left + t/c.length*(right-left), bottom - min(v/high, 1)*(bottom-top)
	}
	for v := 0.0; v <= high*1.001; v += tick {
		_, py := at(0, v)
		c.add(`<path d="M%.1f %.1fH%.1f" stroke="#2c3235"/>`, left, py, right)
		c.text(left-6, py+4, "s", "end", short(p.FieldConfig.Defaults.Unit, v))
	}
	for t := 0.0; t <= c.length; t += 120 {
		px, _ := at(t, 0)
		c.add(`<path d="M%.1f %.1fV%.1f" stroke="#24282c"/>`, px, top, bottom)
		if right-left < 200 && t > 0 && t < c.length { // no space for more than the first and the last
			continue
		}
		anchor := "middle"
		if t == c.length {
			anchor, px = "end", px+8
		}
		c.text(px, bottom+14, "s", anchor, fmt.Sprintf("%d min", int(t/60)))
	}
	for i, l := range p.Lines {
		c.line(l, colours[i%len(colours)], bottom, at)
	}
	for i, row := range rows {
		px, py := x+12.0, bottom+31+15*float64(i)
		for _, n := range row {
			c.add(`<path d="M%.1f %.1fh12" stroke="%s" stroke-width="3"/>`, px, py-4, colours[n%len(colours)])
			c.text(px+17, py, "l", "start", p.Lines[n].Name)
			px += 30 + wide(p.Lines[n].Name)
		}
	}
}

// wide returns the approximate width of a name in the legend.
func wide(name string) float64 { return 6.1 * float64(len(name)) }

// legend distributes the names over at most two rows. If they do not fit, it first omits lines that are
// always zero.
func legend(lines []Line, width float64) [][]int {
	order := make([]int, len(lines))
	for i := range lines {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(slices.Max(lines[b].Values), slices.Max(lines[a].Values))
	})
	rows, used := [][]int{nil}, 0.0
	for _, n := range order {
		need := 30 + wide(lines[n].Name)
		if used > 0 && used+need > width {
			if len(rows) == 2 {
				break
			}
			rows, used = append(rows, nil), 0
		}
		rows[len(rows)-1] = append(rows[len(rows)-1], n)
		used += need
	}
	return rows
}

// line draws a series, with gaps where it has no values.
func (c *canvas) line(l Line, colour string, bottom float64, at func(t, v float64) (float64, float64)) {
	var path, area strings.Builder
	last, open := math.Inf(-1), 0.0
	end := func() {
		if area.Len() > 0 {
			fmt.Fprintf(&area, "V%.0fH%.0fZ", bottom, open)
		}
	}
	for i, t := range l.At {
		if l.Values[i] == unknown {
			continue
		}
		if t-last <= 15 && i+1 < len(l.At) && l.At[i+1]-t <= 15 && l.Values[i-1] == l.Values[i] && l.Values[i+1] == l.Values[i] {
			last = t // on a horizontal line: nothing to draw
			continue
		}
		px, py := at(t, max(l.Values[i], 0))
		if t-last > 15 {
			end()
			fmt.Fprintf(&path, "M%.1f %.1f", px, py)
			fmt.Fprintf(&area, "M%.1f %.1f", px, py)
			open = px
		} else {
			fmt.Fprintf(&path, "L%.0f %.1f", px, py)
			fmt.Fprintf(&area, "L%.0f %.1f", px, py)
		}
		last = t
	}
	end()
	if slices.Max(l.Values) > 0 {
		c.add(`<path d="%s" fill="%s" fill-opacity="0.08"/>`, &area, colour)
	}
	c.add(`<path d="%s" fill="none" stroke="%s" stroke-width="1.4" stroke-linejoin="round"/>`, &path, colour)
}

// nice returns a round distance of ticks: about four of them reach the highest value.
func nice(unit string, highest float64) float64 {
	if highest <= 0 {
		return 0.5
	}
	switch {
	case unit == "s" && highest >= 120:
		return 60 * nice("", highest/60)
	case unit == "bytes" || unit == "Bps":
		return math.Exp2(math.Ceil(math.Log2(highest / 4)))
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/3)))
	for _, n := range []float64{1, 2, 5, 10} {
		if n*power >= highest/4 {
			return n * power
		}
	}
	return highest
}

// short writes a value in a unit, nearly as Grafana does.
func short(unit string, v float64) string {
	number := func(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.4g", v), ".0") }
	switch unit {
	case "s":
		switch {
		case v == 0:
			return "0 s"
		case v < 1:
			return number(v*1000) + " ms"
		case v >= 120:
			return number(v/60) + " min"
		}
		return number(v) + " s"
	case "percentunit":
		return number(v*100) + "%"
	case "bytes", "Bps":
		suffix := map[string]string{"bytes": "B", "Bps": "B/s"}[unit]
		for _, prefix := range []string{"", "Ki", "Mi", "Gi", "Ti"} {
			if v < 1000 || prefix == "Ti" {
				return fmt.Sprintf("%.3g %s%s", v, prefix, suffix)
			}
			v /= 1024
		}
	case "reqps", "ops":
		return number(v) + "/s"
	}
	return number(v)
}
