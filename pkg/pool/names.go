// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// Name returns the one name by which the pool has a share, of the several that an export can have.
func (p *Pool) Name(name string) string {
	if def, err := p.registry().Resolve(name); err == nil {
		return def.Name
	}
	return name
}

// Opened returns the names of the shares that are mounted, registered or not.
func (p *Pool) Opened() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name, e := range p.open {
		if e.ready() && e.err == nil {
			names = append(names, name)
		}
	}
	return names
}

// Known returns the names of the registered shares, and of the exports that are mounted without
// being registered, sorted.
func (p *Pool) Known() []string {
	var names []string
	for _, s := range p.Registry().Shares {
		names = append(names, s.Name)
	}
	for _, name := range p.Opened() {
		if _, _, export := volume.SplitExport(name); export {
			names = append(names, p.Name(name)) // it may have been registered since
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// renamed gives up what is open of a share under another name: an export that has been registered
// since. It is called with the pool locked.
func (p *Pool) renamed(def volume.Share) {
	for name, e := range p.open {
		if name != def.Name && def.Matches(name) {
			e.old = true
			delete(p.open, name)
			p.reap(e)
		}
	}
}
