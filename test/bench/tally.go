// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// tally is the cost of a batch of calls.
type tally struct {
	took  []time.Duration
	spent sample
	after sample // round trips after the answers, if they count separately
}

// add adds another batch.
func (t *tally) add(more tally) {
	t.took = append(t.took, more.took...)
	t.spent.add(more.spent)
	t.after.add(more.after)
}

// count runs a batch between two readings of all counters. Nothing else may use the server meanwhile.
func (b *bench) count(s spec, do func(int) error) (t tally, err error) {
	before, err := s.on.atRest()
	if err != nil {
		return t, err
	}
	if _, err := b.table.changed(); err != nil {
		return t, err
	}
	if s.each {
		err = t.countEach(s, before, do)
	} else {
		err = t.countAll(s, before, do)
	}
	if err != nil {
		return t, err
	}
	changed, err := b.table.changed()
	switch {
	case err != nil:
		return t, err
	case s.on.role == "controller" && changed && t.spent.mounts == 0:
		return t, errors.New("the mount table has changed, and the controller counts no mount")
	case t.spent.processes == 0 && t.spent.faults != 0:
		return t, errors.New("the driver has waited for processes that it does not count")
	}
	return t, nil
}

func (t *tally) countAll(s spec, before sample, do func(int) error) (err error) {
	if t.took, err = repeat(s.n, s.parallel, do); err != nil {
		return err
	}
	after, err := s.on.atRest()
	t.spent = after.since(before)
	return err
}

// countEach reads the counters at each answer, and again when everything has come to rest. Work after the
// answer may have begun or ended at the first reading, but the round trips of the call itself are always
// the same: the call with the fewest has the number of each, and all others came after the answers.
func (t *tally) countEach(s spec, before sample, do func(int) error) error {
	var fewest lab.Counts
	for i := range s.n {
		start := time.Now()
		if err := do(i); err != nil {
			return err
		}
		t.took = append(t.took, time.Since(start))
		answered, err := s.on.trips()
		if err != nil {
			return err
		}
		rested, err := s.on.atRest()
		if err != nil {
			return err
		}
		t.spent.add(rested.since(before))
		if asked := answered.Since(before.trips); i == 0 || asked.Total() < fewest.Total() {
			fewest = asked
		}
		before = rested
	}
	own := lab.Counts{ByKind: map[string]int64{}, Bytes: fewest.Bytes * int64(s.n)}
	for kind, n := range fewest.ByKind {
		own.ByKind[kind] = n * int64(s.n)
	}
	t.after.trips = t.spent.trips.Since(own)
	t.spent.trips = own
	return nil
}

// repeat calls do n times, some in parallel, and returns the time of each call.
func repeat(n, parallel int, do func(i int) error) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error {
			start := time.Now()
			err := do(i)
			took[i] = time.Since(start)
			return err
		})
	}
	return took, group.Wait()
}

// table watches the mount table, so that it also notices short mounts.
type table struct{ f *os.File }

func watchTable() (table, error) {
	f, err := os.Open("/proc/self/mountinfo")
	return table{f}, err
}

// changed reports whether the table has changed since the last call (proc_pid_mounts(5)).
func (t table) changed() (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(t.f.Fd()), Events: unix.POLLPRI}}
		_, err := unix.Poll(fds, 0)
		if !errors.Is(err, unix.EINTR) {
			return fds[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0, err
		}
	}
}
