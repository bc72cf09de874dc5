// SPDX-License-Identifier: Apache-2.0

// Package pool keeps shares mounted and open for as long as they can be used.
//
// A share is mounted and opened when somebody first asks for it, once for all who do, and stays
// open: an operation on it costs no mount. It is given up, and mounted anew for the next who
// asks, when its server does not answer and there is another, when what is mounted turns out
// not to be the share any more, or when the registry says something else about it. Who still
// uses the old mount keeps it; it is unmounted after its last user.
package pool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

const (
	// mountTimeout bounds the mounts of a share, from all its servers.
	mountTimeout = 20 * time.Second
	// failureTTL is how long a failed mount answers for the next callers, so that they do not wait for a
	// dead server.
	failureTTL = 2 * time.Second
	// closeTimeout bounds the wait for running mounts in Close.
	closeTimeout = 5 * time.Second
)

// Mounter is what the pool needs of package mount.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Unmount(ctx context.Context, target string) error
	Interrupt(target string) error
}

// Pool keeps shares mounted and open. Its methods may be called at the same time.
type Pool struct {
	registry func() *volume.Registry
	mounter  Mounter
	dir      string
	opt      Options

	ending context.Context // no mount outlives it
	end    context.CancelFunc
	busy   sync.WaitGroup // mounting, and unmounting what was replaced

	mu   sync.Mutex
	open map[string]*pooled
	seen memory
}

// pooled is one share in the pool. Its fields are the pool's, but for what comes after done.
type pooled struct {
	def         volume.Share
	asked       []string // options for an export that is not registered
	users       int
	old         bool // replaced: to be closed with its last user
	interrupted bool // see interrupt

	done    chan struct{} // closed when the mount has succeeded or failed
	share   *share.Share
	server  string // by which it is mounted
	version string // of NFS; "": not known
	err     error
	failed  time.Time
	target  string
}

// New returns a pool that mounts shares beneath dir, a local directory, as the registry
// in force says.
func New(registry func() *volume.Registry, mounter Mounter, dir string, opt Options) *Pool {
	opt.Share.Run = randomHex(4)
	ending, end := context.WithCancel(context.Background())
	return &Pool{registry: registry, mounter: mounter, dir: dir, opt: opt, ending: ending, end: end, open: map[string]*pooled{}, seen: memory{}}
}

// Registry returns the registry in force.
func (p *Pool) Registry() *volume.Registry { return p.registry() }

// Open returns the share of that name, mounted. The caller calls release when it is done
// with it. Until then the work that ctx is of ([bounded.Call]) is abandoned when the share's server
// stops answering. Of callers that come while it is being mounted, each waits until its own ctx ends.
// options are for a share that is not registered, where the first mount of it needs some.
func (p *Pool) Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error) {
	def, err := p.registry().Resolve(name)
	if err != nil {
		return nil, nil, err
	}
	e := p.take(ctx, def, options)
	select {
	case <-e.done:
	case <-ctx.Done():
		p.release(e)
		return nil, nil, volume.Errorf(volume.ErrUnavailable, "share %s: it is still being mounted (%w): its server does not answer so far: check that it runs and that port 2049 is reachable from here", def, ctx.Err())
	}
	if err := p.answers(ctx, e); err != nil {
		p.release(e)
		return nil, nil, err
	}
	stop := p.watch(ctx, e)
	return e.share, sync.OnceFunc(func() { stop(); p.release(e) }), nil
}

// answers returns an error if the share could not be opened, or its server does not answer now: a
// call on it would not come back for half a minute.
func (p *Pool) answers(ctx context.Context, e *pooled) error {
	if e.err != nil {
		return e.err
	}
	if err := p.opt.answers(ctx, e.server, e.def.MountOptions); err != nil {
		return p.unavailable(e, e.share, err)
	}
	return nil
}

// watch abandons the work that ctx is of when the server of an open share stops answering, until
// stop is called. Without such work it does nothing.
func (p *Pool) watch(ctx context.Context, e *pooled) (stop func()) {
	abandon := bounded.AbandonFunc(ctx)
	if p.opt.Servers == nil || abandon == nil {
		return func() {}
	}
	s := e.share // it may be closed when stop is called
	watched, stop := p.opt.Servers.Watch(ctx, probe.EndpointOf(e.server, e.def.MountOptions))
	context.AfterFunc(watched, func() {
		if err := context.Cause(watched); ctx.Err() == nil && volume.Kind(err) == volume.ErrUnavailable {
			abandon(p.unavailable(e, s, err))
		}
	})
	return stop
}

func (e *pooled) ready() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// usable reports whether an entry serves one who wants def now.
func (e *pooled) usable(def volume.Share) bool {
	switch {
	case !e.def.SameMount(def), e.def.TrashRetention != def.TrashRetention, e.def.MaxVolumes != def.MaxVolumes, e.def.ID != def.ID:
		return false
	case !e.ready():
		return true
	case e.err != nil:
		return time.Since(e.failed) < failureTTL
	}
	return !e.share.Lost()
}

// take finds or makes the entry of a share and counts the caller as its user.
func (p *Pool) take(ctx context.Context, def volume.Share, options []string) *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending.Err() != nil {
		e := &pooled{def: def, users: 1, done: make(chan struct{}), err: volume.Errorf(volume.ErrUnavailable, "share %s: the driver is being stopped", def)}
		close(e.done)
		return e
	}
	p.renamed(def)
	e := p.open[def.Name]
	if e != nil && !e.usable(def) {
		if options == nil {
			options = e.asked // who comes without any wants it as it was
		}
		p.seen.leave(e)
		e.old = true
		p.reap(e)
		e = nil
	}
	if e == nil {
		e = &pooled{def: def, asked: options, done: make(chan struct{}), target: p.target(def.Name)}
		p.open[def.Name] = e
		e.users++ // the mounting's
		// Not the caller's ctx: others wait for this mount too, and a later one will.
		p.busy.Go(func() { p.mount(context.WithoutCancel(ctx), e, options) })
	}
	e.users++
	return e
}

func (p *Pool) mount(ctx context.Context, e *pooled, options []string) {
	defer p.release(e)
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	defer context.AfterFunc(p.ending, cancel)()
	log := klog.FromContext(ctx)
	start := time.Now()
	e.share, e.err = p.mountOne(ctx, e, options)
	if e.err != nil {
		e.failed = time.Now()
		p.opt.removeTarget(e.target)
		log.Error(e.err, "Share cannot be used", "share", e.def.Name, "duration", time.Since(start))
	} else {
		log.Info("Share mounted", "share", e.def.String(), "at", e.target, "nfs", e.version, "duration", time.Since(start))
		tellTwins(log, p, e)
	}
	close(e.done)
}

func (p *Pool) mountOne(ctx context.Context, e *pooled, options []string) (*share.Share, error) {
	if p.opt.Premounted == "" {
		if err := os.MkdirAll(e.target, 0o700); err != nil {
			return nil, fmt.Errorf("make the mount point of share %s: %w", e.def, err)
		}
	}
	if _, _, unregistered := volume.SplitExport(e.def.Name); !unregistered {
		options = nil // the registry's are for all, and a class's for its pods
	}
	options = ControllerOptions(e.def.MountOptions, options)
	if p.opt.Share.ReadOnly {
		options = volume.MergeMountOptions(options, []string{"ro"})
	}
	var errs []error
	for _, server := range e.def.Servers {
		each, cancel := context.WithTimeout(ctx, mountTimeout/time.Duration(len(e.def.Servers)))
		err := p.opt.answers(each, server, e.def.MountOptions)
		if err == nil {
			err = p.mounter.Mount(each, mount.Spec{Source: e.def.Source(server, ""), Target: e.target, Options: options, OwnClient: p.opt.OwnClient, MultipleAddresses: len(e.def.Servers) > 1})
		}
		cancel()
		if err == nil {
			e.server, e.version = server, p.opt.version(e.target)
			tellVersion(klog.FromContext(ctx), e, options)
			return p.openMounted(ctx, e)
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("share %s: %w", e.def, errors.Join(errs...))
}

// openMounted opens what is mounted now. The server may die at any moment, also this one.
func (p *Pool) openMounted(ctx context.Context, e *pooled) (*share.Share, error) {
	s, err := bounded.Call(ctx, func(context.Context) (*share.Share, error) { return openKnown(p, e) }, (*share.Share).Close)
	if abandoned, ok := errors.AsType[bounded.Abandoned](err); ok {
		err = volume.Errorf(volume.ErrUnavailable, "share %s: mounted, but the server does not answer (%w): check that it runs and that port 2049 is reachable from here", e.def, abandoned.Cause)
	}
	if err != nil {
		_ = p.mounter.Unmount(context.WithoutCancel(ctx), e.target)
	}
	return s, err
}

func (p *Pool) release(e *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.users--
	p.reap(e)
}

// reap closes an entry that was replaced and has no users. It is called with the pool locked.
func (p *Pool) reap(e *pooled) {
	if !e.old || e.users > 0 || e.share == nil || p.ending.Err() != nil {
		return
	}
	s := e.share
	e.share = nil
	p.busy.Go(func() {
		s.Close()
		p.detach(e.target)
	})
}

func (p *Pool) detach(target string) {
	ctx, cancel := context.WithTimeout(context.Background(), mountTimeout)
	defer cancel()
	if err := p.mounter.Unmount(ctx, target); err != nil {
		klog.Background().Error(err, "A share's old mount stays", "target", target)
		return
	}
	p.opt.removeTarget(target)
}

func (o Options) removeTarget(target string) {
	if o.Premounted == "" {
		_ = os.Remove(target)
	}
}

// Close unmounts every share, and gives up what is being mounted. It is for the end of the
// process: users are not waited for, and nothing can be opened any more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.busy.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, e := range p.open {
		if e.ready() && e.err == nil {
			p.detach(e.target)
		}
		delete(p.open, name)
	}
}

// Clean unmounts what an earlier process that was killed has left mounted beneath the pool's
// directory. table says what is mounted.
func (p *Pool) Clean(table mount.Table) {
	for _, e := range table {
		if strings.HasPrefix(e.Target, p.dir+"/") {
			p.detach(e.Target)
		}
	}
}

// target returns where a share is mounted, or else a new mount point, named after the share as far as a name can be.
func (p *Pool) target(name string) string {
	if p.opt.Premounted != "" {
		return filepath.Join(p.opt.Premounted, name)
	}
	safe := name
	if strings.ContainsAny(name, ":/[]") {
		sum := sha256.Sum256([]byte(name))
		safe = hex.EncodeToString(sum[:8])
	}
	return filepath.Join(p.dir, safe+"."+randomHex(4))
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}
