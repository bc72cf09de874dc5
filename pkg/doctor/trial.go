// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// stepPatience bounds one step of a trial. Past it none is tried that comes after.
	stepPatience = 5 * time.Second
	// trialPatience is how long steps are begun for.
	trialPatience = 20 * time.Second
	// samples is how many GETATTRs are measured, and sampling for how long, where they take longer.
	samples  = 20
	sampling = 2 * time.Second
	// strangeUID and strangeGID are who the probe file is given to: nobody's own.
	strangeUID, strangeGID = 1234, 5678
	// namedID is a user, and a group, that has a name on every Linux: daemon or bin. Which makes no
	// difference: server and client that go by names have to have one.
	namedID = 1
	// unmappedID is what Linux shows where it cannot ask who a name is (nfsidmap(8)).
	unmappedID = 1<<32 - 2
)

// The steps of a trial, in their order.
const (
	stepOpen      = "open"
	stepFormat    = "format"
	stepSpace     = "space"
	stepLatency   = "latency"
	stepWrite     = "write"
	stepOwner     = "owner"
	stepCopies    = "copies"
	stepClone     = "clone" // one of two answers of stepCopies
	stepCopy      = "copy"  // the other
	stepAttribute = "attribute"
	stepACL       = "acl"
	stepLink      = "link"
	stepRenames   = "renames"
	stepHole      = "hole"
	stepTimes     = "times"
	stepSquash    = "squash"
	stepOwn       = "own"
	stepNamed     = "named"
	stepSweep     = "sweep"
	stepLock      = "lock"
	stepClose     = "close"
)

// Facts are what a trial of a share found.
type Facts struct {
	Done     []string           `json:"done"` // the steps that ended, well or not
	Failures map[string]Failure `json:"failures,omitempty"`

	// ID is that of the share, if it is LaidOut; Expected is what the registry says.
	ID       string `json:"id,omitempty"`
	LaidOut  bool   `json:"laidOut,omitempty"`
	Expected string `json:"-"`

	Space   volume.Space  `json:"space"`
	Latency time.Duration `json:"latency"`
	Skew    time.Duration `json:"skew"` // of the server's clock
	// Owner is who the probe file belongs to, and Given who it belongs to after it was given
	// to strangeUID and strangeGID.
	Owner [2]uint32 `json:"owner"`
	Given [2]uint32 `json:"given"`
	// Squashed: another user than root has the probe file, too, which belongs to neither.
	Squashed bool `json:"squashed,omitempty"`
	// Named is who it belongs to after it was given to namedID, which is tried where numbers are not taken.
	Named [2]uint32 `json:"named"`
	// NoLockd is how the server's lock service did not answer, where NFSv3 has a lock wait. "": it answers.
	NoLockd string `json:"-"`
	ACL     string `json:"acl,omitempty"` // the name by which it is to be had
	Hole    bool   `json:"hole"`
	Times   Times  `json:"times"`
	// Wrong is what the server does otherwise than Mooring's safety needs it: see probeFile.renames.
	Wrong []string `json:"wrong,omitempty"`
	// Once is why the share was mounted only once, so that renames could not be tried.
	Once  string `json:"once,omitempty"`
	Swept int    `json:"swept,omitempty"` // files of doctors that were killed
	Self  uint32 `json:"self"`            // who the trial was made as
}

// Failure is how a step failed.
type Failure struct {
	Errno   unix.Errno `json:"errno,omitempty"`
	Message string     `json:"message"`
	Late    bool       `json:"late,omitempty"` // it has not ended
}

// did reports whether a step ended well.
func (f *Facts) did(step string) bool {
	_, failed := f.Failures[step]
	return slices.Contains(f.Done, step) && !failed
}

// names reports whether client and server do not go by the numbers of owners, but by their names.
func (f *Facts) names() bool {
	return f.did(stepOwn) && f.Given != [2]uint32{strangeUID, strangeGID} || f.Failures[stepOwn].Errno == unix.EINVAL
}

func (f *Facts) failed(step string, err error) {
	if err == nil {
		return
	}
	failure := Failure{Message: err.Error()}
	errors.As(err, &failure.Errno)
	f.Failures[step] = failure
}

// tried tries out what the share mounted at path can do. Each step ends in time, or the process has to: it
// holds a thread that waits for the server.
func tried(path string, o others, now func() time.Time) *Facts {
	r := &run{until: time.Now().Add(trialPatience), facts: &Facts{Failures: map[string]Failure{}, Self: uint32(unix.Geteuid())}}
	var t *probeFile
	r.step(stepOpen, func(*Facts) (err error) {
		t, err = openProbeFile(path)
		return err
	})
	if !r.facts.did(stepOpen) {
		return r.facts
	}
	r.step(stepFormat, func(f *Facts) (err error) { f.ID, f.LaidOut, err = t.format(); return err })
	r.step(stepSpace, func(f *Facts) (err error) { f.Space, err = t.space(); return err })
	r.step(stepLatency, func(f *Facts) (err error) { f.Latency, err = t.latency(samples, sampling); return err })
	r.step(stepWrite, func(f *Facts) (err error) { f.Skew, err = t.write(now); return err })
	if r.facts.did(stepWrite) {
		r.onFile(t, o)
	}
	r.late, r.until = false, time.Now().Add(trialPatience) // what can be removed is
	r.step(stepClose, func(*Facts) error { return t.close() })
	return r.facts
}

// onFile tries what takes the probe file.
func (r *run) onFile(t *probeFile, o others) {
	r.step(stepOwner, func(f *Facts) (err error) { f.Owner[0], f.Owner[1], err = t.owner(); return err })
	r.step(stepCopies, func(f *Facts) error {
		source, target, err := t.copies()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), stepPatience)
		defer cancel()
		clone, copied := copytree.TryMethods(ctx, source, target)
		f.failed(stepClone, clone)
		f.failed(stepCopy, copied)
		return nil
	})
	r.step(stepAttribute, func(*Facts) error { return t.attribute() })
	r.step(stepACL, func(f *Facts) (err error) { f.ACL, err = t.acl(); return err })
	r.step(stepLink, func(*Facts) error { return t.link() })
	r.step(stepHole, func(f *Facts) (err error) { f.Hole, err = t.hole(); return err })
	if r.facts.did(stepOwner) && r.facts.Self == 0 && r.facts.Owner[0] != 0 {
		r.step(stepSquash, func(f *Facts) (err error) { f.Squashed, err = t.readableBy(strangeUID, strangeGID); return err })
	}
	r.step(stepTimes, func(f *Facts) (err error) { f.Times, err = t.times(o.client); return err })
	r.step(stepOwn, func(f *Facts) error {
		err := t.own(strangeUID, strangeGID)
		if err == nil {
			f.Given[0], f.Given[1], err = t.owner()
		}
		return err
	})
	if r.facts.names() {
		r.step(stepNamed, func(f *Facts) error {
			err := t.own(namedID, namedID)
			if err == nil {
				f.Named[0], f.Named[1], err = t.owner()
			}
			return err
		})
	}
	r.facts.Once = o.once
	if o.mount != beneath.None {
		links := r.facts.did(stepLink)
		r.step(stepRenames, func(f *Facts) (err error) { f.Wrong, err = t.renames(o.mount, links); return err })
	}
	r.step(stepSweep, func(f *Facts) (err error) { f.Swept, err = t.sweep(); return err })
	// Last: in the grace period after a restart it waits, and nothing is tried that comes after.
	r.step(stepLock, func(*Facts) error { return t.lock() })
}

// run is a trial under way.
type run struct {
	facts *Facts
	until time.Time // no step begins later
	late  bool      // a step has not ended
}

// step does one step, on facts of its own: one that comes too late has nothing to write to.
func (r *run) step(name string, do func(*Facts) error) {
	if r.late || time.Now().After(r.until) {
		return
	}
	own := *r.facts
	own.Failures = map[string]Failure{}
	done := make(chan error, 1)
	go func() { done <- do(&own) }()
	select {
	case err := <-done:
		failures := r.facts.Failures
		for step, failure := range own.Failures {
			failures[step] = failure
		}
		own.Failures = failures
		own.Done = append(own.Done, name)
		*r.facts = own
		r.facts.failed(name, err)
	case <-time.After(stepPatience):
		r.late = true
		r.facts.Failures[name] = Failure{Message: "no answer within " + stepPatience.String(), Late: true}
	}
}
