// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// mountPatience bounds one mount(8). It ends before kubelet's two minutes do.
const mountPatience = 50 * time.Second

// nodeOptions come before all others. mount.nfs is to report a failure instead of trying for
// two minutes: kubelet tries again by itself (nfs(5), retry=). And each volume is to have a
// superblock, and so a device number, of its own. Before it unstages, kubelet looks in
// mountinfo for other mounts of the same device and root (GetDeviceMountRefs): of one
// superblock, all volumes of a share look to it like one that is still in use
// (kubernetes/kubernetes#105323).
var nodeOptions = []string{"retry=0", "nosharecache"}

// target is where a volume is to be mounted from.
type target struct {
	share   volume.Share
	servers []string // of share, in the order in which they are tried
	dir     string   // beneath the share
	options []string
}

// is reports whether a mount of source is one of t. The server's name does not count: the
// kernel shows that by which it came to know the server first, and the share may have got
// another address since the volume was staged.
func (t target) is(source string) bool {
	return sameDirectory(source, t.share.Source("server", t.dir))
}

func sameDirectory(a, b string) bool {
	_, p, ok := volume.SplitExport(a)
	_, q, is := volume.SplitExport(b)
	return ok && is && p == q
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
