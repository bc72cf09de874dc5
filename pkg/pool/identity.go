// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// identity is a share as this process has last opened it.
type identity struct {
	def volume.Share
	id  string
}

// identities are the shares that this process has opened, by name.
type identities map[string]identity

// openVerified opens a share after its mount, unless it is not the same share as before.
func openVerified(p *Pool, e *entry) (*share.Share, error) {
	s, err := share.Open(e.target, e.def, p.opt.Share)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.identities.verify(e.def, s); err != nil {
		s.Close()
		return nil, fmt.Errorf("share %s: %w", e.def, err)
	}
	p.identities.remember(e.def, s)
	return s, nil
}

// verify compares a share that has just been mounted with the share that it was before, if its
// definition in the registry is the same. It refuses a share that was laid out before and is not any
// more: its disk is most likely not mounted on the server, and the next volume would be created in its
// place. It refuses a share with another id, too: its disk is most likely that of another share. If
// this is intended, the registry must say so.
func (m identities) verify(def volume.Share, s *share.Share) error {
	before, seen := m[def.Name]
	id := s.Identity.ID()
	switch {
	case !seen || !before.def.SameMount(def) || before.def.ID != def.ID:
		return nil
	case !s.Initialized():
		return volume.EmptiedShareError(def.Name, before.id)
	case before.id != "" && before.id != id:
		return volume.AnotherShareError(before.id, id)
	}
	return nil
}

// remember stores the identity of a share.
func (m identities) remember(def volume.Share, s *share.Share) {
	if s.Initialized() {
		m[def.Name] = identity{def, s.Identity.ID()}
	}
}

// rememberEntry stores the identity of a share before it is mounted again: a share that got another id
// while it was mounted here is the same disk.
func (m identities) rememberEntry(e *entry) {
	if e.isOpen() {
		m.remember(e.def, e.share)
	}
}

// twins returns the names of the other shares that have the id of this one, sorted: either both names
// are of one directory, or one share is a copy of the other. Shares that are not in the registry any
// more do not count.
func (m identities) twins(registry *volume.Registry, def volume.Share) (names []string) {
	id := m[def.Name].id
	if id == "" {
		return nil
	}
	for name, other := range m {
		now, err := registry.Resolve(name)
		if err != nil || now.Name == def.Name || other.id != id || !now.SameMount(other.def) {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// logTwins logs the other shares that have the id of a share that has just been opened.
func logTwins(log klog.Logger, p *Pool, e *entry) {
	registry := p.registry()
	p.mu.Lock()
	twins := p.identities.twins(registry, e.def)
	p.mu.Unlock()
	for _, other := range twins {
		log.Info("Two shares have one id: one is a copy of the other (then give it an id of its own: mooringctl share reidentify), or they are one directory under two names (then one is enough)", "share", e.def.Name, "other", other, "id", e.share.Identity.ID())
	}
}
