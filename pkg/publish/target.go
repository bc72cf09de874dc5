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

// mountTimeout bounds the mounts of one request on all servers. It is shorter than kubelet's two minutes.
const mountTimeout = 50 * time.Second

// nodeOptions come before all others. mount.nfs must report a failure at once instead of trying for
// two minutes: kubelet tries again by itself (nfs(5), retry=).
var nodeOptions = []string{"retry=0"}

// target is the source of a mount and its options.
type target struct {
	share    volume.Share
	servers  []string // the share's, in the order in which they are tried
	dir      string   // in the share
	options  []string // without ro
	readOnly bool
}

// resolve returns the target of a volume's location, by the current registry. Its options are nodeOptions,
// those of the share, and options, of which a later one wins. It returns ErrPrecondition
// if the share is unknown, and ErrInvalid if the directory or an option is not allowed.
func (l *nodeServices) resolve(location volume.Location, options []string) (target, error) {
	registry := l.registry()
	def, err := registry.Resolve(location.Share)
	if err != nil {
		return target{}, err
	}
	snapshot := volume.IsSnapshotDirectory(location.Directory)
	_, _, unregistered := volume.SplitExport(location.Share)
	// A PV with server and path, written by hand, can be a whole export. If unregistered exports are not
	// allowed, the export is a registered share, and no volume is a whole share.
	if whole := location.Directory == "" && unregistered && registry.Unregistered; !whole && !snapshot {
		if err := volume.CheckDirectory(location.Directory); err != nil {
			return target{}, err
		}
	}
	if err := volume.CheckMountOptions(options); err != nil {
		return target{}, err
	}
	t := target{share: def, servers: def.Servers, dir: location.Directory}
	t.setOptions(volume.MergeMountOptions(nodeOptions, def.MountOptions, options))
	t.readOnly = t.readOnly || snapshot // whatever the PV says
	return t, nil
}

// setOptions sets the mount options. It moves ro into readOnly: as an option of mount(8), ro makes a
// separate, read-only superblock, and its pods would see up to a minute late what others write
// (nfs(5), DATA AND METADATA COHERENCE).
func (t *target) setOptions(options []string) {
	t.readOnly = slices.ContainsFunc(options, func(o string) bool { return optionName(o) == "ro" })
	t.options = withoutAccess(options)
}

// withoutAccess returns the options without ro and rw.
func withoutAccess(options []string) []string {
	return slices.DeleteFunc(slices.Clone(options), func(o string) bool { return optionName(o) == "ro" || optionName(o) == "rw" })
}

// optionName returns an option without its value: for ro=vfs (mount(8)), it returns ro.
func optionName(option string) string {
	name, _, _ := strings.Cut(option, "=")
	return name
}

// hasLocation reports whether t is at a location, which may name an export that was registered later.
func (t target) hasLocation(l volume.Location) bool {
	return t.share.Matches(l.Share) && t.dir == l.Directory
}

// matches reports whether source has the export path and the directory of t. It ignores the server's
// name: the kernel shows the first name that it used for the server, and the share may have another
// address by now.
func (t target) matches(source string) bool {
	path := exportPath(source)
	return path != "" && path == exportPath(t.share.Source("server", t.dir))
}

// mayMatch reports whether source can be the result of mount(8) for t: the share's path may contain a
// symbolic link on the server, which NFSv4 resolves. The volume's directory must not: a link there may
// lead to another volume, or anywhere.
func (t target) mayMatch(source string) bool {
	return t.matches(source) || t.dir == "" || strings.HasSuffix(exportPath(source), "/"+t.dir)
}

func exportPath(source string) string {
	_, path, _ := volume.SplitExport(source)
	return path
}

// tryServers calls try with one server after the other until one succeeds. It skips servers that do
// not answer.
func (l *nodeServices) tryServers(ctx context.Context, t target, try func(ctx context.Context, server string) error) error {
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	var errs []error
	for i, server := range t.servers {
		deadline, _ := ctx.Deadline()
		attempt, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(t.servers)-i))
		err := l.withServer(attempt, probe.EndpointOf(server, t.options), t.share, func(ctx context.Context) error { return try(ctx, server) })
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// withServer runs work if the server answers, and cancels it when the server stops answering.
func (l *nodeServices) withServer(ctx context.Context, e probe.Endpoint, def volume.Share, work func(context.Context) error) error {
	if _, err := l.probes.Server(ctx, e); err != nil {
		return fmt.Errorf("share %s: %w", def, err)
	}
	watched, stop := l.probes.Watch(ctx, e)
	defer stop()
	if err := work(watched); err == nil || ctx.Err() != nil || watched.Err() == nil {
		return err
	}
	return fmt.Errorf("share %s: %w", def, context.Cause(watched))
}
