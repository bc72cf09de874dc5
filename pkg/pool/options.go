// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Options are what all shares of a pool have in common.
type Options struct {
	// Share is what each share is opened with. The pool sets its Run. With its ReadOnly the
	// shares are also mounted read-only.
	Share share.Options
	// Servers, if set, says which servers answer: others are not asked for more.
	Servers *probe.Servers
	// OwnClient has shares be mounted by NFS clients that no other mount of the machine has a part
	// in: see mount.Spec.
	OwnClient bool
	// Table, if set, says what is mounted: see [Pool.Versions].
	Table func() (mount.Table, error)
	// Premounted, if set, is a directory in which each share is mounted already, under its name:
	// no mount points are made and removed then.
	Premounted string
}

// answers returns an error if a server does not answer now.
func (o Options) answers(ctx context.Context, server string, options []string) error {
	if o.Servers == nil {
		return nil
	}
	return o.Servers.Answers(ctx, server, options)
}

// controllerOptions make the controller's own mounts end every call on a dead server in about
// half a minute (safe, because every fsync and close is checked), trust no cached "it is not
// there", and share no cache with another mount, so that a new one starts without (nfs(5)).
// A device that a tenant has made is never opened. Pods' mounts know nothing of all this.
var controllerOptions = []string{"rw", "noexec", "nodev", "nosuid", "softerr", "timeo=50", "retrans=2", "retry=0", "lookupcache=positive", "nosharecache"}

// ControllerOptions returns the lists joined, and then those that the controller's own mounts
// always have.
func ControllerOptions(lists ...[]string) []string {
	return volume.MergeMountOptions(append(lists, controllerOptions)...)
}
