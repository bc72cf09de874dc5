// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

const (
	// watchInterval is how often each share is looked at.
	watchInterval = 15 * time.Second
	// watchPatience is how long a share may take to say how full it is. One that takes longer
	// counts as down, though its answer is still waited for, by one goroutine.
	watchPatience = 10 * time.Second
	// beatInterval is how often a share is written to. One that could not be written to is tried at
	// each look.
	beatInterval = time.Minute
)

// Seen is what the last look at a share has shown.
type Seen struct {
	Share string
	Up    bool
	Took  time.Duration // until it said how full it is
	Space volume.Space  // of a share that is up
	// Fault is why nothing can be written to the share, as far as is known. No Reason: it can be.
	Fault volume.Condition
	Beat  time.Time // when it was written to last, or could not be; zero: it was never tried
}

// Faults tells of each reason for which a share may not be written to whether it is so now; nil
// where that is not known.
func (s Seen) Faults() map[string]bool {
	if s.Beat.IsZero() || !s.Up && s.Fault.Reason == "" {
		return nil
	}
	all := map[string]bool{}
	for _, reason := range []volume.Reason{volume.DiskFailing, volume.ReadOnlyServer, volume.ShareFull, volume.AccessDenied} {
		all[string(reason)] = reason == s.Fault.Reason
	}
	return all
}

// Watcher knows of each share whether it can be used, and how full it is, so that whoever
// wants to know has not to ask the server. A share that hangs costs one goroutine, and
// nobody else anything.
type Watcher struct {
	pool *pool.Pool
	ask  func(ctx context.Context, before Seen) Seen
	beat func(s *share.Share, ctx context.Context) error

	mu   sync.Mutex
	seen map[string]Seen
	busy map[string]bool // shares that are being looked at
}

// NewWatcher returns a Watcher of the pool's shares.
func NewWatcher(shares *pool.Pool) *Watcher {
	w := &Watcher{pool: shares, seen: map[string]Seen{}, busy: map[string]bool{}, beat: (*share.Share).Beat}
	w.ask = w.see
	return w
}

// Status says what the last look at each share has shown. One that was never looked at is not
// there.
func (w *Watcher) Status() []Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Seen
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

// look looks at a share, and returns within watchPatience. What it began may still be under
// way then: the share is not looked at again before that has ended.
func (w *Watcher) look(ctx context.Context, name string) {
	before := w.before(name)
	within, cancel := context.WithTimeout(ctx, watchPatience)
	done := make(chan Seen, 1)
	go func() {
		defer cancel()
		seen := w.ask(within, before)
		done <- seen
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.busy, name)
	}()
	var seen Seen
	select {
	case seen = <-done:
	case <-within.Done():
		select {
		case seen = <-done: // its end has ended the context, too
		default:
			seen = before.down()
		}
	}
	if ctx.Err() != nil {
		return // that the driver ends says nothing of the share
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[name] = seen
	tell(klog.FromContext(ctx), before, seen)
}

// before returns what the last look at a share has shown.
func (w *Watcher) before(name string) Seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen[name]
	seen.Share = name
	return seen
}

// down is what is seen of a share that cannot be looked at: whether it can be written to stays as it was.
func (s Seen) down() Seen { return Seen{Share: s.Share, Fault: s.Fault, Beat: s.Beat} }

// tell logs whether a share can be written to, once when that changes.
func tell(log klog.Logger, before, now Seen) {
	switch {
	case before.Fault.Reason == now.Fault.Reason:
	case now.Fault.Reason != "":
		log.Error(nil, "Share cannot be written to", "share", now.Share, "reason", now.Fault.Reason, "message", now.Fault.Message)
	default:
		log.Info("Share can be written to again", "share", now.Share, "before", before.Fault.Reason)
	}
}

// see opens a share, asks how full it is and, now and then, writes to it.
func (w *Watcher) see(ctx context.Context, before Seen) Seen {
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
	now := Seen{Share: before.Share, Up: true, Took: time.Since(start), Space: space, Fault: before.Fault, Beat: before.Beat}
	if now.Fault.Reason == "" && !now.Beat.IsZero() && time.Since(now.Beat) < beatInterval || !beats(s) {
		return now
	}
	if err := w.beat(s, ctx); err != nil {
		return now.failed(err)
	}
	now.Fault, now.Beat = volume.Condition{}, time.Now()
	return now
}

// beats reports whether a share is to be written to: one that nobody has laid out is not, nor one
// that is mounted read-only.
func beats(s *share.Share) bool {
	return s.Initialized() && !slices.Contains(volume.MergeMountOptions(s.Definition().MountOptions), "ro")
}

// failed notes what an error says of the share's file system.
func (s Seen) failed(err error) Seen {
	if reason := share.Fault(err); reason != "" {
		s.Fault, s.Beat = volume.Condition{Severity: volume.Degraded, Reason: reason, Message: err.Error()}, time.Now()
	}
	return s
}
