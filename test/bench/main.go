// SPDX-License-Identifier: Apache-2.0

// Bench measures the cost of each operation: NFS round trips by kind, file data through the client,
// mounts, processes and seconds, without and with a network's delay. "make bench" runs it in the lab, with
// the real program and a real NFS server. It prints a table, keeps it as build/bench.json, and exits with 1
// if a limit that the project promises is broken.
//
// The server grants no delegations, except with -delegations. They save a client opens, closes and
// requests for attributes, but the server chooses which opens get one, and each return is a round trip
// minutes later, which would count for another operation. Without them figures are the same in every run,
// and equal to those of the many servers that grant none.
//
// Seconds are the time of a CSI call for its caller in the lab, on one CPU: compare them only with each
// other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	b := &bench{}
	out := flag.String("o", "build/bench.json", "where to keep the rows")
	flag.Func("only", "measure only rows of which \"operation/case/protocol/disk\" matches this regular expression", func(text string) (err error) {
		b.only, err = regexp.Compile(text)
		return err
	})
	flag.BoolVar(&b.delegations, "delegations", false, "let the server grant delegations")
	flag.BoolVar(&b.quick, "quick", false, "measure with a few repetitions only")
	flag.Parse()
	err := b.run()
	if len(b.rows) > 0 {
		b.print(os.Stdout)
		b.explain(os.Stdout)
		err = errors.Join(err, b.save(*out))
	}
	if err == nil {
		err = b.limits(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// networkDelay is the delayed network's round trip, in milliseconds.
const networkDelay = 0.5

// bench is one run.
type bench struct {
	only               *regexp.Regexp // nil for all
	quick, delegations bool
	dir                string // with the state of the processes
	table              table
	rows               []row
	named              atomic.Int64 // volumes so far
}

func (b *bench) run() (err error) {
	if os.Getenv("MOORING_LAB") == "" {
		return fmt.Errorf("this is not the lab: run \"make bench\"")
	}
	if b.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if !b.delegations {
		restore, err := withoutLeases()
		if err != nil {
			return err
		}
		defer restore()
	}
	if b.table, err = watchTable(); err != nil {
		return err
	}
	defer b.table.f.Close()
	for _, protocol := range []string{"4.2", "4.1", "4.0", "3"} {
		if err := b.protocol(protocol); err != nil {
			return fmt.Errorf("NFSv%s: %w", protocol, err)
		}
	}
	return nil
}

// protocol measures the rows of one version of NFS: most with 4.2, few with the others. One process runs
// at a time.
func (b *bench) protocol(protocol string) error {
	n := newNode(b, protocol)
	err := b.withController(place{share: "nas", protocol: protocol, disk: "xfs", retention: "1h"}, func(c *controller) error {
		n.config, n.export = c.config, c.export
		err := b.measure(rows{c}.creates()...)
		if err == nil {
			err = b.measure(rows{c}.deletes()...)
		}
		if err == nil {
			err = b.measure(rows{c}.others()...)
		}
		if err == nil {
			count := 2 * nodeVolumes
			if protocol == "4.2" {
				count = loadVolumes
			}
			n.volumes, err = c.volumes(count, nil)
		}
		return err
	})
	if err == nil {
		err = n.measure()
	}
	if err == nil {
		err = b.copies(protocol)
	}
	if err != nil || protocol != "4.2" {
		return err
	}
	err = b.withController(place{share: "purged", protocol: protocol, disk: "xfs", retention: "0s"}, func(c *controller) error { return b.measure(rows{c}.purge()) })
	if err == nil {
		err = b.withController(place{share: "listed", protocol: protocol, disk: "xfs", retention: "0s"}, func(c *controller) error { return rows{c}.measureLists() })
	}
	return err
}

// spec is the measurement of a row, or of one row without and one with delay.
type spec struct {
	operation, variant, protocol string
	disk                         string // the server's file system
	delays                       []float64
	parallel, n                  int
	files                        int // in the copied tree, if any
	on                           *process
	// prepare does what is not measured. It returns the measured function, to be called with 0 to n-1,
	// and a cleanup or nil.
	prepare func(n int) (do func(i int) error, clean func() error, err error)
	// each: round trips after the answer of a call do not count for it. rest, if set, is the operation of
	// their own row.
	each bool
	rest string
	// load: show the resources of the process too.
	load bool
	// apart: each call has a preparation and a cleanup of its own.
	apart bool
}

func (s spec) String() string {
	return s.operation + "/" + s.variant + "/" + s.protocol + "/" + s.disk
}

// wanted reports whether a row is selected.
func (b *bench) wanted(s spec) bool { return b.only == nil || b.only.MatchString(s.String()) }

// measure adds the rows of the selected specs.
func (b *bench) measure(specs ...spec) error {
	for _, s := range specs {
		if !b.wanted(s) {
			continue
		}
		if b.quick {
			s.n = min(s.n, 2*s.parallel)
		}
		for _, delay := range s.delays {
			if err := b.measureOne(s, delay); err != nil {
				return fmt.Errorf("%s, %g ms: %w", s, delay, err)
			}
		}
	}
	return nil
}

func (b *bench) measureOne(s spec, delay float64) error {
	rounds := 1
	if s.apart {
		rounds, s.n = s.n, 1
	}
	var t tally
	for range rounds {
		one, err := b.measureRound(s, delay)
		if err != nil {
			return err
		}
		t.add(one)
	}
	r := newRow(s, delay, t.took, t.spent)
	if s.load {
		w, err := weigh(s.on.PID())
		if err != nil {
			return err
		}
		r.Threads, r.MemoryMB = w.threads, float64(w.kilobytes)/1000
	}
	b.rows = append(b.rows, r)
	if s.rest != "" {
		s.operation = s.rest
		b.rows = append(b.rows, newRow(s, delay, make([]time.Duration, len(t.took)), t.after))
	}
	return nil
}

// measureRound prepares calls, counts them and cleans up.
func (b *bench) measureRound(s spec, delay float64) (t tally, err error) {
	do, clean, err := s.prepare(s.n)
	if err != nil {
		return t, fmt.Errorf("prepare: %w", err)
	}
	if delay > 0 {
		err = setDelay(delay)
	}
	if err == nil {
		t, err = b.count(s, do)
	}
	if delay > 0 {
		err = errors.Join(err, unsetDelay())
	}
	if clean != nil {
		if cleaned := clean(); cleaned != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", cleaned))
		}
	}
	return t, err
}

// setDelay delays every round trip by this number of milliseconds.
func setDelay(ms float64) error {
	return tc("add", "netem", "delay", fmt.Sprintf("%gms", ms/2))
}

func unsetDelay() error { return tc("del") }

func tc(verb string, args ...string) error {
	args = append([]string{"qdisc", verb, "dev", "lo", "root"}, args...)
	if out, err := exec.Command("tc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("tc %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// withoutLeases prevents delegations, which the server holds as leases (fcntl(2), F_SETLEASE), until
// restore is called.
func withoutLeases() (restore func(), err error) {
	const enable = "/proc/sys/fs/leases-enable"
	before, err := os.ReadFile(enable)
	if err == nil {
		err = os.WriteFile(enable, []byte("0"), 0)
	}
	return func() { _ = os.WriteFile(enable, before, 0) }, err
}

// call returns the context of one CSI call.
func call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}

// path returns a path in the bench's own directory.
func (b *bench) path(names ...string) string {
	return filepath.Join(append([]string{b.dir}, names...)...)
}
