// SPDX-License-Identifier: Apache-2.0

// Package jobs does the work that outlives the RPC which caused it: it copies trees (Copier) and
// purges the trash (Purger). It also checks the shares (Watcher) and counts their volumes
// (VolumeCounter). It reads its jobs from the shares and keeps them nowhere else, so that they
// survive the process: an entry of the trash is the job to purge it, and a file in .mooring/jobs is
// a copy in progress.
//
// Two controllers may run the same job: to remove a removed file is no error.
package jobs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	// scanInterval is how often a share's trash is scanned without a deletion.
	scanInterval = time.Minute
	// At most volumesAtOnce volumes of a share are purged at a time, each by workersPerVolume
	// calls at a time: as many as knfsd has threads by default (8), twice, so that none idles.
	volumesAtOnce    = 2
	workersPerVolume = 8
	// A volume that could not be purged is tried again after firstBackoff, and then each time
	// after twice as long, up to lastBackoff.
	firstBackoff = 30 * time.Second
	busyBackoff  = time.Second
	lastBackoff  = time.Hour
)

// Purger purges deleted volumes and snapshots from the shares' trash when their retention is over
// (share.Trash.Purge, copytree.Removal). Each share has its own worker, so that a share that hangs
// blocks no other. A worker lists the trash every minute, and then removes unused parents of
// volumes (share.Share.Tidy).
type Purger struct {
	pool  *pool.Pool
	clock func() time.Time
	// now returns the time of a share's server, which decides what is due.
	now func(ctx context.Context, s *share.Share) (time.Time, error)

	mu      sync.Mutex
	workers map[string]*worker
	running context.Context // nil until Run
	done    sync.WaitGroup
}

// worker purges one share. Its fields are guarded by the mu of its Purger.
type worker struct {
	share  string
	stop   context.CancelFunc
	wake   chan struct{}
	status Trash
	queue  map[string]*queued // the trash, by name
	// The server's clock was this far clockAhead of ours when it was measured.
	clockAhead time.Duration
	measured   time.Time
	rescan     bool // there may be new entries

	removals map[*copytree.Removal]bool // that run, and are not counted in status yet
}

// queued is an entry of the trash that waits for its purge.
type queued struct {
	entry   share.TrashEntry
	due     time.Time // end of its retention; zero: never, as its deletion is not finished
	retryAt time.Time // due, or later after a failure
	backoff time.Duration
}

// NewPurger returns a Purger of the pool's shares.
func NewPurger(shares *pool.Pool) *Purger {
	return &Purger{pool: shares, clock: time.Now, now: serverTime, workers: map[string]*worker{}}
}

func serverTime(ctx context.Context, s *share.Share) (time.Time, error) { return s.Now(ctx) }

// Run purges until ctx ends: the registered shares from the start, which resumes the work of an earlier
// process, and any other share from the first Add on. It ends the worker of a share that the registry does not
// have any more, also in the middle of a purge. It returns after all its workers.
func (p *Purger) Run(ctx context.Context) {
	p.mu.Lock()
	p.running = ctx
	p.mu.Unlock()
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	for {
		p.follow(p.pool.Registry())
		select {
		case <-ctx.Done():
			p.done.Wait()
			return
		case <-tick.C:
		}
	}
}

// follow starts the workers of shares that are registered, and ends those of shares that are not known any more.
func (p *Purger) follow(registry *volume.Registry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range registry.Shares {
		p.worker(s.Name)
	}
	for name, w := range p.workers {
		if !registry.Has(name) {
			w.stop()
			delete(p.workers, name)
		}
	}
}

// worker finds or starts the worker of a share. The caller holds p.mu.
func (p *Purger) worker(name string) *worker {
	w := p.workers[name]
	if w == nil && p.running != nil && p.running.Err() == nil {
		w = &worker{share: name, wake: make(chan struct{}, 1), status: Trash{Share: name}, queue: map[string]*queued{}, removals: map[*copytree.Removal]bool{}}
		p.workers[name] = w
		var ctx context.Context
		ctx, w.stop = context.WithCancel(p.running)
		p.done.Go(func() { p.work(ctx, w) })
	}
	return w
}

// Add adds an entry that has just been moved into a share's trash: it is purged when it is due,
// without a scan. Add does not block.
func (p *Purger) Add(name string, e share.TrashEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.worker(name)
	if w == nil {
		return
	}
	w.queue[e.Name] = &queued{entry: e, due: e.Due, retryAt: e.Due}
	w.updateStatus()
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// Rescan starts a scan of a share's trash. It does not block.
func (p *Purger) Rescan(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.worker(name)
	if w == nil {
		return
	}
	w.rescan = true
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// work scans the share at the start and every scanInterval, and purges what is due in between.
func (p *Purger) work(ctx context.Context, w *worker) {
	var scanned time.Time
	timer := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		if !p.pool.Registry().Has(w.share) { // follow ends it, unless the share is back before
			timer.Reset(scanInterval)
			continue
		}
		err := p.scanAndPurge(ctx, w, &scanned)
		wait := min(p.timeUntilDue(w), scanInterval)
		if err != nil && ctx.Err() == nil {
			logScanError(klog.FromContext(ctx), err, "The trash cannot be listed", w.share)
			wait = max(wait, firstBackoff) // what is due stays due
		}
		timer.Reset(wait)
	}
}

// scanAndPurge scans the share, if a scan is due, and purges what is due.
func (p *Purger) scanAndPurge(ctx context.Context, w *worker, scanned *time.Time) error {
	p.mu.Lock()
	scan := w.rescan || time.Since(*scanned) >= scanInterval
	w.rescan = false
	measure := len(w.queue) > 0 && time.Since(w.measured) >= scanInterval
	p.mu.Unlock()
	if scan {
		*scanned = time.Now()
	} else if !measure && p.timeUntilDue(w) > 0 {
		return nil
	}
	s, release, err := p.pool.Open(ctx, w.share, nil)
	if err != nil {
		return err
	}
	defer release()
	if measure {
		if err := p.measure(ctx, s, w); err != nil {
			return err
		}
	}
	if scan {
		err = p.scanAndTidy(ctx, s, w)
		if s.Lost() { // it may have become one of a later Mooring
			return err
		}
	}
	var group errgroup.Group
	group.SetLimit(volumesAtOnce)
	for _, e := range p.due(w) {
		group.Go(func() error {
			if ctx.Err() == nil {
				p.purge(ctx, s, w, e)
			}
			return nil
		})
	}
	_ = group.Wait()
	return err
}

func (p *Purger) scanAndTidy(ctx context.Context, s *share.Share, w *worker) error {
	if err := p.scan(ctx, s, w); err != nil {
		return err
	}
	return s.Tidy(ctx, share.ParentIdle)
}

// scan updates the queue from the trash.
func (p *Purger) scan(ctx context.Context, s *share.Share, w *worker) error {
	entries, err := s.Trash.List(ctx)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		if err := p.measure(ctx, s, w); err != nil {
			return err
		}
	}
	exists := map[string]bool{}
	for _, e := range entries {
		exists[e.Name] = true
		p.mu.Lock()
		known := w.queue[e.Name]
		p.mu.Unlock()
		if known != nil && known.entry == e {
			continue
		}
		p.update(w, func() { w.queue[e.Name] = &queued{entry: e, due: e.Due, retryAt: e.Due} })
	}
	p.update(w, func() {
		w.status.Scanned = true
		started := p.serverNow(w).Add(-scanInterval)
		maps.DeleteFunc(w.queue, func(name string, e *queued) bool {
			return !exists[name] && e.entry.Deleted.Before(started) // another controller has purged it; not one just added
		})
	})
	return nil
}

// measure measures how far the server's clock is ahead of ours.
func (p *Purger) measure(ctx context.Context, s *share.Share, w *worker) error {
	now, err := p.now(ctx, s)
	if err != nil {
		return err
	}
	p.update(w, func() { w.clockAhead, w.measured = now.Sub(p.clock()), time.Now() })
	return nil
}

// timeUntilDue returns the time until the next purge, 0 or less if one is due.
func (p *Purger) timeUntilDue(w *worker) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := scanInterval
	for _, e := range w.queue {
		if e.entry.HasRecord() {
			wait = min(wait, e.retryAt.Sub(p.serverNow(w)))
		}
	}
	return wait
}

// due returns the entries to purge now, the oldest first.
func (p *Purger) due(w *worker) []*queued {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []*queued
	for _, e := range w.queue {
		if e.entry.HasRecord() && !e.retryAt.After(p.serverNow(w)) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *queued) int { return a.entry.Deleted.Compare(b.entry.Deleted) })
	return due
}

// purge purges one entry, or postpones it.
func (p *Purger) purge(ctx context.Context, s *share.Share, w *worker, e *queued) {
	start := time.Now()
	removal := &copytree.Removal{Workers: workersPerVolume}
	p.update(w, func() { w.removals[removal] = true })
	err := s.Trash.Purge(e.entry, func(trash int, name string) error { return removal.Remove(ctx, trash, name) })
	log := klog.FromContext(ctx).WithValues("share", w.share, "kind", e.entry.Kind(), "key", e.entry.Key, "entries", removal.Entries.Load(), "duration", time.Since(start))
	p.update(w, func() {
		w.status.Entries += removal.Entries.Load()
		delete(w.removals, removal)
	})
	if ctx.Err() != nil {
		return
	}
	p.update(w, func() {
		if err != nil {
			w.status.Failed++
			e.backoff = min(max(2*e.backoff, firstBackoff), lastBackoff)
			if errors.Is(err, unix.EBUSY) {
				// This client has a file open that disappears with its close (nfs(5), silly rename):
				// after a failed write of a copy that may take a moment.
				e.backoff = busyBackoff
			}
			e.retryAt = p.serverNow(w).Add(e.backoff)
			return
		}
		w.status.Purged++
		delete(w.queue, e.entry.Name)
	})
	if err != nil {
		log.Error(err, "An entry of the trash could not be purged; it is tried again", "after", e.backoff)
		return
	}
	log.Info("An entry of the trash was purged")
}

func (p *Purger) update(w *worker, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	w.updateStatus()
}
