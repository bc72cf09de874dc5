// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Pods shows volumes to pods.
type Pods struct {
	*local
	inlines *Inlines
}

// Publish shows a volume at a pod's target. Published there already in the same way is
// success; in another way it is ErrIncompatible. A volume whose server does not answer is
// ErrUnavailable, so that neither pod nor kubelet begins to wait for it.
func (p *Pods) Publish(ctx context.Context, r volume.Publish) error {
	path, err := clean(r.Target)
	if err != nil {
		return err
	}
	r.Target = path
	if r.Inline != nil {
		return p.inlines.publish(ctx, r)
	}
	t, err := p.find(r.Location, r.Options)
	if err != nil {
		return err
	}
	t.readOnly = t.readOnly || r.ReadOnly
	unlock, err := p.lock(r.ID, r.Target, r.SingleWriter)
	if err != nil {
		return err
	}
	defer unlock()
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	if e, mounted := table.At(r.Target); mounted {
		return p.published(r, t, e)
	}
	if err := p.alone(r, t, table); err != nil {
		return err
	}
	if err := makeDirectory(r.Target, false); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	v := view{ID: r.ID, Target: r.Target, Location: volume.Location{Share: t.share.Name, Directory: t.dir}, Options: t.options, ReadOnly: t.readOnly}
	if err := p.show(ctx, v, t, table); err != nil {
		p.views.drop(ctx, v.Target)
		_ = syscall.Rmdir(r.Target) // empty, or it stays
		return fmt.Errorf("publish volume %s, directory %q: %w", r.ID, t.dir, err)
	}
	return nil
}

// published says whether e, at the target already, is what is asked for.
func (p *Pods) published(r volume.Publish, t target, e mount.Entry) error {
	v, noted := p.views.at(r.Target)
	if t.is(e.Source) && t.readOnly && !e.ReadOnly() && noted && v.ReadOnly {
		return p.mounter.Restrict(r.Target) // a run of the driver ended before it had done that
	}
	if !t.is(e.Source) || e.ReadOnly() != t.readOnly {
		return volume.Errorf(volume.ErrIncompatible, "volume %s cannot be published at %s: %s is mounted there, in another way", r.ID, r.Target, e.Source)
	}
	// A run of the driver may have ended before it had compared them.
	if err := mount.AsAsked(e, t.options); err != nil {
		return fmt.Errorf("publish volume %s at %s: %w", r.ID, r.Target, err)
	}
	return nil
}

// alone refuses a volume that may have one pod, and has one, and two volumes with one id. What counts
// is what is mounted, whoever did that, and not what is known of it.
func (p *Pods) alone(r volume.Publish, t target, table mount.Table) error {
	own := map[string]bool{}
	for _, v := range p.views.of(r.ID) {
		if _, mounted := table.At(v.Target); !mounted {
			continue
		}
		own[v.Target] = true
		if !t.at(v.Location) {
			return volume.Errorf(volume.ErrConflict, "volume %s: directory %q of share %s is asked for, and at %s the volume of that id is directory %q of share %s: two PersistentVolumes have one volumeHandle: give each its own",
				r.ID, t.dir, t.share.Name, v.Target, v.Location.Directory, v.Location.Share)
		}
	}
	if !r.SingleWriter {
		return nil
	}
	for _, e := range table {
		// A whole export is mounted by others too: by kubelet for the controller, say.
		server, _, _ := volume.SplitExport(e.Source)
		if own[e.Target] || t.dir != "" && t.is(e.Source) && t.share.HasServer(server) {
			return volume.Errorf(volume.ErrConflict, "volume %s is for a single pod, and is published at %s already", r.ID, e.Target)
		}
	}
	return nil
}

// show has a volume be seen at its target: by a second mount of what another pod has or, where none
// has it, by mount(8), from the first server that answers. The note comes before the mount: one that
// is too many is of no consequence.
func (p *Pods) show(ctx context.Context, v view, t target, table mount.Table) error {
	shared, err := p.shared(ctx, v, t, table)
	if err != nil {
		return err
	}
	if shared.Target != "" {
		v.Server = shared.Server
		p.views.put(ctx, v)
		e, _ := table.At(shared.Target)
		if err := p.mounter.Bind(ctx, e, v.Target, v.ReadOnly); err == nil {
			return nil
		} // that pod has just gone, most likely
	}
	err = p.eachServer(ctx, t, func(ctx context.Context, server string) error {
		v.Server = server
		p.views.put(ctx, v)
		if err := p.mounter.Mount(ctx, mount.Spec{Source: t.share.Source(server, t.dir), Target: v.Target, Options: t.options}); err != nil || !v.ReadOnly {
			return err
		}
		err := p.mounter.Restrict(v.Target)
		if err != nil {
			err = errors.Join(err, p.mounter.Unmount(ctx, v.Target))
		}
		return err
	})
	if err == nil {
		p.probes.Good(v.Target)
	}
	return err
}

// shared returns a view of the same volume, mounted in the same way, that works; one without a target
// where there is none.
func (p *Pods) shared(ctx context.Context, v view, t target, table mount.Table) (view, error) {
	for _, other := range p.views.of(v.ID) {
		e, mounted := table.At(other.Target)
		usable := mounted && t.at(other.Location) && t.is(e.Source) && t.share.HasServer(other.Server) &&
			slices.Equal(other.Options, v.Options) && (v.ReadOnly || !e.ReadOnly()) && mount.AsAsked(e, v.Options) == nil
		if !usable {
			continue
		}
		_, err := p.probes.Ask(ctx, probeOf(e), fresh)
		switch {
		case err == nil:
			return other, nil
		case errors.Is(err, unix.ESTALE):
			klog.FromContext(ctx).Info("A pod has a stale mount, and another gets a new one", "volume", v.ID, "source", e.Source, "path", other.Target)
		case len(t.servers) == 1:
			return view{}, volume.Errorf(volume.ErrUnavailable, "%s: %w; it is published when the server is back", e.Source, err)
		}
	}
	return view{}, nil
}

// Unpublish takes a pod's view of a volume away, and the directory where it was. Nothing
// there is success.
func (p *Pods) Unpublish(ctx context.Context, id, target string) error {
	path, err := clean(target)
	if err != nil {
		return err
	}
	unlock, err := p.lock(id, path, false)
	if err != nil {
		return err
	}
	defer unlock()
	if err := p.mounter.Unmount(ctx, path); err != nil {
		return fmt.Errorf("unpublish volume %s: %w", id, err)
	}
	p.probes.Forget(path)
	p.views.drop(ctx, path)
	p.inlines.leave(ctx, path)
	// No mount is there any more: it is a local directory, and has to be empty. Not os.Remove,
	// which would take a file away that is not ours.
	if err := os.NewSyscallError("rmdir "+path, syscall.Rmdir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrConflict, "unpublish volume %s: the mount is gone, but its directory stays (%w): remove what somebody has put into it", id, err)
	}
	return nil
}
