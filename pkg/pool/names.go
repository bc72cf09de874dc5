// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"slices"

	"github.com/mooring-csi/mooring/pkg/volume"
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
			names = append(names, p.Name(name)) // it may have been registered since
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// replaceRenamed replaces the entry of a share under another name: an export that has been registered
// since. The caller holds p.mu.
func (p *Pool) replaceRenamed(def volume.Share) {
	for name, e := range p.open {
		if name != def.Name && def.Matches(name) {
			e.replaced = true
			delete(p.open, name)
			p.closeUnused(e)
		}
	}
}
