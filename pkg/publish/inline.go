// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	"k8s.io/klog/v2"
)

const (
	// leavePatience bounds the removal of a pod's directory while somebody waits for it.
	leavePatience = 10 * time.Second
	// tidyInterval is how often directories are looked after that could not be removed then.
	tidyInterval = time.Minute
)

// InlineVolumes shows pods inline volumes. There is no stage: the directory is the one pod's.
type InlineVolumes struct {
	*local
	unnoted sync.Map // targets of pods that are gone, which could not be noted
}

// publish shows a pod a directory of its own, or one that is there, on a share that allows
// that.
func (i *InlineVolumes) publish(ctx context.Context, r volume.PublishRequest) error {
	def, err := i.share(r.Inline)
	if err != nil {
		return fmt.Errorf("publish inline volume %s of pod %s: %w", r.ID, r.Inline.Pod, err)
	}
	unlock, err := i.lock(r.ID, r.ID, r.Target, true)
	if err != nil {
		return err
	}
	defer unlock()
	note := inline{ID: r.ID, Target: r.Target, Share: def.Name, Key: volume.KeyFor(r.ID)}
	dir := r.Inline.Directory
	if dir == "" {
		dir = path.Join(volume.StateDir, volume.InlineDir, note.Key)
	}
	t := target{share: def, servers: def.Servers, dir: dir}
	t.mountWith(volume.MergeMountOptions(nodeOptions, def.MountOptions, r.Inline.Context))
	t.readOnly = t.readOnly || r.ReadOnly
	table, err := i.mounter.Table()
	if err != nil {
		return err
	}
	if e, mounted := table.At(r.Target); mounted {
		if !t.is(e.Source) || e.ReadOnly() != t.readOnly {
			return volume.Errorf(volume.ErrExists, "inline volume %s cannot be published at %s: %s is mounted there, in another way", r.ID, r.Target, e.Source)
		}
		return i.stays(r.Target)
	}
	if err := makeDirectory(r.Target); err != nil {
		return fmt.Errorf("publish inline volume %s: %w", r.ID, err)
	}
	noted, err := i.state.get(inlinePrefix, r.Target, new(inline))
	if err != nil {
		return err
	}
	request := ChildRequest{Share: def, Directory: r.Inline.Directory, Target: r.Target, ReadOnly: t.readOnly}
	if r.Inline.Directory == "" {
		// Before there is a directory there is a note, by which it will be removed.
		if err := i.state.put(inlinePrefix, r.Target, note); err != nil {
			return err
		}
		i.unnoted.Delete(r.Target)
		request.Key = note.Key
	}
	if tried, err := i.viaShare(ctx, t, request); err != nil {
		switch {
		case request.Key == "":
		case noted || tried:
			// Where nobody tries again, nobody may unpublish either.
			note.Left = true
			err = errors.Join(err, i.state.put(inlinePrefix, r.Target, note))
		default: // no server answers, and nothing was made
			err = errors.Join(err, i.state.drop(inlinePrefix, r.Target))
		}
		return fmt.Errorf("publish inline volume %s of pod %s: %w", r.ID, r.Inline.Pod, err)
	}
	i.probes.MarkHealthy(r.Target)
	return nil
}

// stays notes that the pod is there whose directory is mounted at target. The answer to an attempt that
// mounted it may have been lost, and then it was noted that the pod was gone.
func (i *InlineVolumes) stays(target string) error {
	var note inline
	noted, err := i.state.get(inlinePrefix, target, &note)
	if err != nil || !noted || !i.left(note) {
		return err
	}
	i.unnoted.Delete(target)
	note.Left = false
	return i.state.put(inlinePrefix, target, note)
}

// share returns the share that a pod names, if it may.
func (i *InlineVolumes) share(v *volume.Inline) (volume.Share, error) {
	if err := volume.CheckShareName(v.Share); err != nil {
		return volume.Share{}, err
	}
	def, err := i.registry().Resolve(v.Share)
	switch {
	case err != nil:
		return def, err
	case !def.Inline:
		return def, volume.Errorf(volume.ErrRefused, "share %s is not for inline volumes: use a PersistentVolumeClaim, or have the administrator set inline: true for the share", v.Share)
	case v.Directory == "":
		return def, nil
	}
	return def, volume.CheckDirectory(v.Directory)
}

// viaShare does a request on the share, mounted from the first server that answers. tried is false where
// none does.
func (i *InlineVolumes) viaShare(ctx context.Context, t target, r ChildRequest) (tried bool, err error) {
	err = i.eachServer(ctx, t, func(ctx context.Context, server string) error {
		tried = true
		r.Server, r.Options, r.At = server, t.options, i.state.dir
		return i.do(ctx, r)
	})
	return tried, err
}

// leave removes the directory that was made for what was mounted at target, if one was. The pod must
// be able to go: where the share cannot be reached, or the state directory is full or damaged, that is
// done later, and not here.
func (i *InlineVolumes) leave(ctx context.Context, target string) {
	log := klog.FromContext(ctx)
	var note inline
	noted, err := i.state.get(inlinePrefix, target, &note)
	if err != nil {
		log.Error(err, "The directory of an inline volume stays, if there is one: its note cannot be read", "path", target)
	}
	if err != nil || !noted {
		return
	}
	note.Left = true
	if err := i.state.put(inlinePrefix, target, note); err != nil {
		i.unnoted.Store(target, true)
		log.Error(err, "It is not noted that an inline volume's pod is gone", "volume", note.ID, "share", note.Share)
	}
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	if err := i.remove(ctx, note); err != nil {
		log.Error(err, "The directory of an inline volume stays for now, and is removed later", "volume", note.ID, "share", note.Share)
	}
}

func (i *InlineVolumes) remove(ctx context.Context, note inline) error {
	def, err := i.registry().Resolve(note.Share)
	if err != nil {
		return err
	}
	// Volumes of the same file system may be mounted with SELinux contexts, which it would have to
	// share where the share's options have sharecache.
	options := volume.MergeMountOptions(nodeOptions, def.MountOptions, []string{"rw", "nosharecache"})
	_, err = i.viaShare(ctx, target{share: def, servers: def.Servers, options: options}, ChildRequest{Share: def, Key: note.Key})
	if err != nil {
		return err
	}
	i.unnoted.Delete(note.Target)
	return i.state.drop(inlinePrefix, note.Target)
}

// Tidy removes, until ctx ends, directories of inline volumes whose pods are gone and whose
// share could not be reached then.
func (i *InlineVolumes) Tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	for {
		i.tidyOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (i *InlineVolumes) tidyOnce(ctx context.Context) {
	log := klog.FromContext(ctx)
	notes, err := all[inline](i.state, inlinePrefix)
	if err != nil {
		log.Error(err, "The notes of inline volumes cannot all be read")
	}
	for _, note := range notes {
		if !i.left(note) {
			continue
		}
		if err := i.tidy(ctx, note.ID, note.Target); err != nil {
			log.Error(err, "The directory of an inline volume cannot be removed yet", "volume", note.ID, "share", note.Share)
		}
	}
}

// left reports whether a pod is gone, whether that could be noted or not.
func (i *InlineVolumes) left(note inline) bool {
	_, unnoted := i.unnoted.Load(note.Target)
	return note.Left || unnoted
}

// tidy removes a pod's directory, unless somebody is at it, or has come back to it.
func (i *InlineVolumes) tidy(ctx context.Context, id, target string) error {
	unlock, err := i.lock(id, id, target, true)
	if err != nil {
		return nil
	}
	defer unlock()
	table, err := i.mounter.Table()
	if err != nil {
		return err
	}
	var note inline
	noted, err := i.state.get(inlinePrefix, target, &note)
	if _, mounted := table.At(target); err != nil || !noted || mounted || !i.left(note) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mountPatience)
	defer cancel()
	return i.remove(ctx, note)
}
