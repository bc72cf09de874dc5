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

// ShareStatus is what the last look at a share has shown.
type ShareStatus struct {
	Share   string
	Up      bool
	Latency time.Duration // until it said how full it is
	Space   volume.Space  // of a share that is up
	// Fault is why nothing can be written to the share, as far as is known. No Reason: it can be.
	Fault     volume.Condition
	LastWrite time.Time // when it was written to last, or could not be; zero: it was never tried
}

// Faults tells of each reason for which a share may not be written to whether it is so now; nil
// where that is not known.
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

// Watcher knows of each share whether it can be used, and how full it is, so that whoever
// wants to know has not to ask the server. A share that hangs costs one goroutine, and
// nobody else anything.
type Watcher struct {
	pool *pool.Pool
	ask  func(ctx context.Context, before ShareStatus) ShareStatus
	beat func(s *share.Share, ctx context.Context) error

	mu   sync.Mutex
	seen map[string]ShareStatus
	busy map[string]bool // shares that are being looked at
	// writing are the shares that are being written to: they are looked at meanwhile.
	writing map[string]bool
}

// NewWatcher returns a Watcher of the pool's shares.
func NewWatcher(shares *pool.Pool) *Watcher {
	w := &Watcher{pool: shares, seen: map[string]ShareStatus{}, busy: map[string]bool{}, writing: map[string]bool{}, beat: (*share.Share).Heartbeat}
	w.ask = w.see
	return w
}

// Status says what the last look at each share has shown. One that was never looked at is not
// there.
func (w *Watcher) Status() []ShareStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []ShareStatus
	for _, s := range w.seen {
		all = append(all, s)
	}
	return all
}

// Fault says why nothing can be written to a share, as far as is known. No Reason: it can be.
func (w *Watcher) Fault(name string) volume.Condition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[w.pool.Name(name)].Fault
}

// Run looks at all shares again and again until ctx ends: at those that are registered, and
// those of classes that name an export as far as they are mounted.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	for {
		for _, name := range w.due() {
			looking.Go(func() { w.look(ctx, name) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// due lists the shares to be looked at, marks them as busy, and forgets those that are gone.
func (w *Watcher) due() []string {
	names := w.pool.Known()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.seen {
		// An export that is not mounted for the moment is not forgotten: it may be down. One that
		// was registered since is looked at under that name.
		_, _, export := volume.SplitExport(name)
		if !slices.Contains(names, name) && (!export || w.pool.Name(name) != name) {
			delete(w.seen, name)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return w.busy[name] })
	for _, name := range names {
		w.busy[name] = true
	}
	return names
}

// look checks a share, and returns soon after watchPatience at the latest. What it began may still be
// under way then: the share is not checked again before that has ended.
func (w *Watcher) look(ctx context.Context, name string) {
	before := w.before(name)
	within, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	seen, err := bounded.Call(within, func(within context.Context) (ShareStatus, error) {
		defer w.free(w.busy, name)
		seen := w.ask(within, before)
		if seen.Up { // whether it is does not depend on how long it takes to write
			go w.write(ctx, seen)
		}
		return seen, nil
	}, nil)
	if err != nil {
		seen = before.down()
		if _, late := errors.AsType[bounded.Abandoned](err); !late {
			klog.FromContext(ctx).Error(err, "Share cannot be checked", "share", name)
		}
	}
	w.note(ctx, seen)
}

// before returns what the last look at a share has shown.
func (w *Watcher) before(name string) ShareStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen[name]
	seen.Share = name
	return seen
}

// free has a share be looked at, or written to, again.
func (w *Watcher) free(busy map[string]bool, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(busy, name)
}

// note keeps what a look has shown. What was found since of whether it can be written to stays.
func (w *Watcher) note(ctx context.Context, seen ShareStatus) {
	if ctx.Err() != nil {
		return // that the driver ends says nothing of the share
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.seen[seen.Share]
	if seen.LastWrite.Before(was.LastWrite) {
		seen.Fault, seen.LastWrite = was.Fault, was.LastWrite
	}
	w.seen[seen.Share] = seen
	tell(klog.FromContext(ctx), was, seen)
}

// down is what is seen of a share that cannot be looked at: whether it can be written to stays as it was.
func (s ShareStatus) down() ShareStatus {
	return ShareStatus{Share: s.Share, Fault: s.Fault, LastWrite: s.LastWrite}
}

// tell logs whether a share can be written to, once when that changes.
func tell(log klog.Logger, before, now ShareStatus) {
	switch {
	case before.Fault.Reason == now.Fault.Reason:
	case now.Fault.Reason != "":
		log.Error(nil, "Share cannot be written to", "share", now.Share, "reason", now.Fault.Reason, "message", now.Fault.Message)
	default:
		log.Info("Share can be written to again", "share", now.Share, "before", before.Fault.Reason)
	}
}

// see opens a share, and asks how full it is.
func (w *Watcher) see(ctx context.Context, before ShareStatus) ShareStatus {
	s, release, err := w.pool.Open(ctx, before.Share, nil)
	if err != nil {
		return before.down().failed(err)
	}
	defer release()
	start := time.Now()
	space, err := s.Space(ctx)
	if err != nil {
		return before.down().failed(err)
	}
	return ShareStatus{Share: before.Share, Up: true, Latency: time.Since(start), Space: space, Fault: before.Fault, LastWrite: before.LastWrite}
}

// write writes to a share that is up, where it is time for that, and notes what comes back, or that
// nothing does.
func (w *Watcher) write(ctx context.Context, seen ShareStatus) {
	if !w.beginWrite(seen) {
		return
	}
	defer w.free(w.writing, seen.Share)
	within, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	s, release, err := w.pool.Open(within, seen.Share, nil)
	if err != nil {
		return // the next look says why
	}
	defer release()
	if !beats(s) {
		return
	}
	late := time.AfterFunc(watchTimeout, func() {
		seen := w.before(seen.Share)
		seen.Fault, seen.LastWrite = volume.Condition{Severity: volume.Degraded, Reason: volume.SlowResponses,
			Message: fmt.Sprintf("share %s: what is written does not get to the server's disk within %v: look at its disks and its load", s.Definition(), watchTimeout)}, time.Now()
		w.note(ctx, seen)
	})
	err = w.beat(s, within)
	late.Stop()
	seen = w.before(seen.Share)
	if err == nil {
		seen.Fault, seen.LastWrite = volume.Condition{}, time.Now()
	}
	w.note(ctx, seen.failed(err))
}

// beginWrite reports whether it is time to write to a share, and nobody does.
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

// beats reports whether a share is to be written to: one that nobody has laid out is not, nor one
// that is mounted read-only.
func beats(s *share.Share) bool {
	return s.Initialized() && !slices.Contains(volume.MergeMountOptions(s.Definition().MountOptions), "ro")
}

// failed notes what an error says of the share's file system.
func (s ShareStatus) failed(err error) ShareStatus {
	if reason := share.FaultReason(err); reason != "" {
		s.Fault, s.LastWrite = volume.Condition{Severity: volume.Degraded, Reason: reason, Message: err.Error()}, time.Now()
	}
	return s
}
