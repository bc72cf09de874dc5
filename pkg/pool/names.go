// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"

	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// Name returns the name that a share has in the pool: an export can be spelled in several ways.
func (p *Pool) Name(name string) string {
	def, err := p.registry().Resolve(name)
	if err != nil {
		return name
	}
	return def.Name
}

// Opened returns the names of the shares that are mounted, registered or not.
func (p *Pool) Opened() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follow()
	var names []string
	for name, e := range p.open {
		if e.isOpen() {
			names = append(names, name)
		}
	}
	return names
}

// Known returns the names of the registered shares, and of the mounted exports that are not
// registered, sorted.
func (p *Pool) Known() []string {
	var names []string
	for _, s := range p.Registry().Shares {
		names = append(names, s.Name)
	}
	for _, name := range p.Opened() {
		if _, _, export := volume.SplitExport(name); export {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// follow returns the current registry, and replaces the entries of shares that it does not have under their
// names: a share was removed, or an export was registered since. Each use of the pool calls it, as a share that
// was removed has no use of its own. The caller holds p.mu.
//
// Their identities stay. A share may be removed by mistake, or while its server is repaired, and be registered
// again. If its disk is not mounted then, it must be refused as if it had never been away.
func (p *Pool) follow() *volume.Registry {
	r := p.registry()
	if r == p.followed {
		return r
	}
	p.followed = r
	for name, e := range p.open {
		if !r.Has(name) {
			klog.Background().Info("Share let go: the configuration does not have it under this name any more", "share", e.def.String())
			e.replace(p)
		}
	}
	return r
}
