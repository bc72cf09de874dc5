// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// mountPatience bounds one mount(8). It ends before kubelet's two minutes do.
const mountPatience = 50 * time.Second

// nodeOptions come before all others. mount.nfs is to report a failure instead of trying for
// two minutes: kubelet tries again by itself (nfs(5), retry=).
var nodeOptions = []string{"retry=0"}

// target is where a volume is to be mounted from, and how.
type target struct {
	share    volume.Share
	servers  []string // of share, in the order in which they are tried
	dir      string   // beneath the share
	options  []string // without ro
	readOnly bool
}

// find resolves a volume's location against the registry in force.
func (l *local) find(location volume.Location, options []string) (target, error) {
	registry := l.registry()
	def, err := registry.Resolve(location.Share)
	if err != nil {
		return target{}, err
	}
	snapshot := volume.IsSnapshotDirectory(location.Directory)
	_, _, unregistered := volume.SplitExport(location.Share)
	// A whole export is somebody's who has written server and path into a PV himself. Where those that
	// are not registered are refused it is a share, and nobody gets all of that.
	if whole := location.Directory == "" && unregistered && registry.Unregistered; !whole && !snapshot {
		if err := volume.CheckDirectory(location.Directory); err != nil {
			return target{}, err
		}
	}
	if err := volume.CheckMountOptions(options); err != nil {
		return target{}, err
	}
	t := target{share: def, servers: def.Servers, dir: location.Directory}
	t.mountWith(volume.MergeMountOptions(nodeOptions, def.MountOptions, options))
	t.readOnly = t.readOnly || snapshot // whatever the PV says
	return t, nil
}

// mountWith takes the options, of which ro is done otherwise: as an option of mount(8) it is the
// superblock's, and one that is read-only is not that in which other pods write. Its pods would see
// what those write a minute late (nfs(5), DATA AND METADATA COHERENCE).
func (t *target) mountWith(options []string) {
	t.readOnly = slices.ContainsFunc(options, func(o string) bool { return nameOf(o) == "ro" })
	t.options = writable(options)
}

// writable leaves ro and rw out.
func writable(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return nameOf(o) == "ro" || nameOf(o) == "rw" })
}

// nameOf returns an option without its value: that of ro=vfs is ro (mount(8)).
func nameOf(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return name
}

// at reports whether t is at a location, which may name an export that has been registered since.
func (t target) at(l volume.Location) bool { return t.share.Matches(l.Share) && t.dir == l.Directory }

// is reports whether a mount of source is one of t. The server's name does not count: the
// kernel shows that by which it came to know the server first, and the share may have got
// another address since the volume was mounted.
func (t target) is(source string) bool {
	path := pathOf(source)
	return path != "" && path == pathOf(t.share.Source("server", t.dir))
}

// mayBe reports whether a mount of source can be what mount(8) makes of t: the share's path may lead
// through a symbolic link on the server, which NFSv4 resolves. One in the volume's directory leads to
// another volume, or anywhere.
func (t target) mayBe(source string) bool {
	return t.is(source) || t.dir == "" || strings.HasSuffix(pathOf(source), "/"+t.dir)
}

func pathOf(source string) string {
	_, path, _ := volume.SplitExport(source)
	return path
}

// eachServer calls try with one server after the other until one succeeds. Those that do not
// answer are not tried.
func (l *local) eachServer(ctx context.Context, t target, try func(ctx context.Context, server string) error) error {
	ctx, cancel := context.WithTimeout(ctx, mountPatience)
	defer cancel()
	var errs []error
	for i, server := range t.servers {
		until, _ := ctx.Deadline()
		each, cancel := context.WithTimeout(ctx, time.Until(until)/time.Duration(len(t.servers)-i))
		err := l.onServer(each, probe.EndpointOf(server, t.options), t.share, func(ctx context.Context) error { return try(ctx, server) })
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// onServer does work on a server that answers, for as long as it does.
func (l *local) onServer(ctx context.Context, e probe.Endpoint, def volume.Share, work func(context.Context) error) error {
	_, err := l.probes.Server(ctx, e)
	if err == nil {
		watched, stop := l.probes.Watch(ctx, e)
		defer stop()
		if err = work(watched); err == nil || ctx.Err() != nil || watched.Err() == nil {
			return err
		}
		err = context.Cause(watched)
	}
	return fmt.Errorf("share %s: %w", def, err)
}
