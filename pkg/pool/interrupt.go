// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"k8s.io/klog/v2"
)

const (
	interruptInterval = 200 * time.Millisecond
	// interruptTimeout is how long calls on a lost mount are interrupted. Each of them ends by itself
	// after 15 seconds (softerr), those in one directory one after the other.
	interruptTimeout = 5 * time.Minute
)

// unavailable returns the error of a share whose server does not answer. If the share has other
// servers, the next caller gets it from one of those, and the calls that wait for this one are ended.
func (p *Pool) unavailable(e *entry, s *share.Share, err error) error {
	if len(e.def.Servers) > 1 {
		s.MarkLost()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !e.interrupted && p.ending.Err() == nil {
			e.interrupted = true
			p.background.Go(func() { e.interrupt(p, s) })
		}
	}
	return fmt.Errorf("share %s: %w", e.def, err)
}

// interrupt ends the calls on the mount of a lost share, while its address does not answer, until the
// share has no users: they keep the locks of their volumes, though another server answers. An
// operation makes several calls, so it repeats that. The server may execute a call late, which does no
// harm ("The fence" in docs/design.md).
func (e *entry) interrupt(p *Pool, s *share.Share) {
	tick := time.NewTicker(interruptInterval)
	defer tick.Stop()
	servers := p.opt.Servers.Unlisted() // the metric of a server has its name in the registry
	endpoint := p.opt.endpointAt(e.target, e.server, e.def.MountOptions)
	for until := time.Now().Add(interruptTimeout); time.Now().Before(until); {
		select {
		case <-tick.C:
		case <-p.ending.Done():
			return
		}
		p.mu.Lock()
		users := e.users
		p.mu.Unlock()
		if users == 0 {
			return
		}
		if _, err := servers.Check(p.ending, endpoint); err == nil || p.ending.Err() != nil {
			continue
		}
		s.Interrupted.Store(true)
		if err := p.mounter.Interrupt(e.target); err != nil {
			klog.Background().Error(err, "The calls that wait for a share's server are not interrupted", "share", e.def.String(), "target", e.target)
		}
	}
}
