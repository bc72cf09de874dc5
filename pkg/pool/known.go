// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"fmt"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

// known is a share as this process has seen it.
type known struct {
	def volume.Share
	id  string
}

// openKnown opens what is mounted, unless it is not the share that it was.
func (p *Pool) openKnown(ctx context.Context, e *pooled) (*share.Share, error) {
	s, err := share.Open(e.target, e.def, p.opt.Share)
	if err != nil {
		return nil, err
	}
	if err := p.recognize(ctx, e.def, s); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// recognize compares a share that has just been mounted with what it was before, as long as the
// registry has said the same of it. One that has been laid out, and is not any more, is refused:
// its disk is most likely not mounted on the server, and the next volume would be made in its
// place. One with another id has been laid out by somebody, and may be meant: that is logged.
func (p *Pool) recognize(ctx context.Context, def volume.Share, s *share.Share) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before, seen := p.seen[def.Name]
	seen = seen && before.def.Equal(def)
	if !s.Initialized() {
		if seen {
			return fmt.Errorf("share %s: %w", def, volume.Emptied(def.Name, before.id))
		}
		return nil
	}
	now := known{def, s.Identity.ID()}
	if seen && now.id != before.id {
		klog.FromContext(ctx).Error(nil, "The share is another one than before: if that is not meant, have the right disk mounted on the server, and set the share's id in the configuration", "share", def.String(), "before", before.id, "now", now.id)
	}
	p.seen[def.Name] = now
	return nil
}
