// SPDX-License-Identifier: Apache-2.0

// Faults measures the effects of a server's faults on its users, and on those of another server. "make
// faults" runs it in the lab, with the real program as the node of two real NFS servers. One of them has
// one accident after the other. It prints a table for docs/reliability.md, and exits with 1 if an answer
// takes longer than the project promises, if the accident affects the healthy server's users, or if
// something is left behind.
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
	// secondServer is the server with the accidents, and secondExport its export.
	secondServer, secondExport = "10.77.0.2", "/second"
	// healthyExport is the export of the other server.
	healthyExport = lab.Exports + "/faults"
)

func main() {
	out := flag.String("o", "build/faults.md", "file for the table")
	only := flag.String("only", "", "only accidents whose name matches this regular expression")
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

// all causes one accident after the other, and then the long one.
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

// path returns a path in kubelet's directory.
func (n *node) path(elements ...string) string {
	return filepath.Join(append([]string{n.dir, "kubelet"}, elements...)...)
}
