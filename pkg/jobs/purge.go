// SPDX-License-Identifier: Apache-2.0

// Package jobs does the work that outlives the RPC which caused it. What there is to do is
// read from the shares and kept nowhere else, so that it survives the process: an entry of
// the trash is the job of purging it.
//
// Two controllers may run the same job: to remove what is removed already is no error.
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
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	// scanInterval is how often a share's trash is looked at without a cause.
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

// Trash is what is known of one share's trash.
type Trash struct {
	Share   string
	Volumes int       // waiting, as of the last look
	Oldest  time.Time // deletion of the longest waiting; zero: none waits
	Overdue int       // of those waiting, whose time is over
	Since   time.Time // when the longest overdue was due; zero: none is
	// Unfinished are those of which the record is not in the trash: their deletion was
	// interrupted, and they are not purged before it is finished.
	Unfinished int
	Purged     int64 // volumes, by this process
	Entries    int64 // files and directories, by this process; grows during a purge
	Failed     int64 // attempts, by this process
}

// Purger empties the shares' trash: everything that has been there for as long as it is to
// be kept. Each share has a worker of its own, so that one that hangs holds up no other.
type Purger struct {
	pool  *pool.Pool
	clock func() time.Time
	// now returns the time by a share's server, by which entries are due.
	now func(ctx context.Context, s *share.Share) (time.Time, error)

	mu      sync.Mutex
	workers map[string]*worker
	running context.Context // nil until Run
	done    sync.WaitGroup
}

// worker purges one share. Its fields are guarded by the mu of its Purger.
type worker struct {
	share  string
	wake   chan struct{}
	status Trash
	waits  map[string]*waiting // what is in the trash, by name
	// The server's clock was this far ahead of ours when it was measured.
	ahead    time.Duration
	measured time.Time
	look     bool // somebody has put something there and does not say what

	removals map[*copytree.Removal]bool // under way, whose entries are not in the status yet
}

// waiting is an entry of the trash that waits for its time.
type waiting struct {
	entry   share.TrashEntry
	since   time.Time // when its time is over; zero: never, as its deletion is not finished
	due     time.Time // when it is tried: later, where that has failed
	backoff time.Duration
}

// NewPurger returns a Purger of the pool's shares.
func NewPurger(shares *pool.Pool) *Purger {
	return &Purger{pool: shares, clock: time.Now, now: serverTime, workers: map[string]*worker{}}
}

func serverTime(ctx context.Context, s *share.Share) (time.Time, error) { return s.Now(ctx) }

// Run purges until ctx ends: from the start the registered shares, which resumes what an
// earlier process left, and any other from the first Add on. It returns when all its workers
// have.
func (p *Purger) Run(ctx context.Context) {
	p.mu.Lock()
	p.running = ctx
	p.mu.Unlock()
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	for {
		p.mu.Lock()
		for _, s := range p.pool.Registry().Shares {
			p.worker(s.Name)
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			p.done.Wait()
			return
		case <-tick.C:
		}
	}
}

// worker finds or starts the worker of a share. It is called with the Purger locked.
func (p *Purger) worker(name string) *worker {
	w := p.workers[name]
	if w == nil && p.running != nil && p.running.Err() == nil {
		w = &worker{share: name, wake: make(chan struct{}, 1), status: Trash{Share: name}, waits: map[string]*waiting{}, removals: map[*copytree.Removal]bool{}}
		p.workers[name] = w
		p.done.Go(func() { p.work(p.running, w) })
	}
	return w
}

// Add tells of an entry that was just put into a share's trash: so that nobody has to look
// there for it. It does not wait.
func (p *Purger) Add(name string, e share.TrashEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.worker(name)
	if w == nil {
		return
	}
	w.waits[e.Name] = &waiting{entry: e, since: e.Due, due: e.Due}
	w.count()
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// Look has a share's trash be looked at now. It does not wait.
func (p *Purger) Rescan(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.worker(name)
	if w == nil {
		return
	}
	w.look = true
	select {
	case w.wake <- struct{}{}:
	default: // it is awake
	}
}

// Status says how each share's trash stands.
func (p *Purger) Status() []Trash {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Trash
	for _, w := range p.workers {
		all = append(all, w.now(p.serverNow(w)))
	}
	return all
}

// serverNow returns the time by the server of a worker's share, as of its last look at it.
func (p *Purger) serverNow(w *worker) time.Time { return p.clock().Add(w.ahead) }

// now returns the status as of this moment: what is overdue, and what is just being removed.
func (w *worker) now(at time.Time) Trash {
	status := w.status
	for _, e := range w.waits {
		if !e.entry.HasRecord() {
			status.Unfinished++
			continue
		}
		if e.since.After(at) {
			continue
		}
		status.Overdue++
		if status.Since.IsZero() || e.since.Before(status.Since) {
			status.Since = e.since
		}
	}
	for removal := range w.removals {
		status.Entries += removal.Entries.Load()
	}
	return status
}

// count brings the status up to date.
func (w *worker) count() {
	w.status.Volumes, w.status.Oldest = len(w.waits), time.Time{}
	for _, e := range w.waits {
		if e.entry.Deleted.IsZero() {
			continue
		}
		if w.status.Oldest.IsZero() || e.entry.Deleted.Before(w.status.Oldest) {
			w.status.Oldest = e.entry.Deleted
		}
	}
}

// work looks at the share at its start and every minute, and purges what is due in between.
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
		err := p.once(ctx, w, &scanned)
		wait := min(p.next(w), scanInterval)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "The trash cannot be looked at", "share", w.share)
			wait = max(wait, firstBackoff) // what is due stays due
		}
		timer.Reset(wait)
	}
}

// once looks at the share, if it is time to, and purges what is due.
func (p *Purger) once(ctx context.Context, w *worker, scanned *time.Time) error {
	p.mu.Lock()
	look := w.look || time.Since(*scanned) >= scanInterval
	w.look = false
	measure := len(w.waits) > 0 && time.Since(w.measured) >= scanInterval
	p.mu.Unlock()
	if look {
		*scanned = time.Now()
	} else if !measure && p.next(w) > 0 {
		return nil
	}
	s, release, err := p.pool.Open(ctx, w.share, nil)
	if err != nil {
		return err
	}
	defer release()
	if s.Definition().Name != w.share { // an export that was registered since: the share has a worker
		p.update(w, func() { clear(w.waits) })
		return nil
	}
	if measure {
		if err := p.measure(ctx, s, w); err != nil {
			return err
		}
	}
	if look {
		if err = p.scan(ctx, s, w); err == nil {
			err = s.Tidy(ctx, share.ParentIdle)
		}
		if s.Lost() { // it may have become one of a later Mooring
			return err
		}
	}
	var group errgroup.Group
	group.SetLimit(volumesAtOnce)
	for _, e := range p.due(w) {
		group.Go(func() error {
			p.purge(ctx, s, w, e)
			return nil
		})
	}
	_ = group.Wait()
	return err
}

// scan brings what is known to wait in line with what is there.
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
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name] = true
		p.mu.Lock()
		known := w.waits[e.Name]
		p.mu.Unlock()
		if known != nil && known.entry == e {
			continue
		}
		p.update(w, func() { w.waits[e.Name] = &waiting{entry: e, since: e.Due, due: e.Due} })
	}
	p.update(w, func() {
		started := p.serverNow(w).Add(-scanInterval)
		maps.DeleteFunc(w.waits, func(name string, e *waiting) bool {
			return !there[name] && e.entry.Deleted.Before(started) // by another controller; not one just added
		})
	})
	return nil
}

// measure finds out how far the server's clock is ahead of ours.
func (p *Purger) measure(ctx context.Context, s *share.Share, w *worker) error {
	now, err := p.now(ctx, s)
	if err != nil {
		return err
	}
	p.update(w, func() { w.ahead, w.measured = now.Sub(p.clock()), time.Now() })
	return nil
}

// next returns how long it is until something is due: not more than 0 where it is.
func (p *Purger) next(w *worker) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := scanInterval
	for _, e := range w.waits {
		if e.entry.HasRecord() {
			wait = min(wait, e.due.Sub(p.serverNow(w)))
		}
	}
	return wait
}

// due returns what is to be purged now, the oldest first.
func (p *Purger) due(w *worker) []*waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	var due []*waiting
	for _, e := range w.waits {
		if e.entry.HasRecord() && !e.due.After(p.serverNow(w)) {
			due = append(due, e)
		}
	}
	slices.SortFunc(due, func(a, b *waiting) int { return a.entry.Deleted.Compare(b.entry.Deleted) })
	return due
}

// purge removes one entry, or puts it off.
func (p *Purger) purge(ctx context.Context, s *share.Share, w *worker, e *waiting) {
	start := time.Now()
	removal := &copytree.Removal{Workers: workersPerVolume}
	p.update(w, func() { w.removals[removal] = true })
	err := s.Trash.Purge(e.entry, func(trash int, name string) error { return removal.Remove(ctx, trash, name) })
	log := klog.FromContext(ctx).WithValues("share", w.share, "volume", e.entry.Key, "entries", removal.Entries.Load(), "duration", time.Since(start))
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
				// This client has a file open that goes when it is closed (nfs(5), silly rename):
				// what a copy has failed to write may take it a moment.
				e.backoff = busyBackoff
			}
			e.due = p.serverNow(w).Add(e.backoff)
			return
		}
		w.status.Purged++
		delete(w.waits, e.entry.Name)
	})
	if err != nil {
		log.Error(err, "A deleted volume could not be purged; it will be tried again")
		return
	}
	log.Info("A deleted volume was purged")
}

func (p *Purger) update(w *worker, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	w.count()
}
