// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"github.com/mooring-csi/mooring/pkg/mount"
	"k8s.io/klog/v2"
)

// Versions returns by which NFS version each share is mounted that is, "4.2" say. A share of which that
// is not known is left out.
func (p *Pool) Versions() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	versions := map[string]string{}
	for name, e := range p.open {
		if e.ready() && e.err == nil && e.version != "" {
			versions[name] = e.version
		}
	}
	return versions
}

// version returns by which NFS version something is mounted. "": that is not known.
func (o Options) version(target string) string {
	if o.Table == nil {
		return ""
	}
	table, err := o.Table()
	if err != nil {
		return ""
	}
	e, _ := table.At(target)
	return mount.ValueOf(e.Super, "vers")
}

// tellVersion logs that a share was mounted by less than NFS 4, and nobody has asked for that. What
// options ask for the mounter has compared. Where they leave it open, mount.nfs takes NFSv3 for a path
// that it does not find by NFSv4, and says nothing.
func tellVersion(log klog.Logger, e *pooled, options []string) {
	if mount.DowngradedTo3(e.version, options) {
		log.Info("The share is mounted by NFS 3: its server speaks nothing newer, or has no such path by NFS 4 (fsid=0). There is no CLONE and no COPY: mooringctl doctor tells which it is; set nfsvers=3 for the share if it is meant", "share", e.def.String())
	}
}
