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
	// Share has the options of each share. The pool sets its Run. With its ReadOnly the shares are
	// also mounted read-only.
	Share share.Options
	// Servers, if set, says which servers answer: the pool does not use the others.
	Servers *probe.Servers
	// OwnClient mounts shares by NFS clients that no other mount of the machine uses: see
	// [mount.Spec].
	OwnClient bool
	// Table, if set, returns the mount table: see [Pool.Versions].
	Table func() (mount.Table, error)
	// Premounted, if set, is a directory in which each share is mounted already, under its name. The
	// pool then creates and removes no mount points.
	Premounted string
}

// answers returns an error if a server does not answer now.
func (o Options) answers(ctx context.Context, server string, options []string) error {
	if o.Servers == nil {
		return nil
	}
	return o.Servers.Answers(ctx, server, options)
}

// endpointAt returns the endpoint that the mount at target uses: its address, although the server's name may not
// resolve any more. Without a mount table it is that of server with these options.
func (o Options) endpointAt(target, server string, options []string) probe.Endpoint {
	if o.Table != nil {
		if table, err := o.Table(); err == nil {
			if e, exists := table.At(target); exists {
				options = e.Super
			}
		}
	}
	return probe.EndpointOf(server, options)
}

// controllerOptions make the controller's own mounts end every call on a dead server in about half a
// minute (safe, because every fsync and close is checked), trust no cached negative lookup, and share
// no cache with another mount, so that a new mount starts without one (nfs(5)). A device that a tenant
// has created is never opened. Pods' mounts do not have these options.
var controllerOptions = []string{"rw", "noexec", "nodev", "nosuid", "softerr", "timeo=50", "retrans=2", "retry=0", "lookupcache=positive", "nosharecache"}

// ControllerOptions joins the lists, and appends the options that the controller's own mounts always
// have.
func ControllerOptions(lists ...[]string) []string {
	return volume.MergeMountOptions(append(lists, controllerOptions)...)
}
