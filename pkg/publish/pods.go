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

// Pods mounts volumes for pods.
type Pods struct {
	*nodeServices
	inlines *InlineVolumes
	visited visited
}

// Publish mounts a volume at a pod's target path. It changes nothing on the share, except for an
// inline volume: see InlineVolumes.
//
//	find the share and the mount options
//	lock the volume and the path
//	check the mount table    if something is mounted at the path, Publish ends here
//	make the mount point     the last directory of the path, with mode 0750
//	mount                    in one of the three ways below
//	verify the mount         by the mount table; a wrong one is unmounted
//	record it                view-<hash>.json: see New
//
// If the mount fails, Publish removes the mount point, unless that has content. Unpublish removes
// it after its unmount.
//
// The mount is a bind mount of another pod's mount of the volume, if that has the same options and
// works (Mounter.Bind). Otherwise Publish mounts the directory from the share's first server that
// answers, within 50 seconds for all servers. Mounter.Mount does that by NFSv3, and for the first
// mount in this process of a directory at the top of the share whose name ends in a UUID. For any
// other directory the kernel may have cached another one of that name: a child mounts it
// (ChildRequest). A read-only mount is read-only from the start or, by Mounter.Mount, made
// read-only afterwards (Mounter.Restrict). That of a snapshot always is.
//
// The mount options are retry=0, those of the share (volume.Share.MountOptions), and those of the
// PV; a later one wins.
//
// A mount that is at the path already is the requested one if its record has the same volume,
// location and read-only flag: other options, and a share that is not registered any more, count
// only for the next pod. Without a record it is the requested one if it shows the directory and
// mount.VerifyOptions accepts it; then Publish records it.
//
// ErrExists: something else is mounted there. ErrUnavailable: no server answers; neither the pod
// nor kubelet waits for it. ErrBusy: another operation on the volume or the path is under way.
// ErrPrecondition: the volume is for a single pod and has one, or another volume has its id, or the
// share is not registered, or the directory does not exist on the server. ErrInvalid: the target is
// inside a volume, or the directory or an option is not allowed. The mount has the other errors of
// mount.Kernel.Mount.
func (p *Pods) Publish(ctx context.Context, r volume.PublishRequest) error {
	path, _, err := p.locate(r.Target)
	if err != nil {
		return err
	}
	r.Target = path
	if r.Inline != nil {
		return p.inlines.publish(ctx, r)
	}
	v := view{ID: r.ID, Target: r.Target, Requested: r.Location, Options: r.Options, RequestedReadOnly: r.ReadOnly}
	t, err := p.resolve(r.Location, r.Options)
	if err != nil {
		return p.allowPublished(v, err)
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
		return p.adopt(ctx, v, t, e)
	}
	if err := p.checkExclusive(r, t, table); err != nil {
		return err
	}
	if err := makeDirectory(r.Target); err != nil {
		return fmt.Errorf("publish volume %s: %w", r.ID, err)
	}
	if err := p.mountView(ctx, v, t, table); err != nil {
		_ = syscall.Rmdir(r.Target) // fails if it is not empty
		return fmt.Errorf("publish volume %s, directory %q: %w", r.ID, t.dir, err)
	}
	return nil
}

// allowPublished returns err, unless v is published as requested: kubelet repeats its requests after a
// restart, and a change of the registry affects only the next pod.
func (p *Pods) allowPublished(v view, err error) error {
	table, e := p.mounter.Table()
	if e != nil {
		return errors.Join(err, e)
	}
	if found, mounted := table.At(v.Target); mounted && p.isPublished(v, found) {
		return nil
	}
	return err
}

// isPublished reports whether e is the result of the same request.
func (p *Pods) isPublished(v view, e mount.Entry) bool {
	before, recorded := p.views.byTarget(v.Target)
	return recorded && before.sameRequest(v) && before.ExportPath == exportPath(e.Source) && before.ReadOnly == e.ReadOnly()
}

// adopt records e, which is mounted at the target, as the view v. It returns ErrExists if e is not what
// is requested. An earlier process may have ended before it verified and recorded the mount.
func (p *Pods) adopt(ctx context.Context, v view, t target, e mount.Entry) error {
	if p.isPublished(v, e) {
		return nil
	}
	_, differs := p.views.byTarget(v.Target) // the recorded request is another one
	if differs || !t.mayMatch(e.Source) || e.ReadOnly() && !v.ReadOnly {
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
	v.ExportPath = exportPath(e.Source)
	p.views.put(ctx, v)
	return nil
}

// checkExclusive returns ErrPrecondition for a second pod of a volume that can have one, and for two
// volumes with one id. The mount table decides, not the records: others may have mounted the volume.
func (p *Pods) checkExclusive(r volume.PublishRequest, t target, table mount.Table) error {
	own := map[string]bool{}
	for _, v := range p.views.byVolume(r.ID) {
		if _, mounted := table.At(v.Target); !mounted {
			continue
		}
		own[v.Target] = true
		if !t.hasLocation(v.Location) {
			return volume.Errorf(volume.ErrPrecondition, "volume %s: the request is for directory %q of share %s, but at %s the volume with that id is directory %q of share %s: two PersistentVolumes have one volumeHandle: give each its own",
				r.ID, t.dir, t.share.Name, v.Target, v.Location.Directory, v.Location.Share)
		}
	}
	if !r.SingleWriter {
		return nil
	}
	for _, e := range table {
		if own[e.Target] || p.mayShow(t, e) {
			return volume.Errorf(volume.ErrPrecondition, "volume %s is for a single pod, and is published at %s already", r.ID, e.Target)
		}
	}
	return nil
}

// mayShow reports whether e may be a mount of t. The table can have a server name that is not
// registered; a mount is not of this share only if it is of another one. Others mount a whole export
// too, for example kubelet for the controller.
func (p *Pods) mayShow(t target, e mount.Entry) bool {
	server, path, ok := volume.SplitExport(e.Source)
	if !ok || t.dir == "" || !t.matches(e.Source) {
		return false
	}
	return t.share.HasServer(server) || !slices.ContainsFunc(p.registry().Shares, func(s volume.Share) bool {
		return s.Name != t.share.Name && s.HasServer(server) && (s.Path == "/" || strings.HasPrefix(path, s.Path+"/"))
	})
}

// mountView mounts a volume at its target, which exists: a bind mount of another pod's mount or, if there
// is none, a mount from the server. The record comes last (verify): adopt verifies a mount without one at
// the next request.
func (p *Pods) mountView(ctx context.Context, v view, t target, table mount.Table) error {
	if bound, err := p.bindShared(ctx, v, t, table); bound || err != nil {
		return err
	}
	if p.visited.mayBeCached(t) {
		return p.mountViewFresh(ctx, v, t)
	}
	return p.mountFromServer(ctx, v, t, p.mount)
}

// mountViewFresh is mountView for a directory whose name the kernel may have cached for another one. It
// works for one pod at a time: each of two could get a superblock of its own, and not see the other's
// locks.
func (p *Pods) mountViewFresh(ctx context.Context, v view, t target) error {
	release, ok := p.locks.TryLock("fresh " + t.share.Name + "/" + t.dir)
	if !ok {
		return volume.Errorf(volume.ErrBusy, "the directory is just being mounted on this node for another pod: try again")
	}
	defer release()
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	if bound, err := p.bindShared(ctx, v, t, table); bound || err != nil { // another pod may just have mounted it
		return err
	}
	return p.mountFromServer(ctx, v, t, p.mountFresh)
}

// mountFromServer mounts a volume from the first server that answers.
func (p *Pods) mountFromServer(ctx context.Context, v view, t target, try func(context.Context, view, target) error) error {
	err := p.tryServers(ctx, t, func(ctx context.Context, server string) error {
		v.Server = server
		return try(ctx, v, t)
	})
	if err != nil {
		return err
	}
	p.probes.MarkHealthy(v.Target)
	return p.verify(ctx, v, t)
}

// bindShared bind-mounts another pod's mount of the volume. bound is false if there is none to share.
func (p *Pods) bindShared(ctx context.Context, v view, t target, table mount.Table) (bound bool, err error) {
	shared, err := p.findShared(ctx, v, t, table)
	if err != nil || shared.Target == "" {
		return false, err
	}
	v.Server = shared.Server
	e, _ := table.At(shared.Target)
	if err := p.mounter.Bind(ctx, e, v.Target, v.ReadOnly); err != nil {
		klog.FromContext(ctx).Info("A pod's mount cannot be shared: most likely it is gone", "volume", v.ID, "path", shared.Target, "reason", err.Error())
		return false, nil
	}
	return true, p.verify(ctx, v, t)
}

// mount mounts a directory whose name the kernel has not cached.
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

// mountFresh mounts a directory as the server has it now, whatever the kernel has cached.
func (p *Pods) mountFresh(ctx context.Context, v view, t target) error {
	// Everything else works without the state directory: see views.
	if err := os.MkdirAll(p.state.dir, 0o700); err != nil {
		return volume.Errorf(volume.ErrPrecondition, "the state directory is gone, and cannot be created (%w): restart the plugin on this node", err)
	}
	return p.runChild(ctx, ChildRequest{
		Share: t.share, Server: v.Server, Options: t.options, MountPoint: p.state.dir,
		Volume: true, Directory: t.dir, Target: v.Target, ReadOnly: v.ReadOnly,
	})
}

// verify records the mount at the target if it is the requested one, and unmounts it if it is not. A
// server may lead elsewhere: mount(8) follows a symbolic link, which NFSv4 shows in the table.
func (p *Pods) verify(ctx context.Context, v view, t target) error {
	table, err := p.mounter.Table()
	if err != nil {
		return err
	}
	e, mounted := table.At(v.Target)
	switch {
	case !mounted:
		return volume.Errorf(volume.ErrUnavailable, "nothing is mounted at %s any more: try again", v.Target)
	case !t.mayMatch(e.Source):
		err = volume.Errorf(volume.ErrPrecondition, "share %s: the server leads to %s: a name in the directory is a symbolic link: name the directory itself", t.share, e.Source)
	case e.ReadOnly() != v.ReadOnly:
		err = volume.Errorf(volume.ErrBusy, "share %s: what was mounted at %s was changed meanwhile: try again", t.share, v.Target)
	default:
		if mount.DowngradedTo3(mount.ValueOf(e.Super, "vers"), t.options) {
			klog.FromContext(ctx).Info("The volume is mounted with NFS 3: its server supports nothing newer, or has no such path in NFS 4 (fsid=0): mooringctl doctor reports which; set nfsvers=3 for the share if this is intended", "volume", v.ID, "source", e.Source, "path", v.Target)
		}
		v.ExportPath = exportPath(e.Source)
		p.views.put(ctx, v)
		return nil
	}
	return errors.Join(err, p.mounter.Unmount(ctx, v.Target))
}

// findShared returns a working view of the same volume with the same mount options, or a view without a
// target if there is none. The options of the PV count, and those of the current registry that restrict
// access: if other changes of the registry counted, the pods would have two superblocks, and not see
// each other's locks. The mount of a read-only view may still be writable now, but read-only when it is
// cloned.
func (p *Pods) findShared(ctx context.Context, v view, t target, table mount.Table) (view, error) {
	checked := map[string]error{} // by superblock
	for _, other := range p.views.byVolume(v.ID) {
		e, mounted := table.At(other.Target)
		usable := mounted && t.hasLocation(other.Location) && other.ExportPath == exportPath(e.Source) && t.share.HasServer(other.Server) &&
			other.sameOptions(v) && (v.ReadOnly || !other.ReadOnly && !e.ReadOnly()) && mount.VerifyOptions(e, t.options) == nil
		if !usable {
			continue
		}
		err, known := checked[e.Device]
		if !known || errors.Is(err, unix.ESTALE) { // one mount of a superblock can be stale, another not
			m := probeMount(e)
			m.ReadOnly = true // do not check for write access
			_, err = p.probes.Query(ctx, m, healthyTTL)
			checked[e.Device] = err
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

// Unpublish unmounts a volume from a pod's target path, and removes the directory. It succeeds if there
// is neither. It returns ErrPrecondition if the directory is not empty.
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
	p.inlines.unpublish(ctx, path)
	// After the unmount this is a local directory, which must be empty. Not os.Remove, which would
	// remove a file that is not ours.
	if err := os.NewSyscallError("rmdir "+path, syscall.Rmdir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrPrecondition, "unpublish volume %s: the mount is gone, but its directory cannot be removed (%w): remove what is in it", id, err)
	}
	return nil
}
