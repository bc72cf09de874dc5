// SPDX-License-Identifier: Apache-2.0

// Faults shows what a server's faults cost: those who use it, and those who use another. "make
// faults" runs it in the lab, with the real program as the node of two real NFS servers, of
// which one has an accident after the other. It prints a table for docs/reliability.md, and
// ends with 1 where an answer is later than the project promises, where the healthy server's
// users feel the other's accident, or where something is left behind.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/mooring-csi/mooring/test/lab"
)

const (
	// secondServer is the one that has accidents, and secondExport what it serves.
	secondServer, secondExport = "10.77.0.2", "/second"
	// healthyExport is what the other serves.
	healthyExport = lab.Exports + "/faults"
)

func main() {
	out := flag.String("o", "build/faults.md", "where to keep the table")
	only := flag.String("only", "", "have only those accidents whose name matches this regular expression")
	flag.Parse()
	if err := run(*out, regexp.MustCompile(*only)); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(out string, only *regexp.Regexp) error {
	if os.Getenv("MOORING_LAB") == "" {
		return fmt.Errorf("this is not the lab: run \"make faults\"")
	}
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, what := range []string{"", "disk xfs", "disk ext4"} {
		if err := second(what); err != nil {
			return err
		}
	}
	if err := makeFreezable(); err != nil {
		return err
	}
	n := &node{dir: dir}
	if err := n.start(); err != nil {
		return err
	}
	report := &report{}
	err = n.all(report, only)
	if stopErr := n.Stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		log := n.Log()
		return fmt.Errorf("%w; the end of the node's log:\n%s", err, log[max(0, len(log)-4000):])
	}
	text := report.markdown()
	fmt.Print(text)
	if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
		return err
	}
	return report.judge()
}

// all has one accident after the other, and then the long one.
func (n *node) all(r *report, only *regexp.Regexp) error {
	for i, a := range accidents() {
		if !only.MatchString(a.name) && i > 0 {
			continue
		}
		fmt.Fprintln(os.Stderr, "faults:", a.name)
		row, err := n.accident(a)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		r.rows = append(r.rows, row)
	}
	if !only.MatchString("soak") {
		return nil
	}
	fmt.Fprintln(os.Stderr, "faults: soak")
	var err error
	r.soak, err = n.soak()
	return err
}

// path is a local one, of the orchestrator's.
func (n *node) path(elements ...string) string {
	return filepath.Join(append([]string{n.dir, "kubelet"}, elements...)...)
}
