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
	// stepTimeout bounds one step of a trial. Past it none is tried that comes after.
	stepTimeout = 5 * time.Second
	// trialTimeout is how long steps are begun for.
	trialTimeout = 20 * time.Second
	// latencySamples is how many GETATTRs are measured, and sampling for how long, where they take longer.
	latencySamples = 20
	latencyTimeout = 2 * time.Second
	// testUID and strangeGID are who the probe file is given to: nobody's own.
	testUID, testGID = 1234, 5678
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
	// to testUID and testGID.
	Owner    [2]uint32 `json:"owner"`
	NewOwner [2]uint32 `json:"given"`
	// Squashed: another user than root has the probe file, too, which belongs to neither.
	Squashed bool `json:"squashed,omitempty"`
	// NamedOwner is who it belongs to after it was given to namedID, which is tried where numbers are not taken.
	NamedOwner [2]uint32 `json:"named"`
	// LockdError is how the server's lock service did not answer, where NFSv3 has a lock wait. "": it answers.
	LockdError string `json:"-"`
	ACL        string `json:"acl,omitempty"` // the name by which it is to be had
	HoleFound  bool   `json:"hole"`
	Times      Times  `json:"times"`
	// Violations is what the server does otherwise than Mooring's safety needs it: see probeFile.renames.
	Violations []string `json:"wrong,omitempty"`
	// NoRenames is why the share was mounted only once, so that renames could not be tried.
	NoRenames string `json:"once,omitempty"`
	Swept     int    `json:"swept,omitempty"` // files of doctors that were killed
	UID       uint32 `json:"self"`            // who the trial was made as
}

// Failure is how a step failed.
type Failure struct {
	Errno    unix.Errno `json:"errno,omitempty"`
	Message  string     `json:"message"`
	TimedOut bool       `json:"late,omitempty"` // it has not ended
}

// succeeded reports whether a step ended well.
func (f *Facts) succeeded(step string) bool {
	_, failed := f.Failures[step]
	return slices.Contains(f.Done, step) && !failed
}

// usesNames reports whether client and server do not go by the numbers of owners, but by their names.
func (f *Facts) usesNames() bool {
	return f.succeeded(stepOwn) && f.NewOwner != [2]uint32{testUID, testGID} || f.Failures[stepOwn].Errno == unix.EINVAL
}

func (f *Facts) addFailure(step string, err error) {
	if err == nil {
		return
	}
	failure := Failure{Message: err.Error()}
	errors.As(err, &failure.Errno)
	f.Failures[step] = failure
}

// runTrial tries out what the share mounted at path can do. Each step ends in time, or the process has to: it
// holds a thread that waits for the server.
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
	r.timedOut, r.until = false, time.Now().Add(trialTimeout) // what can be removed is
	r.step(stepClose, func(*Facts) error { return t.close() })
	return r.facts
}

// runFileSteps tries what takes the probe file.
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
	r.step(stepOwn, func(f *Facts) error {
		err := t.chown(testUID, testGID)
		if err == nil {
			f.NewOwner[0], f.NewOwner[1], err = t.owner()
		}
		return err
	})
	if r.facts.usesNames() {
		r.step(stepNamed, func(f *Facts) error {
			err := t.chown(namedID, namedID)
			if err == nil {
				f.NamedOwner[0], f.NamedOwner[1], err = t.owner()
			}
			return err
		})
	}
	r.facts.NoRenames = o.noRoot
	if o.root != beneath.None {
		links := r.facts.succeeded(stepLink)
		r.step(stepRenames, func(f *Facts) (err error) { f.Violations, err = t.renames(o.root, links); return err })
	}
	r.step(stepSweep, func(f *Facts) (err error) { f.Swept, err = t.sweep(); return err })
	// Last: in the grace period after a restart it waits, and nothing is tried that comes after.
	r.step(stepLock, func(*Facts) error { return t.lock() })
}

// trial is a trial under way.
type trial struct {
	facts    *Facts
	until    time.Time // no step begins later
	timedOut bool      // a step has not ended
}

// step does one step, on facts of its own: one that comes too late has nothing to write to.
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
