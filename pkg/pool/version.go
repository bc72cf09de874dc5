// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"github.com/mooring-csi/mooring/pkg/mount"
	"k8s.io/klog/v2"
)

// Versions returns the NFS version of each mounted share, for example "4.2". It omits a share whose
// version is unknown.
func (p *Pool) Versions() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	versions := map[string]string{}
	for name, e := range p.open {
		if e.isOpen() && e.version != "" {
			versions[name] = e.version
		}
	}
	return versions
}

// version returns the NFS version of the mount at target. "": unknown.
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

// logVersion logs that a share is mounted by NFS 3 although no option asks for it. The mounter has
// verified the options. If they do not name a version, mount.nfs falls back to NFSv3 for a path that it
// does not find by NFSv4, without a message.
func logVersion(log klog.Logger, e *entry, options []string) {
	if mount.DowngradedTo3(e.version, options) {
		log.Info("The share is mounted by NFS 3: its server speaks nothing newer, or has no such path by NFS 4 (fsid=0). There is no CLONE and no COPY: mooringctl doctor tells which it is; set nfsvers=3 for the share if it is meant", "share", e.def.String())
	}
}
