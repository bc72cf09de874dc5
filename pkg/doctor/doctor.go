// SPDX-License-Identifier: Apache-2.0

// Package doctor diagnoses shares, and this machine as their NFS client, and reports what it
// found, why it matters and what to do.
//
// It runs the checks in the order of their dependencies, and skips those that depend on a failed
// check, so that one cause is one finding. No check can hang: a connection to a server has a
// deadline, and a child process in its own mount namespace does everything that uses NFS. The
// doctor changes nothing on a share except probe files, which it removes (probeFile).
package doctor

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	// maxConcurrentShares bounds the shares that are examined at the same time.
	maxConcurrentShares = 8
	// shareTimeout bounds the examination of one share.
	shareTimeout = 90 * time.Second
)

// Status is the result of a check.
type Status string

// OK: no problem. Warn: the share works, with a restriction. Fail: something is broken.
// Skip: the check did not run.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Finding is the outcome of one check.
type Finding struct {
	Check  string `json:"check"`
	Title  string `json:"title"`
	Server string `json:"server,omitempty"` // if the share has several
	Status Status `json:"status"`
	// Cause names the problem, for programs: see docs/doctor.md.
	Cause  string `json:"cause,omitempty"`
	Detail string `json:"detail"`
	Why    string `json:"why,omitempty"`    // why it matters
	Remedy string `json:"remedy,omitempty"` // what to do
	// Command applies the remedy or is its first step, here or on the server.
	Command  string `json:"command,omitempty"`
	OnServer bool   `json:"onServer,omitempty"`
}

// ShareReport has the findings about one share.
type ShareReport struct {
	Share    string    `json:"share"`
	At       string    `json:"at"` // "server:/path"
	Findings []Finding `json:"findings"`
}

// Report has all findings.
type Report struct {
	Node   []Finding     `json:"node"` // about this machine
	Shares []ShareReport `json:"shares"`
}

// Count returns how many findings have the status.
func (r Report) Count(status Status) (n int) {
	all := [][]Finding{r.Node}
	for _, s := range r.Shares {
		all = append(all, s.Findings)
	}
	for _, f := range slices.Concat(all...) {
		if f.Status == status {
			n++
		}
	}
	return n
}

// Doctor examines shares.
type Doctor struct {
	// SharesDir is the directory in which each share is already mounted under its name. "": the
	// doctor mounts the shares itself.
	SharesDir string
	// Nested returns an error if a share is inside another one or contains one. nil: unknown.
	Nested func(volume.Share) error
	// Progress, if set, is called before each step. Calls for several shares run concurrently.
	Progress func(share, what string)

	children child.Runner
}

// Examine examines the shares, several at the same time, and then this machine.
func (d *Doctor) Examine(ctx context.Context, shares []volume.Share) Report {
	checks := make([]*shareCheck, len(shares))
	slots := make(chan struct{}, maxConcurrentShares)
	var all sync.WaitGroup
	for i, def := range shares {
		checks[i] = &shareCheck{d: d, def: def}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, shareTimeout)
			defer cancel()
			checks[i].examine(ctx)
		})
	}
	all.Wait()
	reportDuplicateIDs(checks)
	report := Report{Node: d.checkNode(ctx, checks), Shares: []ShareReport{}}
	for _, sc := range checks {
		report.Shares = append(report.Shares, ShareReport{
			Share: sc.def.Name, At: sc.def.Source(sc.def.Servers[0], ""), Findings: sc.findings,
		})
	}
	return report
}

func (d *Doctor) progress(share, what string) {
	if d.Progress != nil {
		d.Progress(share, what)
	}
}
