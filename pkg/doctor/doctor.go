// SPDX-License-Identifier: Apache-2.0

// Package doctor finds out what is wrong with shares, and with this machine as their client,
// and says so: what was found, why it matters and what to do.
//
// It asks in the order in which one thing rests on another, and what rests on something that
// failed is skipped, so that one cause is one finding. Each question has an end: what speaks to
// a server over a connection has a deadline, and whatever NFS itself has a part in is done by
// a child process, in a mount namespace of its own. On a share, nothing changes but probe files
// that are removed (probeFile).
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
	// maxConcurrentShares is how many shares are examined at the same time.
	maxConcurrentShares = 8
	// shareTimeout bounds the examination of one share.
	shareTimeout = 90 * time.Second
)

// Status is how a check ended.
type Status string

// OK: as it should be. Warn: it works, and something should be known. Fail: something is
// broken. Skip: it was not tried.
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
	Server string `json:"server,omitempty"` // by which of the share's addresses
	Status Status `json:"status"`
	// Cause names what is wrong, for programs: see docs/doctor.md.
	Cause  string `json:"cause,omitempty"`
	Detail string `json:"detail"`
	Why    string `json:"why,omitempty"`    // it matters
	Remedy string `json:"remedy,omitempty"` // what to do
	// Command does it, or is where to begin: here, or on the server.
	Command  string `json:"command,omitempty"`
	OnServer bool   `json:"onServer,omitempty"`
}

// ShareReport is what was found of a share.
type ShareReport struct {
	Share    string    `json:"share"`
	At       string    `json:"at"` // "server:/path"
	Findings []Finding `json:"findings"`
}

// Report is what was found of all.
type Report struct {
	Node   []Finding     `json:"node"` // of this machine
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
	// SharesDir is where each share is mounted already, under its name. "": nowhere; they are
	// mounted for the examination.
	SharesDir string
	// Nested says whether a share lies inside another one, or holds one. nil: that is not known.
	Nested func(volume.Share) error
	// Progress, if set, is told what is being done. Several shares are examined at a time.
	Progress func(share, what string)

	children child.Runner
}

// Examine examines this machine, and the shares, all at the same time.
func (d *Doctor) Examine(ctx context.Context, shares []volume.Share) Report {
	visits := make([]*shareCheck, len(shares))
	slots := make(chan struct{}, maxConcurrentShares)
	var all sync.WaitGroup
	for i, def := range shares {
		visits[i] = &shareCheck{d: d, def: def}
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, shareTimeout)
			defer cancel()
			visits[i].examine(ctx)
		})
	}
	all.Wait()
	reportDuplicateIDs(visits)
	report := Report{Node: d.checkNode(ctx, visits), Shares: []ShareReport{}}
	for _, v := range visits {
		report.Shares = append(report.Shares, ShareReport{
			Share: v.def.Name, At: v.def.Source(v.def.Servers[0], ""), Findings: v.findings,
		})
	}
	return report
}

func (d *Doctor) progress(share, what string) {
	if d.Progress != nil {
		d.Progress(share, what)
	}
}
