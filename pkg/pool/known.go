// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"slices"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// known is a share as this process has seen it.
type known struct {
	def volume.Share
	id  string
}

// memory is of the shares that this process has seen, by name.
type memory map[string]known

// openKnown opens what is mounted, unless it is not the share that it was.
func openKnown(p *Pool, e *pooled) (*share.Share, error) {
	s, err := share.Open(e.target, e.def, p.opt.Share)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.seen.recognize(e.def, s); err != nil {
		s.Close()
		return nil, fmt.Errorf("share %s: %w", e.def, err)
	}
	p.seen.remember(e.def, s)
	return s, nil
}

// recognize compares a share that has just been mounted with what it was before, as long as the
// registry has said the same of it. One that has been laid out, and is not any more, is refused: its
// disk is most likely not mounted on the server, and the next volume would be made in its place. One
// with another id is refused, too: its disk is most likely that of another share. If it is meant, the
// registry is to say so.
func (m memory) recognize(def volume.Share, s *share.Share) error {
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

// remember notes which share it is.
func (m memory) remember(def volume.Share, s *share.Share) {
	if s.Initialized() {
		m[def.Name] = known{def, s.Identity.ID()}
	}
}

// leave notes once more which share it is that is being given up: one that got another id while it
// was mounted here is the same disk.
func (m memory) leave(e *pooled) {
	if e.ready() && e.err == nil {
		m.remember(e.def, e.share)
	}
}

// twins returns the names of the other shares that have the id of this one, sorted: either two names
// are those of one directory, or one is a copy of the other. Those that the registry does not have any
// more do not count.
func (m memory) twins(registry *volume.Registry, def volume.Share) (names []string) {
	id := m[def.Name].id
	if id == "" {
		return nil
	}
	for name, other := range m {
		if now, err := registry.Resolve(name); name != def.Name && other.id == id && err == nil && now.SameMount(other.def) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// tellTwins logs which other shares have the id of one that has just been opened.
func tellTwins(log klog.Logger, p *Pool, e *pooled) {
	registry := p.registry()
	p.mu.Lock()
	twins := p.seen.twins(registry, e.def)
	p.mu.Unlock()
	for _, other := range twins {
		log.Info("Two shares have one id: one is a copy of the other (then give it an id of its own: mooringctl share reidentify), or they are one directory under two names (then one is enough)", "share", e.def.Name, "other", other, "id", e.share.Identity.ID())
	}
}
