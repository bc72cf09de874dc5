// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Pods shows volumes to pods.
type Pods struct {
	*local
	inlines *InlineVolumes
	visited visited
}

// Publish shows a volume at a pod's target. Published there already in the same way is
// success; in another way it is ErrExists. A volume whose server does not answer is
// ErrUnavailable, so that neither pod nor kubelet begins to wait for it.
func (p *Pods) Publish(ctx context.Context, r volume.PublishRequest) error {
	path, _, err := p.locate(r.Target)
	if err != nil {
		return err
	}
	r.Target = path
	if r.Inline != nil {
		return p.inlines.publish(ctx, r)
	}
	v := view{ID: r.ID, Target: r.Target, Asked: r.Location, Options: r.Options, AskedReadOnly: r.ReadOnly}
	t, err := p.find(r.Location, r.Options)
	if err != nil {
		return p.orGoesOn(v, err)
	}
	v.Location, v.ReadOnly = volume.Location{Share: t.share.Name, Directory: t.dir}, t.readOnly || r.ReadOnly
	unlock, err := p.lock(r.ID, t.share.Name+"/"+t.dir, r.Target, r.SingleWriter)
	if err != nil {
		return err
	}
	defer unlock()
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	if e, mounted := table.At(r.Target); mounted {
		return p.published(ctx, v, t, e)
	}
	if err := p.alone(r, t, table); err != nil {
		return err
	}
	if err := makeDirectory(r.Target); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	if err := p.show(ctx, v, t, table); err != nil {
		_ = syscall.Rmdir(r.Target) // empty, or it stays
		return fmt.Errorf("publish volume %s, directory %q: %w", r.ID, t.dir, err)
	}
	return nil
}

// orGoesOn is err, unless v was published as it is asked for now: kubelet asks again when it was started
// anew, and what the registry says by now is for the next pod.
func (p *Pods) orGoesOn(v view, err error) error {
	table, e := p.mounter.Table()
	if e != nil {
		return errors.Join(err, e)
	}
	if found, mounted := table.At(v.Target); mounted && p.goesOn(v, found) {
		return nil
	}
	return err
}

// goesOn reports whether e is there because of the same request.
func (p *Pods) goesOn(v view, e mount.Entry) bool {
	before, noted := p.views.at(v.Target)
	return noted && before.same(v) && before.Shown == pathOf(e.Source) && before.ReadOnly == e.ReadOnly()
}

// published says whether e, at the target already, is what is asked for. A run of the driver may have
// ended before it had made sure of that.
func (p *Pods) published(ctx context.Context, v view, t target, e mount.Entry) error {
	if p.goesOn(v, e) {
		return nil
	}
	_, another := p.views.at(v.Target) // another was asked for before
	if another || !t.mayBe(e.Source) || e.ReadOnly() && !v.ReadOnly {
		return volume.Errorf(volume.ErrExists, "volume %s cannot be published at %s: %s is mounted there, in another way", v.ID, v.Target, e.Source)
	}
	if err := mount.VerifyOptions(e, t.options); err != nil {
		return fmt.Errorf("publish volume %s at %s: %w", v.ID, v.Target, err)
	}
	if v.ReadOnly && !e.ReadOnly() {
		if err := p.mounter.Restrict(v.Target); err != nil {
			return fmt.Errorf("publish volume %s: %w", v.ID, err)
		}
	}
	v.Server, _, _ = volume.SplitExport(e.Source)
	v.Shown = pathOf(e.Source)
	p.views.put(ctx, v)
	return nil
}

// alone refuses a volume that may have one pod, and has one, and two volumes with one id. What counts
// is what is mounted, whoever did that, and not what is known of it.
func (p *Pods) alone(r volume.PublishRequest, t target, table mount.Table) error {
	own := map[string]bool{}
	for _, v := range p.views.of(r.ID) {
		if _, mounted := table.At(v.Target); !mounted {
			continue
		}
		own[v.Target] = true
		if !t.at(v.Location) {
			return volume.Errorf(volume.ErrPrecondition, "volume %s: directory %q of share %s is asked for, and at %s the volume of that id is directory %q of share %s: two PersistentVolumes have one volumeHandle: give each its own",
				r.ID, t.dir, t.share.Name, v.Target, v.Location.Directory, v.Location.Share)
		}
	}
	if !r.SingleWriter {
		return nil
	}
	for _, e := range table {
		if own[e.Target] || p.shows(t, e) {
			return volume.Errorf(volume.ErrPrecondition, "volume %s is for a single pod, and is published at %s already", r.ID, e.Target)
		}
	}
	return nil
}

// shows reports whether e may be of t. The table can have a name of the server that nobody has
// registered; only what is another share's is not of this one. A whole export is mounted by others
// too: by kubelet for the controller, say.
func (p *Pods) shows(t target, e mount.Entry) bool {
	server, path, ok := volume.SplitExport(e.Source)
	if !ok || t.dir == "" || !t.is(e.Source) {
		return false
	}
	return t.share.HasServer(server) || !slices.ContainsFunc(p.registry().Shares, func(s volume.Share) bool {
		return s.Name != t.share.Name && s.HasServer(server) && (s.Path == "/" || strings.HasPrefix(path, s.Path+"/"))
	})
}

// show has a volume be seen at its target: by a second mount of what another pod has or, where none
// has it, by a mount from the server. The note comes last: what is mounted without one is compared when it
// is asked for again.
func (p *Pods) show(ctx context.Context, v view, t target, table mount.Table) error {
	if shown, err := p.share(ctx, v, t, table); shown || err != nil {
		return err
	}
	if p.visited.mayRemember(t) {
		return p.showFresh(ctx, v, t)
	}
	return p.showFrom(ctx, v, t, p.mount)
}

// showFresh is show for a directory of which the kernel may remember another one. It does that for one pod
// at a time: each of two could get a superblock of its own, and not see the other's locks.
func (p *Pods) showFresh(ctx context.Context, v view, t target) error {
	release, ok := p.locks.TryLock("fresh " + t.share.Name + "/" + t.dir)
	if !ok {
		return volume.Errorf(volume.ErrBusy, "the directory is just being mounted on this node for another pod: try again")
	}
	defer release()
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	if shown, err := p.share(ctx, v, t, table); shown || err != nil { // another pod may just have got it
		return err
	}
	return p.showFrom(ctx, v, t, p.mountFresh)
}

// showFrom mounts a volume from the first server that answers.
func (p *Pods) showFrom(ctx context.Context, v view, t target, try func(context.Context, view, target) error) error {
	err := p.eachServer(ctx, t, func(ctx context.Context, server string) error {
		v.Server = server
		return try(ctx, v, t)
	})
	if err != nil {
		return err
	}
	p.probes.MarkHealthy(v.Target)
	return p.compare(ctx, v, t)
}

// share has a volume be seen by a second mount of what another pod has. It is false where none has it.
func (p *Pods) share(ctx context.Context, v view, t target, table mount.Table) (shown bool, err error) {
	shared, err := p.shared(ctx, v, t, table)
	if err != nil || shared.Target == "" {
		return false, err
	}
	v.Server = shared.Server
	e, _ := table.At(shared.Target)
	if err := p.mounter.Bind(ctx, e, v.Target, v.ReadOnly); err != nil {
		klog.FromContext(ctx).Info("A pod's mount cannot be shared: it has just gone, most likely", "volume", v.ID, "path", shared.Target, "reason", err.Error())
		return false, nil
	}
	return true, p.compare(ctx, v, t)
}

// mount mounts a directory that the kernel remembers nothing of.
func (p *Pods) mount(ctx context.Context, v view, t target) error {
	err := p.mounter.Mount(ctx, mount.Spec{Source: t.share.Source(v.Server, t.dir), Target: v.Target, Options: t.options, MultipleAddresses: len(t.servers) > 1})
	if err != nil || !v.ReadOnly {
		return err
	}
	if err := p.mounter.Restrict(v.Target); err != nil {
		return errors.Join(err, p.mounter.Unmount(ctx, v.Target))
	}
	return nil
}

// mountFresh mounts a directory as the server has it now, whatever the kernel remembers.
func (p *Pods) mountFresh(ctx context.Context, v view, t target) error {
	// Else the directory is no condition for a pod to come: see views.
	if err := os.MkdirAll(p.state.dir, 0o700); err != nil {
		return volume.Errorf(volume.ErrPrecondition, "the state directory is not there any more, and cannot be made (%w): start the plugin of this node anew", err)
	}
	return p.do(ctx, ChildRequest{
		Share: t.share, Server: v.Server, Options: t.options, At: p.state.dir,
		Volume: true, Directory: t.dir, Target: v.Target, ReadOnly: v.ReadOnly,
	})
}

// compare has what is mounted at the target be what was to be, or nothing be. A server may lead
// elsewhere: where the directory is a symbolic link, mount(8) follows it, which NFSv4 shows in the table.
func (p *Pods) compare(ctx context.Context, v view, t target) error {
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	e, mounted := table.At(v.Target)
	switch {
	case !mounted:
		return volume.Errorf(volume.ErrUnavailable, "nothing is mounted at %s any more: try again", v.Target)
	case !t.mayBe(e.Source):
		err = volume.Errorf(volume.ErrPrecondition, "share %s: the server leads to %s: a name in the directory is a symbolic link: name the directory itself", t.share, e.Source)
	case e.ReadOnly() != v.ReadOnly:
		err = volume.Errorf(volume.ErrBusy, "share %s: what was mounted at %s was changed meanwhile: try again", t.share, v.Target)
	default:
		if mount.DowngradedTo3(mount.ValueOf(e.Super, "vers"), t.options) {
			klog.FromContext(ctx).Info("The volume is mounted by NFS 3: its server speaks nothing newer, or has no such path by NFS 4 (fsid=0): mooringctl doctor tells which; set nfsvers=3 for the share if it is meant", "volume", v.ID, "source", e.Source, "path", v.Target)
		}
		v.Shown = pathOf(e.Source)
		p.views.put(ctx, v)
		return nil
	}
	return errors.Join(err, p.mounter.Unmount(ctx, v.Target))
}

// shared returns a view of the same volume, mounted in the same way, that works; one without a target
// where there is none. What the PV says counts, and of what the registry says by now that which keeps
// others out: with other options for the rest the pods would have two superblocks, and not see each
// other's locks. One that is to be read-only may not be so yet: its clone would be by then.
func (p *Pods) shared(ctx context.Context, v view, t target, table mount.Table) (view, error) {
	asked := map[string]error{} // by superblock
	for _, other := range p.views.of(v.ID) {
		e, mounted := table.At(other.Target)
		usable := mounted && t.at(other.Location) && other.Shown == pathOf(e.Source) && t.share.HasServer(other.Server) &&
			other.mountsAs(v) && (v.ReadOnly || !other.ReadOnly && !e.ReadOnly()) && mount.VerifyOptions(e, t.options) == nil
		if !usable {
			continue
		}
		err, known := asked[e.Device]
		if !known || errors.Is(err, unix.ESTALE) { // of which one mount is stale, and another is not
			m := probeOf(e)
			m.ReadOnly = true // whether one can write there is not the question
			_, err = p.probes.Query(ctx, m, fresh)
			asked[e.Device] = err
		}
		switch {
		case err == nil:
			return other, nil
		case volume.Kind(err) == volume.ErrBusy:
			return view{}, err
		case isErrno(err):
			klog.FromContext(ctx).Info("A pod's mount does not work, and another pod gets a new one", "volume", v.ID, "source", e.Source, "path", other.Target, "reason", err.Error())
		case len(t.servers) == 1:
			return view{}, volume.Errorf(volume.ErrUnavailable, "%s: %w; it is published when the server is back", e.Source, err)
		}
	}
	return view{}, nil
}

// Unpublish takes a pod's view of a volume away, and the directory where it was. Nothing
// there is success.
func (p *Pods) Unpublish(ctx context.Context, id, target string) error {
	path, _, err := p.locate(target)
	if err != nil {
		return err
	}
	unlock, err := p.lock(id, id, path, false)
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
		return volume.Errorf(volume.ErrPrecondition, "unpublish volume %s: the mount is gone, but its directory stays (%w): remove what somebody has put into it", id, err)
	}
	return nil
}
