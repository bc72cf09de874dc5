// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

const (
	// watchInterval is how often each share is checked.
	watchInterval = 15 * time.Second
	// watchTimeout bounds the query of a share's space. After it the share counts as down, though one
	// goroutine still waits for the answer.
	watchTimeout = 10 * time.Second
	// heartbeatInterval is how often a share's heartbeat is written. After a failure it is written at
	// each check.
	heartbeatInterval = time.Minute
)

// ShareStatus is the result of the last check of a share.
type ShareStatus struct {
	Share   string
	Up      bool
	Latency time.Duration // of the query of its space
	Space   volume.Space  // of a share that is up
	Err     error         // why it is down
	// Fault is why nothing can be written to the share. No Reason: none is known.
	Fault     volume.Condition
	LastWrite time.Time // of the last write, or attempt; zero: none yet
}

// Faults reports for each reason of a fault whether it is the current one. It returns nil if that is
// not known.
func (s ShareStatus) Faults() map[string]bool {
	if s.LastWrite.IsZero() || !s.Up && s.Fault.Reason == "" {
		return nil
	}
	all := map[string]bool{}
	for _, reason := range []volume.Reason{volume.DiskFailing, volume.ReadOnlyServer, volume.ShareFull, volume.AccessDenied, volume.SlowResponses} {
		all[string(reason)] = reason == s.Fault.Reason
	}
	return all
}

// Watcher knows the state and the space of each share, so that its callers do not query the server.
// It queries each share every 15 seconds, and once a minute writes the share's heartbeat file
// (share.Share.Heartbeat), after a failure at each query. A share that hangs blocks one goroutine,
// and no other share.
type Watcher struct {
	pool      *pool.Pool
	queryFunc func(ctx context.Context, before ShareStatus) ShareStatus
	heartbeat func(s *share.Share, ctx context.Context) error

	mu       sync.Mutex
	statuses map[string]ShareStatus
	busy     map[string]bool // shares that are being checked
	// writing are the shares that are being written to. They are checked all the same.
	writing map[string]bool
}

// NewWatcher returns a Watcher of the pool's shares.
func NewWatcher(shares *pool.Pool) *Watcher {
	w := &Watcher{pool: shares, statuses: map[string]ShareStatus{}, busy: map[string]bool{}, writing: map[string]bool{}, heartbeat: (*share.Share).Heartbeat}
	w.queryFunc = w.query
	return w
}

// Status returns the result of the last check of each share that has been checked.
func (w *Watcher) Status() []ShareStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []ShareStatus
	for _, s := range w.statuses {
		all = append(all, s)
	}
	return all
}

// Fault returns why nothing can be written to a share. No Reason: none is known.
func (w *Watcher) Fault(name string) volume.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.statuses[w.pool.Name(name)].Fault
}

// Run checks the shares until ctx ends: those that are registered, and the mounted exports that are
// not.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var checks sync.WaitGroup
	defer checks.Wait()
	for {
		for _, name := range w.due() {
			checks.Go(func() { w.check(ctx, name) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// due returns the shares to be checked, marks them as busy, and removes those that are gone.
func (w *Watcher) due() []string {
	names := w.pool.Known()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.statuses {
		// An export that is not mounted at the moment stays: it may be down.
		if !w.pool.Registry().Has(name) {
			delete(w.statuses, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return w.busy[name] })
	for _, name := range names {
		w.busy[name] = true
	}
	return names
}

// check checks a share, and returns soon after watchTimeout at the latest. What it began may still be
// under way then: the share is not checked again before that has ended.
func (w *Watcher) check(ctx context.Context, name string) {
	before := w.lastStatus(name)
	within, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	seen, err := bounded.Call(within, func(within context.Context) (ShareStatus, error) {
		defer w.unmark(w.busy, name)
		seen := w.queryFunc(within, before)
		if seen.Up { // a slow write does not make it down
			go w.write(ctx, seen)
		}
		return seen, nil
	}, nil)
	if err != nil {
		if _, late := errors.AsType[bounded.Abandoned](err); late {
			err = volume.Errorf(volume.ErrUnavailable, "share %s: no answer within %v", name, watchTimeout)
		}
		seen = before.asDown(err)
	}
	w.record(ctx, seen)
}

// lastStatus returns the result of the last check of a share.
func (w *Watcher) lastStatus(name string) ShareStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.statuses[name]
	seen.Share = name
	return seen
}

// unmark lets a share be checked, or written to, again.
func (w *Watcher) unmark(busy map[string]bool, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(busy, name)
}

// record stores the result of a check. It keeps a fault that was found after that check began.
func (w *Watcher) record(ctx context.Context, seen ShareStatus) {
	if ctx.Err() != nil {
		return // the driver is stopping: not the share's fault
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was, known := w.statuses[seen.Share]
	if seen.LastWrite.Before(was.LastWrite) {
		seen.Fault, seen.LastWrite = was.Fault, was.LastWrite
	}
	w.statuses[seen.Share] = seen
	was.Up = was.Up || !known
	logChange(klog.FromContext(ctx), was, seen)
}

// asDown returns the status of a share that cannot be checked. Its fault stays.
func (s ShareStatus) asDown(err error) ShareStatus {
	return ShareStatus{Share: s.Share, Fault: s.Fault, LastWrite: s.LastWrite, Err: err}
}

// logChange logs that a share goes down or comes back, and whether it can be written to, each when it
// changes.
func logChange(log klog.Logger, before, now ShareStatus) {
	switch {
	case before.Up && !now.Up:
		log.Error(now.Err, "Share is down", "share", now.Share)
	case !before.Up && now.Up:
		log.Info("Share is up again", "share", now.Share)
	}
	switch {
	case before.Fault.Reason == now.Fault.Reason:
	case now.Fault.Reason != "":
		log.Error(nil, "Share cannot be written to", "share", now.Share, "reason", now.Fault.Reason, "message", now.Fault.Message)
	default:
		log.Info("Share can be written to again", "share", now.Share, "before", before.Fault.Reason)
	}
}

// query opens a share and queries its space.
func (w *Watcher) query(ctx context.Context, before ShareStatus) ShareStatus {
	s, release, err := w.pool.Open(ctx, before.Share, nil)
	if err != nil {
		return before.asDown(err).withFault(err)
	}
	defer release()
	start := time.Now()
	space, err := s.Space(ctx)
	if err != nil {
		return before.asDown(err).withFault(err)
	}
	return ShareStatus{Share: before.Share, Up: true, Latency: time.Since(start), Space: space, Fault: before.Fault, LastWrite: before.LastWrite}
}

// write writes the heartbeat of a share, if it is due, and records the result, or that there is none
// within watchTimeout.
func (w *Watcher) write(ctx context.Context, seen ShareStatus) {
	if !w.beginWrite(seen) {
		return
	}
	defer w.unmark(w.writing, seen.Share)
	within, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	s, release, err := w.pool.Open(within, seen.Share, nil)
	if err != nil {
		return // the next check reports why
	}
	defer release()
	if !isWritten(s) {
		return
	}
	timeout := time.AfterFunc(watchTimeout, func() {
		seen := w.lastStatus(seen.Share)
		seen.Fault, seen.LastWrite = volume.Condition{Severity: volume.Degraded, Reason: volume.SlowResponses,
			Message: fmt.Sprintf("share %s: what is written does not get to the server's disk within %v: look at its disks and its load", s.Definition(), watchTimeout)}, time.Now()
		w.record(ctx, seen)
	})
	err = w.heartbeat(s, within)
	timeout.Stop()
	seen = w.lastStatus(seen.Share)
	if err != nil {
		w.record(ctx, seen.withFault(err))
		return
	}
	seen.Fault, seen.LastWrite = volume.Condition{}, time.Now()
	w.record(ctx, seen)
}

// beginWrite reports whether a share's heartbeat is due, and marks the share as being written to.
func (w *Watcher) beginWrite(seen ShareStatus) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	soon := seen.Fault.Reason == "" && !seen.LastWrite.IsZero() && time.Since(seen.LastWrite) < heartbeatInterval
	if soon || w.writing[seen.Share] {
		return false
	}
	w.writing[seen.Share] = true
	return true
}

// isWritten reports whether a share has a heartbeat: it is laid out, and not mounted read-only.
func isWritten(s *share.Share) bool {
	return s.Initialized() && !slices.Contains(volume.MergeMountOptions(s.Definition().MountOptions), "ro")
}

// withFault returns the status with the fault that an error shows.
func (s ShareStatus) withFault(err error) ShareStatus {
	if reason := share.FaultReason(err); reason != "" {
		s.Fault, s.LastWrite = volume.Condition{Severity: volume.Degraded, Reason: reason, Message: err.Error()}, time.Now()
	}
	return s
}
