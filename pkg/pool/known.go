// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
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
		return volume.Emptied(def.Name, before.id)
	case before.id != "" && before.id != id:
		return volume.AnotherShare(before.id, id)
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
