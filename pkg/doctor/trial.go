// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// stepTimeout bounds one step of a trial. After a timeout the trial skips all later steps.
	stepTimeout = 5 * time.Second
	// trialTimeout is the time after which no step begins.
	trialTimeout = 20 * time.Second
	// latencySamples is the number of GETATTRs to measure, and latencyTimeout bounds the measurement.
	latencySamples = 20
	latencyTimeout = 2 * time.Second
	// testUID and testGID are the owner that the probe file gets: numbers that no user has.
	testUID, testGID = 1234, 5678
	// namedID is a user and a group that have a name on every Linux: daemon or bin. The name itself
	// does not matter; servers and clients that exchange names need one.
	namedID = 1
	// unmappedID is the owner that Linux shows if it cannot translate a name (nfsidmap(8)).
	unmappedID = 1<<32 - 2
)

// The steps of a trial, in order.
const (
	stepOpen      = "open"
	stepFormat    = "format"
	stepSpace     = "space"
	stepLatency   = "latency"
	stepWrite     = "write"
	stepOwner     = "owner"
	stepCopies    = "copies"
	stepClone     = "clone" // included in stepCopies
	stepCopy      = "copy"  // included in stepCopies
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

// Facts are the results of a trial of a share.
type Facts struct {
	Done     []string           `json:"done"` // the steps that ended, with or without an error
	Failures map[string]Failure `json:"failures,omitempty"`

	// ID is the id of the share, if it is LaidOut; Expected is the id in the registry.
	ID       string `json:"id,omitempty"`
	LaidOut  bool   `json:"laidOut,omitempty"`
	Expected string `json:"-"`

	Space   volume.Space  `json:"space"`
	Latency time.Duration `json:"latency"`
	Skew    time.Duration `json:"skew"` // of the server's clock
	// Owner is the owner of the probe file, and NewOwner its owner after a chown to testUID and
	// testGID.
	Owner    [2]uint32 `json:"owner"`
	NewOwner [2]uint32 `json:"given"`
	// Squashed: the server maps other users than root to the owner of the probe file, too.
	Squashed bool `json:"squashed,omitempty"`
	// NamedOwner is the owner after a chown to namedID, if the server does not accept numbers.
	NamedOwner [2]uint32 `json:"named"`
	// LockdError is the error of the server's lock service if an NFSv3 lock was not granted in time.
	LockdError string `json:"-"`
	ACL        string `json:"acl,omitempty"` // the name of the attribute
	HoleFound  bool   `json:"hole"`
	Times      Times  `json:"times"`
	// Violations are operations of the server that break Mooring's safety: see probeFile.renames.
	Violations []string `json:"wrong,omitempty"`
	// NoRenames is why renames were not tested: there was no second mount.
	NoRenames string `json:"once,omitempty"`
	Swept     int    `json:"swept,omitempty"` // files of doctors that were killed
	UID       uint32 `json:"self"`            // of the process
}

// Failure is the error of a step.
type Failure struct {
	Errno    unix.Errno `json:"errno,omitempty"`
	Message  string     `json:"message"`
	TimedOut bool       `json:"late,omitempty"` // the step has not ended
}

// succeeded reports whether a step ended without an error.
func (f *Facts) succeeded(step string) bool {
	_, failed := f.Failures[step]
	return slices.Contains(f.Done, step) && !failed
}

// usesNames reports whether client and server exchange the names of owners instead of their numbers.
func (f *Facts) usesNames() bool {
	return f.succeeded(stepOwn) && f.NewOwner != [2]uint32{testUID, testGID} || f.Failures[stepOwn].Errno == unix.EINVAL
}

func (f *Facts) addFailure(step string, err error) {
	if err != nil {
		failure := Failure{Message: err.Error()}
		errors.As(err, &failure.Errno)
		f.Failures[step] = failure
	}
}

// runTrial tests the share that is mounted at path. After a step that does not end in time the process
// must exit, because a thread of it waits for the server.
func runTrial(path string, o extraMounts, now func() time.Time) *Facts {
	r := &trial{until: time.Now().Add(trialTimeout), facts: &Facts{Failures: map[string]Failure{}, UID: uint32(unix.Geteuid())}}
	var t *probeFile
	r.step(stepOpen, func(*Facts) (err error) {
		t, err = openProbeFile(path)
		return err
	})
	if !r.facts.succeeded(stepOpen) {
		return r.facts
	}
	r.step(stepFormat, func(f *Facts) (err error) { f.ID, f.LaidOut, err = t.readFormat(); return err })
	r.step(stepSpace, func(f *Facts) (err error) { f.Space, err = t.space(); return err })
	r.step(stepLatency, func(f *Facts) (err error) { f.Latency, err = t.latency(latencySamples, latencyTimeout); return err })
	r.step(stepWrite, func(f *Facts) (err error) { f.Skew, err = t.write(now); return err })
	if r.facts.succeeded(stepWrite) {
		r.runFileSteps(t, o)
	}
	r.timedOut, r.until = false, time.Now().Add(trialTimeout) // clean up in any case
	r.step(stepClose, func(*Facts) error { return t.close() })
	return r.facts
}

// runFileSteps runs the steps that need the probe file.
func (r *trial) runFileSteps(t *probeFile, o extraMounts) {
	r.step(stepOwner, func(f *Facts) (err error) { f.Owner[0], f.Owner[1], err = t.owner(); return err })
	r.step(stepCopies, func(f *Facts) error {
		source, target, err := t.openCopy()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		defer cancel()
		clone, copied := copytree.TryMethods(ctx, source, target)
		f.addFailure(stepClone, clone)
		f.addFailure(stepCopy, copied)
		return nil
	})
	r.step(stepAttribute, func(*Facts) error { return t.xattr() })
	r.step(stepACL, func(f *Facts) (err error) { f.ACL, err = t.acl(); return err })
	r.step(stepLink, func(*Facts) error { return t.link() })
	r.step(stepHole, func(f *Facts) (err error) { f.HoleFound, err = t.hole(); return err })
	if r.facts.succeeded(stepOwner) && r.facts.UID == 0 && r.facts.Owner[0] != 0 {
		r.step(stepSquash, func(f *Facts) (err error) { f.Squashed, err = t.readableBy(testUID, testGID); return err })
	}
	r.step(stepTimes, func(f *Facts) (err error) { f.Times, err = t.times(o.client); return err })
	r.step(stepOwn, func(f *Facts) (err error) {
		if err := t.chown(testUID, testGID); err != nil {
			return err
		}
		f.NewOwner[0], f.NewOwner[1], err = t.owner()
		return err
	})
	if r.facts.usesNames() {
		r.step(stepNamed, func(f *Facts) (err error) {
			if err := t.chown(namedID, namedID); err != nil {
				return err
			}
			f.NamedOwner[0], f.NamedOwner[1], err = t.owner()
			return err
		})
	}
	r.facts.NoRenames = o.noRoot
	if o.root != beneath.None {
		links := r.facts.succeeded(stepLink)
		r.step(stepRenames, func(f *Facts) (err error) { f.Violations, err = t.renames(o.root, links); return err })
	}
	r.step(stepSweep, func(f *Facts) (err error) { f.Swept, err = t.sweep(); return err })
	// Last, because it waits in the grace period after a server's restart, and a timeout skips all later steps.
	r.step(stepLock, func(*Facts) error { return t.lock() })
}

// trial is a running trial.
type trial struct {
	facts    *Facts
	until    time.Time // no step begins after it
	timedOut bool      // a step has not ended
}

// step runs one step on a copy of the facts, so that a step that ends too late changes nothing.
func (r *trial) step(name string, do func(*Facts) error) {
	if r.timedOut || time.Now().After(r.until) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
	defer cancel()
	own := *r.facts
	own.Failures = map[string]Failure{}
	_, err := bounded.Call(ctx, func(context.Context) (struct{}, error) {
		return struct{}{}, do(&own)
	}, nil)
	if _, late := errors.AsType[bounded.Abandoned](err); late {
		r.timedOut = true
		r.facts.Failures[name] = Failure{Message: "no answer within " + stepTimeout.String(), TimedOut: true}
		return
	}
	maps.Copy(r.facts.Failures, own.Failures)
	own.Failures = r.facts.Failures
	own.Done = append(own.Done, name)
	*r.facts = own
	r.facts.addFailure(name, err)
}
