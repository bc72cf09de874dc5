// SPDX-License-Identifier: Apache-2.0

// Package jobs does the work that outlives the RPC which caused it. What there is to do is
// read from the shares and kept nowhere else, so that it survives the process: an entry of
// the trash is the job of purging it.
//
// Two controllers may run the same job: to remove what is removed already is no error.
package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"golang.org/x/sync/errgroup"
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
	lastBackoff  = time.Hour
)

// Trash is what is known of one share's trash.
type Trash struct {
	Share   string
	Volumes int       // waiting, as of the last look
	Oldest  time.Time // deletion of the longest waiting; zero: none waits
	Purged  int64     // volumes, by this process
	Entries int64     // files and directories, by this process
	Failed  int64     // attempts, by this process
}

// Purger empties the shares' trash: everything that has been there for as long as it is to
// be kept. Each share has a worker of its own, so that one that hangs holds up no other.
type Purger struct {
	pool  *share.Pool
	clock func() time.Time

	mu      sync.Mutex
	workers map[string]*worker
	running context.Context // nil until Run
	done    sync.WaitGroup
}

// worker purges one share. What is below kick is guarded by the mu of its Purger.
type worker struct {
	share  string
	kick   chan struct{}
	status Trash

	due     map[string]time.Time // of entries whose record was read
	backoff map[string]time.Duration
}

// NewPurger returns a Purger of the shares in pool.
func NewPurger(pool *share.Pool) *Purger {
	return &Purger{pool: pool, clock: time.Now, workers: map[string]*worker{}}
}

// Run purges until ctx ends: from the start the registered shares, which resumes what an
// earlier process left, and any other from the first Kick on. It returns when all its
// workers have.
func (p *Purger) Run(ctx context.Context) {
	p.mu.Lock()
	p.running = ctx
	p.mu.Unlock()
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	for {
		for _, s := range p.pool.Registry().Shares {
			p.Kick(s.Name)
		}
		select {
		case <-ctx.Done():
			p.done.Wait()
			return
		case <-tick.C:
		}
	}
}

// Kick has a share's trash looked at soon. It does not wait.
func (p *Purger) Kick(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil || p.running.Err() != nil {
		return
	}
	w := p.workers[name]
	if w == nil {
		w = &worker{
			share: name, kick: make(chan struct{}, 1), status: Trash{Share: name},
			due: map[string]time.Time{}, backoff: map[string]time.Duration{},
		}
		p.workers[name] = w
		p.done.Go(func() { p.work(p.running, w) })
	}
	select {
	case w.kick <- struct{}{}:
	default: // it will look anyway
	}
}

// Status says how each share's trash stands.
func (p *Purger) Status() []Trash {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Trash
	for _, w := range p.workers {
		all = append(all, w.status)
	}
	return all
}

func (p *Purger) work(ctx context.Context, w *worker) {
	wake := time.NewTimer(scanInterval)
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-wake.C:
		}
		wait, err := p.scan(ctx, w)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "The trash cannot be looked at", "share", w.share)
		}
		wake.Reset(min(wait, scanInterval))
	}
}

// scan purges what is due, and returns how long it is until something else is.
func (p *Purger) scan(ctx context.Context, w *worker) (time.Duration, error) {
	s, release, err := p.pool.Open(ctx, w.share, nil)
	if err != nil {
		return scanInterval, err
	}
	defer release()
	entries, err := s.Trashed(ctx)
	if err != nil {
		return scanInterval, err
	}
	p.update(w, func(t *Trash) {
		t.Volumes, t.Oldest = len(entries), time.Time{}
		if len(entries) > 0 {
			t.Oldest = entries[0].Deleted
		}
	})
	wait := scanInterval
	var group errgroup.Group
	group.SetLimit(volumesAtOnce)
	for _, e := range entries {
		if left := p.due(ctx, s, w, e).Sub(p.clock()); left > 0 {
			wait = min(wait, left)
			continue
		}
		group.Go(func() error {
			p.purge(ctx, s, w, e)
			return nil
		})
	}
	_ = group.Wait()
	return wait, s.Tidy(ctx, share.ParentIdle)
}

// due returns when an entry is to be purged. Its record is read once.
func (p *Purger) due(ctx context.Context, s *share.Share, w *worker, e share.Trashed) time.Time {
	p.mu.Lock()
	at, known := w.due[e.Name]
	p.mu.Unlock()
	if known {
		return at
	}
	at, err := s.Due(e)
	if err != nil {
		klog.FromContext(ctx).Error(err, "A deleted volume is kept until its record can be read", "share", w.share, "volume", e.Key)
		return p.clock().Add(firstBackoff)
	}
	if e.Recorded() { // else that was the time for half a deletion, and the other half may be under way
		p.update(w, func(*Trash) { w.due[e.Name] = at })
	}
	return at
}

// purge removes one entry, or puts it off.
func (p *Purger) purge(ctx context.Context, s *share.Share, w *worker, e share.Trashed) {
	start := time.Now()
	removal := &copytree.Removal{Workers: workersPerVolume}
	err := s.Purge(e, func(trash int, name string) error { return removal.Remove(ctx, trash, name) })
	log := klog.FromContext(ctx).WithValues("share", w.share, "volume", e.Key, "entries", removal.Entries.Load(), "duration", time.Since(start))
	if ctx.Err() != nil {
		return
	}
	p.update(w, func(t *Trash) {
		t.Entries += removal.Entries.Load()
		if err != nil {
			t.Failed++
			wait := min(max(2*w.backoff[e.Name], firstBackoff), lastBackoff)
			w.backoff[e.Name], w.due[e.Name] = wait, p.clock().Add(wait)
			return
		}
		t.Purged++
		t.Volumes--
		delete(w.due, e.Name)
		delete(w.backoff, e.Name)
	})
	if err != nil {
		log.Error(err, "A deleted volume could not be purged; it will be tried again")
		return
	}
	log.Info("A deleted volume was purged")
}

func (p *Purger) update(w *worker, change func(*Trash)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&w.status)
}
