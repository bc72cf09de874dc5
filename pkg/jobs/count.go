// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

const (
	// countDelay is the time before the first count of volumes: after the start there is other work. A share
	// that could not be counted, or is new, is counted after that time, too.
	countDelay = time.Minute
	// countInterval is how often the volumes of each share are counted.
	countInterval = 10 * time.Minute
	// capacityTTL is how long the capacity in a volume's record is not read again.
	capacityTTL = time.Hour
)

// VolumeCount is the number of volumes of a share.
type VolumeCount struct {
	Share   string
	Volumes int   // without those that are being created or deleted
	Bytes   int64 // the sum of their capacities
}

// VolumeCounter counts the volumes of each share and adds up their capacities. A count lists the
// records; it reads those that are new, and each other one once an hour.
type VolumeCounter struct {
	pool *pool.Pool

	mu     sync.Mutex
	counts map[string]VolumeCount // without shares that could not be counted
	known  map[string]*capacities
	busy   map[string]bool // shares that are being counted
}

// capacities are those of a share's volumes, by key.
type capacities struct {
	since time.Time // of the oldest
	byKey map[string]int64
}

// NewVolumeCounter returns a VolumeCounter of the pool's shares.
func NewVolumeCounter(shares *pool.Pool) *VolumeCounter {
	return &VolumeCounter{pool: shares, counts: map[string]VolumeCount{}, known: map[string]*capacities{}, busy: map[string]bool{}}
}

// Status returns the last count of each share.
func (c *VolumeCounter) Status() []VolumeCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []VolumeCount
	for _, n := range c.counts {
		all = append(all, n)
	}
	return all
}

// Run counts until ctx ends.
func (c *VolumeCounter) Run(ctx context.Context) {
	timer := time.NewTimer(countDelay)
	defer timer.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for n := time.Duration(0); ; n += countDelay {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for _, name := range c.due(n%countInterval == 0) {
			running.Go(func() { c.count(ctx, name) })
		}
		timer.Reset(countDelay)
	}
}

// due returns the shares to count, all or those that have no count, marks them as busy, and removes those that are
// gone.
func (c *VolumeCounter) due(all bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts, known := map[string]VolumeCount{}, map[string]*capacities{}
	var names []string
	for _, name := range c.pool.Known() {
		n, counted := c.counts[name]
		if counted {
			counts[name] = n
		}
		known[name] = c.known[name]
		if !c.busy[name] && (all || !counted) {
			c.busy[name] = true
			names = append(names, name)
		}
	}
	c.counts, c.known = counts, known
	return names
}

// count counts the volumes of one share. It returns when ctx ends, also if the share's server is silent.
func (c *VolumeCounter) count(ctx context.Context, name string) {
	_, err := bounded.Call(ctx, func(ctx context.Context) (struct{}, error) {
		defer c.free(name)
		return struct{}{}, c.countOne(ctx, name)
	}, nil)
	if err == nil || ctx.Err() != nil {
		return
	}
	logScanError(klog.FromContext(ctx), err, "The volumes cannot be counted", name)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, name)
}

// free lets a share be counted again.
func (c *VolumeCounter) free(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, name)
}

func (c *VolumeCounter) countOne(ctx context.Context, name string) error {
	s, release, err := c.pool.Open(ctx, name, nil)
	if err != nil {
		return err
	}
	defer release()
	keys, err := s.Volumes.Keys(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	last := c.known[name]
	c.mu.Unlock()
	if last == nil || time.Since(last.since) >= capacityTTL {
		last = &capacities{since: time.Now()}
	}
	next, count := &capacities{since: last.since, byKey: map[string]int64{}}, VolumeCount{Share: name}
	for _, key := range keys {
		capacity, exists := last.byKey[key]
		if !exists {
			if capacity, exists, err = readCapacity(ctx, s, key); err != nil {
				return err
			}
		}
		if !exists {
			continue
		}
		next.byKey[key] = capacity
		count.Volumes++
		count.Bytes = volume.AddBytes(count.Bytes, capacity)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[name], c.known[name] = count, next
	return nil
}

// readCapacity returns the capacity of a volume. It does not exist if the volume is being created or
// deleted, or has no record that this version can read.
func readCapacity(ctx context.Context, s *share.Share, key string) (capacity int64, exists bool, err error) {
	r, err := s.Volumes.Lookup(ctx, key)
	switch {
	case errors.Is(err, volume.ErrNotFound), errors.Is(err, volume.ErrDamaged), errors.Is(err, volume.ErrPrecondition):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return r.Capacity, r.State == share.Ready, nil
}
