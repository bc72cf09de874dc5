// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/copytree"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// CopyOptions bound the load of copies on a server. Zero values are the defaults.
type CopyOptions struct {
	PerShare int // copies to a share at a time
	Workers  int // concurrent calls, for each
	// Step, if set, is called before each step of a copy that changes something. Tests end the
	// process there.
	Step func(what string)
}

// Defaults of CopyOptions.
const (
	DefaultCopiesPerShare = 2
	DefaultCopyWorkers    = 16
)

// failureTTL is how long a failure that no caller waited for is kept for the next retry of the request.
const failureTTL = 10 * time.Minute

// Shares is the part of the pool that a Copier uses.
type Shares interface {
	Registry() *volume.Registry
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
}

// Copier copies volumes to snapshots, and volumes and snapshots to volumes. A copy outlives the
// call that started it, and a later call for the same target joins it. (Package provision lets one
// call at a time wait for a target.) Its job is on the share, so that the next run of the driver, or
// another controller, finds it and begins it again (Run).
//
// A copy waits until it is one of CopyOptions.PerShare copies to its share. It copies the tree
// (copytree.Copy) and renews the creation meanwhile (share.CopyJob.Renew). If it fails, it undoes
// the creation. If the driver stops, it leaves the creation to the next run.
type Copier struct {
	pool  Shares
	trash Rescanner
	opt   CopyOptions
	base  context.Context
	stop  context.CancelFunc

	mu      sync.Mutex
	copies  map[targetKey]*running
	methods map[[2]string]*pairMethods // by the shares of source and target
	slots   map[string]chan struct{}   // by share
	resumes map[string]bool            // shares whose abandoned copies are being listed
	totals  map[string]*CopyTotals
	done    sync.WaitGroup
}

// targetKey identifies the target of a copy.
type targetKey struct {
	share  string
	target volume.Object
}

// pairMethods are the copy methods that work between two shares, while these stay mounted.
type pairMethods struct {
	from, to *share.Share
	methods  *copytree.Methods
}

// running is a copy. The fields after done may be read when done is closed.
type running struct {
	began  time.Time
	source volume.Source
	tree   *copytree.Copy

	done     chan struct{}
	snapshot *volume.SnapshotRecord
	volume   *volume.Record
	err      error
	ended    time.Time
	waiters  int // guarded by the Copier's mu
}

// Rescanner scans a share's trash: see [Purger.Rescan].
type Rescanner interface{ Rescan(share string) }

// NewCopier returns a Copier to the shares in pool.
func NewCopier(pool Shares, trash Rescanner, opt CopyOptions) *Copier {
	if opt.PerShare == 0 {
		opt.PerShare = DefaultCopiesPerShare
	}
	if opt.Workers == 0 {
		opt.Workers = DefaultCopyWorkers
	}
	base, stop := context.WithCancel(context.Background())
	return &Copier{
		pool: pool, trash: trash, opt: opt, base: base, stop: stop,
		copies: map[targetKey]*running{}, methods: map[[2]string]*pairMethods{}, slots: map[string]chan struct{}{},
		resumes: map[string]bool{}, totals: map[string]*CopyTotals{},
	}
}

// Run resumes abandoned copies until ctx ends: at the start those of this instance's earlier run,
// and every minute those of any instance. Then it stops all copies, which leaves them to the next
// run, and returns when they have stopped.
func (c *Copier) Run(ctx context.Context) {
	tick := time.NewTicker(scanInterval)
	defer tick.Stop()
	for {
		registry := c.pool.Registry()
		for _, s := range registry.Shares {
			c.resumeInBackground(ctx, s.Name)
		}
		c.forgetUnknown(registry)
		select {
		case <-ctx.Done():
			c.stop()
			c.done.Wait()
			return
		case <-tick.C:
		}
	}
}

// forgetUnknown removes what is kept for shares that the registry does not have any more. A copy that runs goes
// on, and keeps its share open.
func (c *Copier) forgetUnknown(registry *volume.Registry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.totals, func(share string, _ *CopyTotals) bool { return !registry.Has(share) })
	maps.DeleteFunc(c.slots, func(share string, _ chan struct{}) bool { return !registry.Has(share) })
	maps.DeleteFunc(c.methods, func(pair [2]string, _ *pairMethods) bool { return !registry.Has(pair[0]) || !registry.Has(pair[1]) })
}

// resumeInBackground resumes the copies of one share, unless a previous call still hangs.
func (c *Copier) resumeInBackground(ctx context.Context, name string) {
	c.mu.Lock()
	busy := c.resumes[name]
	c.resumes[name] = true
	c.mu.Unlock()
	if busy {
		return
	}
	c.done.Go(func() {
		if err := c.Resume(ctx, name); err != nil && ctx.Err() == nil {
			logScanError(klog.FromContext(ctx), err, "The interrupted copies cannot be listed", name)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.resumes, name)
	})
}

// logScanError logs the error of a periodic scan. For a share that is down the Watcher writes a line.
func logScanError(log klog.Logger, err error, message, share string) {
	if kind := volume.Kind(err); kind == volume.ErrUnavailable || kind == volume.ErrTimeout {
		log.V(4).Info(message, "share", share, "err", err)
		return
	}
	log.Error(err, message, "share", share)
}

// Resume starts the abandoned copies of one share again. It does not wait for them.
func (c *Copier) Resume(ctx context.Context, name string) error {
	s, release, err := c.pool.Open(ctx, name, nil)
	if err != nil {
		return err
	}
	defer release()
	copies, err := s.Jobs.Abandoned(ctx)
	for _, copy := range copies {
		klog.FromContext(ctx).Info("A copy that was interrupted is begun again", "share", name, "target", copy.Target, "source", copy.Source)
		c.start(name, copy, nil, nil)
	}
	return err
}

// Snapshot creates a snapshot (share.Snapshots.Begin), copies its source, commits it, and waits for
// that until ctx ends. It returns the existing snapshot if there is one. ErrTimeout: it is not
// complete yet, and a retry joins the copy.
func (c *Copier) Snapshot(ctx context.Context, share string, copy volume.Copy) (*volume.SnapshotRecord, error) {
	r, err := c.startAndWait(ctx, share, copy, nil, nil)
	if err != nil {
		return nil, err
	}
	return r.snapshot, nil
}

// Volume fills and commits a volume that is being created, and waits as Snapshot does. p is its
// creation, after MakeDirectory; Volume commits, aborts or closes it. options are for the mount of
// a share that is not registered.
func (c *Copier) Volume(ctx context.Context, share string, copy volume.Copy, p *share.Pending, options []string) (*volume.Record, error) {
	r, err := c.startAndWait(ctx, share, copy, p, options)
	if err != nil {
		return nil, err
	}
	return r.volume, nil
}

// Join waits, like Volume, for a copy to a target. ok is false if there is none: none runs, and
// none has failed in the last 10 minutes without a caller that got the error.
func (c *Copier) Join(ctx context.Context, share string, target volume.Object) (r *volume.Record, ok bool, err error) {
	c.mu.Lock()
	running := c.copies[targetKey{share, target}]
	if running == nil {
		c.mu.Unlock()
		return nil, false, nil
	}
	running.waiters++
	c.mu.Unlock()
	running, err = c.wait(ctx, targetKey{share, target}, running)
	if err != nil {
		return nil, true, err
	}
	return running.volume, true, nil
}

func (c *Copier) startAndWait(ctx context.Context, share string, copy volume.Copy, p *share.Pending, options []string) (*running, error) {
	at := targetKey{share, copy.Target}
	r := c.start(share, copy, p, options)
	c.mu.Lock()
	r.waiters++
	c.mu.Unlock()
	return c.wait(ctx, at, r)
}

// wait waits for a copy until ctx ends.
func (c *Copier) wait(ctx context.Context, at targetKey, r *running) (*running, error) {
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r.waiters--
	select {
	case <-r.done:
		if c.copies[at] == r {
			delete(c.copies, at) // a caller has its result
		}
		return r, r.err
	default:
	}
	return nil, volume.Errorf(volume.ErrTimeout, "share %s: %s is being made from %s, for %v so far: %s; it goes on, and a retry waits for the same copy",
		at.share, at.target, r.source, time.Since(r.began).Round(time.Second), formatProgress(r.tree))
}

// start starts a copy, or finds it running.
func (c *Copier) start(share string, copy volume.Copy, p *share.Pending, options []string) *running {
	at := targetKey{share, copy.Target}
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, r := range c.copies { // results without a caller
		if !r.ended.IsZero() && r.waiters == 0 && time.Since(r.ended) > failureTTL {
			delete(c.copies, at)
		}
	}
	if r := c.copies[at]; r != nil && (p == nil || r.ended.IsZero()) {
		if p != nil {
			p.Close()
		}
		return r
	}
	r := &running{began: time.Now(), source: copy.Source, done: make(chan struct{}), tree: &copytree.Copy{Workers: c.opt.Workers, Step: c.opt.Step}}
	c.copies[at] = r
	c.done.Go(func() { c.run(share, copy, p, options, r) })
	return r
}

// methodsFor returns the copy methods between two shares. It drops them when a share is mounted again: its
// server may support more.
func (c *Copier) methodsFor(from, to *share.Share) *copytree.Methods {
	c.mu.Lock()
	defer c.mu.Unlock()
	pair := [2]string{from.Definition().Name, to.Definition().Name}
	k := c.methods[pair]
	if k == nil || k.from != from || k.to != to {
		k = &pairMethods{from, to, &copytree.Methods{}}
		c.methods[pair] = k
	}
	return k.methods
}

// slot returns the channel that bounds the copies to a share.
func (c *Copier) slot(share string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.slots[share] == nil {
		c.slots[share] = make(chan struct{}, c.opt.PerShare)
	}
	return c.slots[share]
}

// run makes one copy when it gets a slot.
func (c *Copier) run(share string, copy volume.Copy, p *share.Pending, options []string, r *running) {
	log := klog.Background().WithValues("share", share, "target", copy.Target, "source", copy.Source)
	ctx := klog.NewContext(c.base, log)
	slot := c.slot(share)
	select {
	case slot <- struct{}{}:
		a := &attempt{c: c, copy: copy, pending: p, options: options, running: r}
		r.err = a.run(ctx, share)
		<-slot
		if r.err != nil || p == nil { // an incomplete copy may be there
			c.trash.Rescan(share)
		}
	case <-ctx.Done():
		r.err = volume.Errorf(volume.ErrUnavailable, "the controller is stopping: the copy goes on when one runs again")
	}
	log = log.WithValues("duration", time.Since(r.began).Round(time.Millisecond))
	switch {
	case r.err == nil:
		log.Info("Copy made", logValues(r.tree)...)
	case c.base.Err() != nil:
		log.Info("Copy left to the next run")
	case errors.Is(r.err, volume.ErrBusy):
		log.Info("Copy not begun", "reason", r.err.Error())
	default:
		log.Error(r.err, "Copy failed", logValues(r.tree)...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totalsOf(share).add(r.tree, r.err)
	r.ended = time.Now()
	close(r.done)
	if r.err == nil && r.waiters == 0 {
		delete(c.copies, targetKey{share, copy.Target}) // its record is on the share
	}
}

// formatProgress describes the progress of a copy.
func formatProgress(t *copytree.Copy) string {
	return fmt.Sprintf("%d files and %d directories, %s cloned, %s copied by the server, %s read and written",
		t.Files.Load(), t.Dirs.Load(), volume.FormatBytes(t.Cloned.Bytes.Load()), volume.FormatBytes(t.Copied.Bytes.Load()), volume.FormatBytes(t.Written.Bytes.Load()))
}

// logValues returns the progress of a copy as key-value pairs.
func logValues(t *copytree.Copy) []any {
	return []any{
		"files", t.Files.Load(), "directories", t.Dirs.Load(),
		"cloned", t.Cloned.Files.Load(), "copiedByServer", t.Copied.Files.Load(), "readAndWritten", t.Written.Files.Load(),
		"bytesCloned", t.Cloned.Bytes.Load(), "bytesCopiedByServer", t.Copied.Bytes.Load(), "bytesReadAndWritten", t.Written.Bytes.Load(),
		"skipped", t.Skipped.Load(), "vanished", t.Vanished.Load(), "attributesLost", t.Lost.Load(),
	}
}
