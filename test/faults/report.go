// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// noise is an allowed delay of every call on the healthy server: on one CPU the work of the accident
// itself delays others.
const noise = 100 * time.Millisecond

type report struct {
	rows []row
	soak *soak
}

func seconds(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// markdown returns the table: results for the server with the accident, and under them those for the
// other one at the same time.
func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("| The server |")
	rule := "|---|"
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.name)
		rule += "---|"
	}
	fmt.Fprintf(&b, " usable again after |\n%s---|\n", rule)
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s |", row.name)
		for _, c := range row.cells {
			answer := seconds(c.took) + " " + c.said
			if c.again > 0 {
				answer += ", OK after " + seconds(c.again)
			}
			fmt.Fprintf(&b, " **%s**<br>%s |", answer, seconds(c.healthy))
		}
		fmt.Fprintf(&b, " %s |\n", seconds(row.back))
	}
	if r.soak != nil {
		b.WriteString("\n" + r.soak.markdown())
	}
	return b.String()
}

// judge returns the violations of the project's promises.
func (r *report) judge() error {
	var wrong []error
	for _, row := range r.rows {
		for i, c := range row.cells {
			what := "the server " + row.name + ": " + columns[i].name
			if c.took > columns[i].within {
				wrong = append(wrong, fmt.Errorf("%s took %v, and %v are allowed", what, c.took, columns[i].within))
			}
			if usual := r.rows[0].cells[i].healthy; c.healthy > 3*usual+noise {
				wrong = append(wrong, fmt.Errorf("%s of the healthy server took %v, usually %v", what, c.healthy, usual))
			}
			if c.wrong != "" {
				wrong = append(wrong, fmt.Errorf("%s of the healthy server: %s", what, c.wrong))
			}
			if leaves := strings.HasPrefix(columns[i].name, "NodeUn"); leaves && c.said != "OK" {
				wrong = append(wrong, fmt.Errorf("%s says %s, and it must be possible to remove a pod", what, c.said))
			}
		}
	}
	if r.soak != nil {
		wrong = append(wrong, r.soak.judge())
	}
	return errors.Join(wrong...)
}
