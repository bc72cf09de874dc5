// SPDX-License-Identifier: Apache-2.0

// Package pool keeps shares mounted and open for as long as they can be used.
//
// A share is mounted and opened for its first caller, once for all callers, and stays open: an
// operation on it costs no mount. It is replaced, and mounted again for the next caller, when its
// server does not answer and it has another one, when it is lost (share.Share.Lost), or when its
// definition in the registry changes. It is let go when the registry does not have it any more. Callers that
// use the old mount keep it; it is unmounted after its last user.
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

// Mounter is the part of package mount that the pool uses.
type Mounter interface {
	Mount(ctx context.Context, s mount.Spec) error
	Unmount(ctx context.Context, target string) error
	Interrupt(target string) error
}

// Pool keeps shares mounted and open. Its methods may be called concurrently.
type Pool struct {
	registry func() *volume.Registry
	mounter  Mounter
	dir      string
	opt      Options

	ending     context.Context // ends all mounts
	end        context.CancelFunc
	background sync.WaitGroup // mounts, and unmounts of replaced entries

	mu         sync.Mutex
	open       map[string]*entry
	followed   *volume.Registry // that open was last compared with: see follow
	identities identities
}

// entry is one share in the pool. Pool.mu guards its fields, except those after done.
type entry struct {
	def         volume.Share
	options     []string // for an export that is not registered
	users       int
	replaced    bool // to be closed after its last user
	interrupted bool // see interrupt

	done    chan struct{} // closed when the mount has succeeded or failed
	share   *share.Share
	server  string // that it is mounted from
	version string // of NFS; "": unknown
	err     error
	failed  time.Time
	target  string
}

// New returns a pool that mounts the shares of the current registry under dir, a local directory.
func New(registry func() *volume.Registry, mounter Mounter, dir string, opt Options) *Pool {
	opt.Share.Run = randomHex(4)
	ending, end := context.WithCancel(context.Background())
	return &Pool{registry: registry, mounter: mounter, dir: dir, opt: opt, ending: ending, end: end, open: map[string]*entry{}, identities: identities{}}
}

// Registry returns the current registry.
func (p *Pool) Registry() *volume.Registry { return p.registry() }

// Open returns the share of that name, mounted (Mounter.Mount) and opened (share.Open). The caller
// must call release after its use. Until then, the work that runs with ctx ([bounded.Call]) is
// abandoned when the share's server stops answering. While the share is being mounted, each caller
// waits until its own ctx ends. options are for the first mount of a share that is not registered.
//
// ErrPrecondition: the share is not registered, or is not the one that was mounted before under
// this definition. ErrUnavailable: no server answers; later callers get the error of a mount for 2
// seconds.
func (p *Pool) Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error) {
	e, err := p.acquire(ctx, name, options)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		p.release(e)
		return nil, nil, volume.Errorf(volume.ErrUnavailable, "share %s: it is still being mounted (%w): its server does not answer so far: check that it runs and that port 2049 is reachable from here", e.def, ctx.Err())
	}
	if err := p.answers(ctx, e); err != nil {
		p.release(e)
		return nil, nil, err
	}
	stop := p.watch(ctx, e)
	return e.share, sync.OnceFunc(func() { stop(); p.release(e) }), nil
}

// answers returns an error if the share could not be opened, or its server does not answer now: a
// call on it would not return for half a minute.
func (p *Pool) answers(ctx context.Context, e *entry) error {
	if e.err != nil {
		return e.err
	}
	err := p.opt.answers(ctx, e.server, e.def.MountOptions)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the server may still answer
		return fmt.Errorf("share %s: %w", e.def, err)
	}
	return p.unavailable(e, e.share, err)
}

// watch abandons the work of ctx when the server of an open share stops answering, until stop is
// called. It does nothing if ctx has no such work.
func (p *Pool) watch(ctx context.Context, e *entry) (stop func()) {
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

func (e *entry) isReady() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

// isOpen reports whether the share was mounted and opened.
func (e *entry) isOpen() bool { return e.isReady() && e.err == nil }

// isUsable reports whether an entry serves callers that want def now.
func (e *entry) isUsable(def volume.Share) bool {
	switch {
	case !e.def.SameMount(def), e.def.TrashRetention != def.TrashRetention, e.def.MaxVolumes != def.MaxVolumes, e.def.ID != def.ID:
		return false
	case !e.isReady():
		return true
	case e.err != nil:
		return time.Since(e.failed) < failureTTL
	}
	return !e.share.Lost()
}

// acquire finds or adds the entry of a share and counts the caller as its user.
func (p *Pool) acquire(ctx context.Context, name string, options []string) (*entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	def, err := p.follow().Resolve(name)
	switch {
	case err != nil:
		return nil, err
	case p.ending.Err() != nil:
		return nil, volume.Errorf(volume.ErrUnavailable, "share %s: the driver is being stopped", def)
	}
	e := p.open[def.Name]
	if e != nil && !e.isUsable(def) {
		if options == nil {
			options = e.options // a caller without options gets those of the first mount
		}
		e.replace(p)
		e = nil
	}
	if e == nil {
		e = &entry{def: def, options: options, done: make(chan struct{}), target: p.mountPoint(def.Name)}
		p.open[def.Name] = e
		e.users++ // the mount itself
		// Not the caller's ctx: other callers, and later ones, wait for this mount too.
		p.background.Go(func() { p.mount(context.WithoutCancel(ctx), e, options) })
	}
	e.users++
	return e, nil
}

// replace removes an entry from the pool; it is closed after its last user. The caller holds p.mu.
func (e *entry) replace(p *Pool) {
	p.identities.rememberEntry(e)
	e.replaced = true
	delete(p.open, e.def.Name)
	p.closeUnused(e)
}

func (p *Pool) mount(ctx context.Context, e *entry, options []string) {
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
		log.V(4).Info("Share cannot be used", "share", e.def.Name, "duration", time.Since(start), "err", e.err) // the caller reports it
	} else {
		log.Info("Share mounted", "share", e.def.String(), "at", e.target, "nfs", e.version, "duration", time.Since(start))
		logTwins(log, p, e)
	}
	close(e.done)
}

func (p *Pool) mountOne(ctx context.Context, e *entry, options []string) (*share.Share, error) {
	if p.opt.Premounted == "" {
		if err := os.MkdirAll(e.target, 0o700); err != nil {
			return nil, fmt.Errorf("make the mount point of share %s: %w", e.def, err)
		}
	}
	if _, _, unregistered := volume.SplitExport(e.def.Name); !unregistered {
		options = nil // a registered share has its own; those of a class are for pods
	}
	options = ControllerOptions(e.def.MountOptions, options)
	if p.opt.Share.ReadOnly {
		options = volume.MergeMountOptions(options, []string{"ro"})
	}
	var errs []error
	for _, server := range e.def.Servers {
		each, cancel := context.WithTimeout(ctx, mountTimeout/time.Duration(len(e.def.Servers)))
		err := mountFrom(each, p, e, server, options)
		cancel()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		e.server, e.version = server, p.opt.version(e.target)
		logVersion(klog.FromContext(ctx), e, options)
		return p.openMounted(ctx, e)
	}
	return nil, fmt.Errorf("share %s: %w", e.def, errors.Join(errs...))
}

func mountFrom(ctx context.Context, p *Pool, e *entry, server string, options []string) error {
	if err := p.opt.answers(ctx, server, e.def.MountOptions); err != nil {
		return err
	}
	return p.mounter.Mount(ctx, mount.Spec{Source: e.def.Source(server, ""), Target: e.target, Options: options, OwnClient: p.opt.OwnClient, MultipleAddresses: len(e.def.Servers) > 1})
}

// openMounted opens a share after its mount. The server may die at any moment, also now.
func (p *Pool) openMounted(ctx context.Context, e *entry) (*share.Share, error) {
	s, err := bounded.Call(ctx, func(context.Context) (*share.Share, error) { return openVerified(p, e) }, (*share.Share).Close)
	if abandoned, ok := errors.AsType[bounded.Abandoned](err); ok {
		err = volume.Errorf(volume.ErrUnavailable, "share %s: mounted, but the server does not answer (%w): check that it runs and that port 2049 is reachable from here", e.def, abandoned.Cause)
	}
	if err != nil {
		_ = p.mounter.Unmount(context.WithoutCancel(ctx), e.target)
	}
	return s, err
}

func (p *Pool) release(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.users--
	p.closeUnused(e)
}

// closeUnused closes an entry that was replaced and has no users. The caller holds p.mu.
func (p *Pool) closeUnused(e *entry) {
	if !e.replaced || e.users > 0 || e.share == nil || p.ending.Err() != nil {
		return
	}
	s := e.share
	e.share = nil
	p.background.Go(func() {
		s.Close()
		if p.unmount(e.target) {
			klog.Background().Info("Share unmounted", "share", e.def.String(), "at", e.target)
		}
	})
}

func (p *Pool) unmount(target string) (done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), mountTimeout)
	defer cancel()
	if err := p.mounter.Unmount(ctx, target); err != nil {
		klog.Background().Error(err, "A share's old mount stays", "target", target)
		return false
	}
	p.opt.removeTarget(target)
	return true
}

func (o Options) removeTarget(target string) {
	if o.Premounted == "" {
		_ = os.Remove(target)
	}
}

// Close unmounts every share and cancels running mounts. It is for the end of the process: it does
// not wait for users, and Open fails afterwards.
func (p *Pool) Close() {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.background.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(closeTimeout):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, e := range p.open {
		if e.isOpen() {
			p.unmount(e.target)
		}
		delete(p.open, name)
	}
}

// Clean unmounts the mounts of table that an earlier, killed process has left under the pool's
// directory.
func (p *Pool) Clean(table mount.Table) {
	for _, e := range table {
		if strings.HasPrefix(e.Target, p.dir+"/") {
			p.unmount(e.Target)
		}
	}
}

// mountPoint returns the mount point of a premounted share, or else a new one, with the share's name if
// that is a valid file name.
func (p *Pool) mountPoint(name string) string {
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
