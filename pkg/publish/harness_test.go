// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// node is a Service with a fake mounter and directories for targets.
type node struct {
	*Service
	*testing.T
	mounter  *mount.Fake
	probes   *prober
	inlines  []ChildRequest
	fresh    int   // number of fresh mounts
	inlineDo error // error of the next inline requests
	registry *volume.Registry
	dir      string
}

// prober answers for any path, and records which paths are queried and which are forgotten.
type prober struct {
	mu                      sync.Mutex
	usage, asked, forgotten []string
	mounts                  map[string]error // by path
	answers                 map[string]probe.MountStatus
	servers                 map[string]error // by address
	took                    time.Duration
}

func (p *prober) Server(_ context.Context, e probe.Endpoint) (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.took, p.servers[e.Address]
}

func (p *prober) Watch(ctx context.Context, _ probe.Endpoint) (context.Context, context.CancelFunc) {
	return ctx, func() {}
}

func (p *prober) Query(_ context.Context, m probe.Mount, _ time.Duration) (probe.MountStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, m.Path)
	return p.answers[m.Path], p.mounts[m.Path]
}

func (p *prober) Usage(_ context.Context, m probe.Mount) (volume.Space, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.usage = append(p.usage, m.Path)
	return volume.Space{Total: 7}, nil
}

func (p *prober) MarkHealthy(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mounts, path)
}

func (p *prober) Forget(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten = append(p.forgotten, path)
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{T: t, dir: t.TempDir(), probes: &prober{mounts: map[string]error{}, answers: map[string]probe.MountStatus{}, servers: map[string]error{}}}
	for _, name := range []string{"root/export/v1", "root/export/v2", "root/export/" + named, "pods"} {
		if err := os.MkdirAll(n.at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.mounter = &mount.Fake{Root: n.at("root")}
	n.registry = &volume.Registry{Shares: []volume.Share{{
		Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export", MountOptions: []string{"nodev", "nfsvers=4.2"},
	}}}
	n.Service = n.service(n.mounter)
	return n
}

// service returns a new Service with the node's state, as after a restart.
func (n *node) service(mounter Mounter) *Service {
	n.Helper()
	s, err := New(func() *volume.Registry { return n.registry }, mounter, n.probes, n.at("state"), n.do)
	n.must(err)
	return s
}

// do records a request for an inline volume, and lets the fake mount what the child would.
func (n *node) do(ctx context.Context, r ChildRequest) error {
	if r.Volume {
		n.fresh++
		if err := n.Pods.mounter.Mount(ctx, mount.Spec{Source: r.Share.Source(r.Server, r.Directory), Target: r.Target, Options: r.Options}); err != nil || !r.ReadOnly {
			return err
		}
		return n.Pods.mounter.Restrict(r.Target)
	}
	n.inlines = append(n.inlines, r)
	if n.inlineDo != nil || r.Target == "" {
		return n.inlineDo
	}
	dir := r.Directory
	if r.Key != "" {
		dir = volume.StateDir + "/" + volume.InlineDir + "/" + r.Key
		n.must(os.MkdirAll(n.at("root"+r.Share.Path+"/"+dir), 0o755))
	}
	mode := "rw"
	if r.ReadOnly {
		mode = "ro"
	}
	return n.Pods.mounter.Mount(ctx, mount.Spec{Source: r.Share.Source(r.Server, dir), Target: r.Target, Options: []string{mode}})
}

func (n *node) at(name string) string { return filepath.Join(n.dir, name) }

// publish publishes v1 at a target in the directory pods.
func (n *node) publish(target string, change func(*volume.PublishRequest)) error {
	r := volume.PublishRequest{ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: "v1"}, Target: n.at("pods/" + target)}
	if change != nil {
		change(&r)
	}
	return n.Pods.Publish(context.Background(), r)
}

// v2 changes a request to another volume.
func v2(r *volume.PublishRequest) { r.ID, r.Location.Directory = "nas1/v2", "v2" }

// named is the directory of a volume of external-provisioner.
const named = "team-data-pvc-4f9e6a7e-1f0e-4bd7-9d8b-0c6b9fb3a1d2"

// own changes a request to a volume with a unique name.
func own(r *volume.PublishRequest) { r.ID, r.Location.Directory = "nas1/"+named[10:], named }

func readOnly(r *volume.PublishRequest) { r.ReadOnly = true }

func single(r *volume.PublishRequest) { r.SingleWriter = true }

func (n *node) unpublish(target string) error {
	return n.Pods.Unpublish(context.Background(), "nas1/v1", n.at("pods/"+target))
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// refused fails the test unless err has this kind.
func (n *node) refused(what string, err, kind error) {
	n.Helper()
	if err == nil || volume.Kind(err) != kind {
		n.Errorf("%s: error = %v (kind %v), want kind %v", what, err, volume.Kind(err), kind)
	}
}

// mounted returns the mount at a path, if there is one.
func (n *node) mounted(name string) (mount.Entry, bool) {
	n.Helper()
	table, err := n.mounter.Table()
	n.must(err)
	return table.At(n.at(name))
}

// wantMounts fails the test unless there were this many mounts and binds.
func (n *node) wantMounts(mounts, binds int) {
	n.Helper()
	if n.mounter.Mounts != mounts || n.mounter.Binds != binds {
		n.Errorf("%d mounts and %d binds, want %d and %d", n.mounter.Mounts, n.mounter.Binds, mounts, binds)
	}
}

// absent fails the test if a path exists.
func (n *node) absent(name string) {
	n.Helper()
	if _, err := os.Lstat(n.at(name)); !errors.Is(err, os.ErrNotExist) {
		n.Errorf("%s exists (%v)", name, err)
	}
}
