// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	// watchInterval is how often each share is looked at.
	watchInterval = 15 * time.Second
	// watchPatience is how long a share may take to say how full it is. One that takes longer
	// counts as down, though its answer is still waited for, by one goroutine.
	watchPatience = 10 * time.Second
)

// Seen is what the last look at a share has shown.
type Seen struct {
	Share string
	Up    bool
	Took  time.Duration // until it said how full it is
	Space volume.Space  // of a share that is up
}

// Watcher knows of each share whether it can be used, and how full it is, so that whoever
// wants to know has not to ask the server. A share that hangs costs one goroutine, and
// nobody else anything.
type Watcher struct {
	pool *pool.Pool
	ask  func(ctx context.Context, name string) Seen

	mu   sync.Mutex
	seen map[string]Seen
	busy map[string]bool // shares that are being looked at
}

// NewWatcher returns a Watcher of the pool's shares.
func NewWatcher(shares *pool.Pool) *Watcher {
	return &Watcher{
		pool: shares, seen: map[string]Seen{}, busy: map[string]bool{},
		ask: func(ctx context.Context, name string) Seen { return ask(ctx, shares, name) },
	}
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
	within, cancel := context.WithTimeout(ctx, watchPatience)
	done := make(chan Seen, 1)
	go func() {
		defer cancel()
		seen := w.ask(within, name)
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
			seen = Seen{Share: name}
		}
	}
	if ctx.Err() != nil {
		return // that the driver ends says nothing of the share
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[name] = seen
}

// ask opens a share and asks how full it is.
func ask(ctx context.Context, shares *pool.Pool, name string) Seen {
	s, release, err := shares.Open(ctx, name, nil)
	if err != nil {
		return Seen{Share: name}
	}
	defer release()
	start := time.Now()
	space, err := s.Space(ctx)
	if err != nil {
		return Seen{Share: name}
	}
	return Seen{Share: name, Up: true, Took: time.Since(start), Space: space}
}
