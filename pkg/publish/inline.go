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
	// removeTimeout bounds the removal of a pod's directory during NodeUnpublishVolume.
	removeTimeout = 10 * time.Second
	// tidyInterval is how often the removal of the remaining directories is retried.
	tidyInterval = time.Minute
)

// InlineVolumes mounts inline volumes for pods, all in children (ChildRequest). The directory is an
// existing one on the share, or a new one, .mooring/inline/<key>, which belongs to one pod and goes
// to the trash when the pod ends (share.Inline). A local record exists for as long as a new
// directory must be removed.
type InlineVolumes struct {
	*nodeServices
	unsaved sync.Map // targets of pods that are gone, if that could not be recorded
}

// publish mounts a new directory for a pod, or an existing one, on a share that allows inline volumes.
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
	note := inlineNote{ID: r.ID, Target: r.Target, Share: def.Name, Key: volume.KeyFor(r.ID)}
	dir := r.Inline.Directory
	if dir == "" {
		dir = path.Join(volume.StateDir, volume.InlineDir, note.Key)
	}
	t := target{share: def, servers: def.Servers, dir: dir}
	t.setOptions(volume.MergeMountOptions(nodeOptions, def.MountOptions, r.Inline.Context))
	t.readOnly = t.readOnly || r.ReadOnly
	table, err := i.mounter.Table()
	if err != nil {
		return err
	}
	if e, mounted := table.At(r.Target); mounted {
		if !t.matches(e.Source) || e.ReadOnly() != t.readOnly {
			return volume.Errorf(volume.ErrExists, "inline volume %s cannot be published at %s: %s is mounted there, in another way", r.ID, r.Target, e.Source)
		}
		return i.markInUse(r.Target)
	}
	if err := makeDirectory(r.Target); err != nil {
		return fmt.Errorf("publish inline volume %s: %w", r.ID, err)
	}
	recorded, err := i.state.get(inlinePrefix, r.Target, new(inlineNote))
	if err != nil {
		return err
	}
	request := ChildRequest{Share: def, Directory: r.Inline.Directory, Target: r.Target, ReadOnly: t.readOnly}
	if r.Inline.Directory == "" {
		// The record comes before the directory, so that the directory will be removed.
		if err := i.state.put(inlinePrefix, r.Target, note); err != nil {
			return err
		}
		i.unsaved.Delete(r.Target)
		request.Key = note.Key
	}
	if tried, err := i.doOnShare(ctx, t, request); err != nil {
		switch {
		case request.Key == "":
		case recorded || tried:
			// If kubelet does not try again, it may not unpublish either.
			note.Left = true
			err = errors.Join(err, i.state.put(inlinePrefix, r.Target, note))
		default: // no server answers, and there is no directory
			err = errors.Join(err, i.state.drop(inlinePrefix, r.Target))
		}
		return fmt.Errorf("publish inline volume %s of pod %s: %w", r.ID, r.Inline.Pod, err)
	}
	i.probes.MarkHealthy(r.Target)
	return nil
}

// markInUse records that the pod at target exists. If the answer to an earlier attempt that mounted its
// directory was lost, the record says that the pod is gone.
func (i *InlineVolumes) markInUse(target string) error {
	var note inlineNote
	recorded, err := i.state.get(inlinePrefix, target, &note)
	if err != nil || !recorded || !i.hasLeft(note) {
		return err
	}
	i.unsaved.Delete(target)
	note.Left = false
	return i.state.put(inlinePrefix, target, note)
}

// share returns the share that a pod names. It returns ErrRefused if the share does not allow inline
// volumes.
func (i *InlineVolumes) share(v *volume.Inline) (volume.Share, error) {
	if err := volume.CheckShareName(v.Share); err != nil {
		return volume.Share{}, err
	}
	def, err := i.registry().Resolve(v.Share)
	switch {
	case err != nil:
		return def, err
	case !def.Inline:
		return def, volume.Errorf(volume.ErrRefused, "share %s does not allow inline volumes: use a PersistentVolumeClaim, or ask the administrator to set inline: true for the share", v.Share)
	case v.Directory == "":
		return def, nil
	}
	return def, volume.CheckDirectory(v.Directory)
}

// doOnShare executes a request on the share, mounted from the first server that answers. tried is false
// if none does.
func (i *InlineVolumes) doOnShare(ctx context.Context, t target, r ChildRequest) (tried bool, err error) {
	err = i.tryServers(ctx, t, func(ctx context.Context, server string) error {
		tried = true
		r.Server, r.Options, r.MountPoint = server, t.options, i.state.dir
		return i.runChild(ctx, r)
	})
	return tried, err
}

// unpublish removes the directory that was made for the mount at target, if there is one. A failure must
// not keep the pod from ending: if the share is not reachable, or the state directory is full or damaged,
// Tidy removes the directory later.
func (i *InlineVolumes) unpublish(ctx context.Context, target string) {
	log := klog.FromContext(ctx)
	var note inlineNote
	recorded, err := i.state.get(inlinePrefix, target, &note)
	if err != nil {
		log.Error(err, "Cannot read the record of an inline volume: its directory stays, if there is one", "path", target)
	}
	if err != nil || !recorded {
		return
	}
	note.Left = true
	if err := i.state.put(inlinePrefix, target, note); err != nil {
		i.unsaved.Store(target, true)
		log.Error(err, "Cannot record that the pod of an inline volume is gone", "volume", note.ID, "share", note.Share)
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if err := i.remove(ctx, note); err != nil {
		log.Error(err, "Cannot remove the directory of an inline volume now: it is removed later", "volume", note.ID, "share", note.Share)
	}
}

func (i *InlineVolumes) remove(ctx context.Context, note inlineNote) error {
	def, err := i.registry().Resolve(note.Share)
	if err != nil {
		return err
	}
	// Volumes of the same file system may be mounted with SELinux contexts. With sharecache, which the
	// share's options may have, this mount would need the same context.
	options := volume.MergeMountOptions(nodeOptions, def.MountOptions, []string{"rw", "nosharecache"})
	_, err = i.doOnShare(ctx, target{share: def, servers: def.Servers, options: options}, ChildRequest{Share: def, Key: note.Key})
	if err != nil {
		return err
	}
	i.unsaved.Delete(note.Target)
	return i.state.drop(inlinePrefix, note.Target)
}

// Tidy removes the directories of inline volumes whose pods are gone and whose share was not reachable
// then. It returns when ctx ends.
func (i *InlineVolumes) Tidy(ctx context.Context) {
	tick := time.NewTicker(tidyInterval)
	defer tick.Stop()
	var logged map[string]string
	for {
		logged = i.tidyOnce(ctx, logged)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tidyOnce removes what it can. It logs each reason why a directory stays once, for example that its share was
// removed from the configuration: logged are the reasons of the last time by target, and it returns those of
// this time.
func (i *InlineVolumes) tidyOnce(ctx context.Context, logged map[string]string) (reasons map[string]string) {
	log := klog.FromContext(ctx)
	reasons = map[string]string{}
	notes, err := readAll[inlineNote](i.state, inlinePrefix)
	if err != nil {
		log.Error(err, "Cannot read all records of inline volumes")
	}
	for _, note := range notes {
		if !i.hasLeft(note) {
			continue
		}
		if err := i.tidy(ctx, note.ID, note.Target); err != nil {
			if reasons[note.Target] = err.Error(); reasons[note.Target] != logged[note.Target] {
				log.Error(err, "Cannot remove the directory of an inline volume yet", "volume", note.ID, "share", note.Share)
			}
		}
	}
	return reasons
}

// hasLeft reports whether a pod is gone, even if that could not be recorded.
func (i *InlineVolumes) hasLeft(note inlineNote) bool {
	_, unsaved := i.unsaved.Load(note.Target)
	return note.Left || unsaved
}

// tidy removes the directory of a pod, unless another call holds its lock or the pod is back.
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
	var note inlineNote
	recorded, err := i.state.get(inlinePrefix, target, &note)
	if _, mounted := table.At(target); err != nil || !recorded || mounted || !i.hasLeft(note) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mountTimeout)
	defer cancel()
	return i.remove(ctx, note)
}
