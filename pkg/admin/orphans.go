// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Orphan is something that belongs to nothing.
type Orphan struct {
	Share string `json:"share"`
	// Kind is "directory": nobody's, so far as Mooring knows; "record": of a volume whose
	// directory is not there; "claim": on a directory, of a volume that is not there;
	// "unfinished": a volume that nobody has gone on making; and in a cluster "PersistentVolume"
	// without a volume, "volume" without a PersistentVolume, "VolumeSnapshotContent" without a
	// snapshot, "snapshot" without a VolumeSnapshotContent.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Why says what is missing, and Remedy what to do.
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// Cluster is what is asked of a cluster. *kube.Client is one.
type Cluster interface {
	PersistentVolumes(ctx context.Context, driver string, each func(kube.PersistentVolume) error) error
	SnapshotContents(ctx context.Context, driver string, each func(kube.SnapshotContent) error) error
}

// settled is how old something has to be before it is called unfinished, or missed in the
// cluster: until then somebody may be at it.
const settled = 2 * time.Minute

// objects are the names of a cluster's objects by their handles. nil: there is no cluster.
type objects struct{ volumes, contents map[string]string }

// Orphans calls each for what belongs to nothing, on the shares and, unless cluster is nil,
// between them and the cluster, in which the driver has that name.
func (s *Service) Orphans(ctx context.Context, f Filter, cluster Cluster, driver string, each func(Orphan) error) error {
	var known *objects
	if cluster != nil {
		known = &objects{map[string]string{}, map[string]string{}}
		err := cluster.PersistentVolumes(ctx, driver, func(v kube.PersistentVolume) error {
			known.volumes[v.Handle] = v.Name
			return nil
		})
		if err == nil {
			err = cluster.SnapshotContents(ctx, driver, func(c kube.SnapshotContent) error {
				known.contents[c.Handle] = c.Name
				return nil
			})
		}
		if err != nil { // what is on the shares can be told all the same
			s.report(err)
			known = nil
		}
	}
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Orphan]) error {
		o := orphans{s: s, sh: sh, name: sh.Definition().Name, objects: known, emit: emit}
		return o.find(ctx)
	})
}

// orphans finds those of one share.
type orphans struct {
	*objects
	s    *Service
	sh   *share.Share
	name string
	emit emitter[Orphan]

	there   map[string]bool   // claimed directories, and whether they are there
	records map[string]string // directory by key
}

func (o *orphans) found(kind, name, why, remedy string) error {
	return o.emit(Orphan{Share: o.name, Kind: kind, Name: name, Why: why, Remedy: remedy})
}

func (o *orphans) find(ctx context.Context) error {
	// Keys before and after: a volume that is made or deleted meanwhile is no orphan.
	keys, err := o.sh.Keys(ctx)
	if err != nil {
		return err
	}
	o.there, o.records = map[string]bool{}, map[string]string{}
	for _, look := range []func(context.Context) error{
		o.directories,
		func(ctx context.Context) error { return o.recorded(ctx, keys) },
		o.claimed,
		o.inCluster,
		o.snapshots,
	} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// directories finds those that nobody has claimed, and notes the others.
func (o *orphans) directories(ctx context.Context) error {
	return o.sh.Places(ctx, func(p share.Place) error {
		if p.Claimed {
			o.there[p.Directory] = p.There
			return nil
		}
		if key, err := o.sh.ClaimedFor(ctx, p.Directory); err != nil || key != "" {
			return err // just made
		}
		remedy := "a volume's that was retained, or somebody's own: remove it when it is not needed"
		if _, base := volume.SplitDirectory(p.Directory); strings.HasPrefix(base, "archived-") {
			remedy = "that of an archived volume, most likely: remove it when it is not needed"
		}
		return o.found("directory", p.Directory, "no volume has it", remedy)
	})
}

// recorded looks whether the volumes have their directories.
func (o *orphans) recorded(ctx context.Context, keys []string) error {
	type row struct {
		key, directory string
		orphan         *Orphan
	}
	take := func(rows ...row) error {
		var found []Orphan
		for _, r := range rows {
			o.records[r.key] = r.directory
			if r.orphan != nil {
				found = append(found, *r.orphan)
			}
		}
		return o.emit(found...)
	}
	return inOrder(ctx, o.s, keys, take, func(key string) (*row, error) {
		r, err := o.sh.Lookup(ctx, key)
		if err != nil {
			return nil, err
		}
		found := &row{key: key, directory: r.Directory}
		handle := o.name + "/" + key
		switch {
		case o.there[r.Directory]:
		case r.Ready == 0 && time.Since(r.Created) > settled:
			found.orphan = &Orphan{o.name, "unfinished", handle, "its making was begun at " + r.Created.Format(time.RFC3339) + " and not ended", "create the claim again, or delete it: either ends it"}
		case r.Ready == 1:
			there, err := o.sh.Exists(ctx, r.Directory)
			if err != nil || there {
				return found, err
			}
			if _, err := o.sh.Lookup(ctx, key); err != nil {
				return nil, err // just deleted
			}
			found.orphan = &Orphan{o.name, "record", handle, fmt.Sprintf("its directory %q is not there", r.Directory), "restore the directory from a backup, or delete the claim, which forgets the volume"}
		}
		return found, nil
	})
}

// claimed looks whether the claims are of volumes that are there.
func (o *orphans) claimed(ctx context.Context) error {
	type row struct{ directory, key string }
	directories := slices.Sorted(maps.Keys(o.there))
	take := func(rows ...row) error {
		for _, r := range rows {
			why := fmt.Sprintf("it is claimed for volume %s, which has no record", r.key)
			if of, ok := o.records[r.key]; ok {
				why = fmt.Sprintf("it is claimed for volume %s, whose directory is %q", r.key, of)
			}
			if o.there[r.directory] {
				why += "; the directory is there"
			}
			remedy := fmt.Sprintf("once it is clear that nobody needs the directory, remove %s/claims/%s on the share", volume.StateDir, r.directory)
			if err := o.found("claim", r.directory, why, remedy); err != nil {
				return err
			}
		}
		return nil
	}
	return inOrder(ctx, o.s, directories, take, func(directory string) (*row, error) {
		key, err := o.sh.ClaimedFor(ctx, directory)
		if err != nil || key == "" || o.records[key] == directory {
			return nil, err
		}
		r, err := o.sh.Lookup(ctx, key)
		switch {
		case err == nil && r.Directory == directory: // just made
			return nil, nil
		case err != nil && !errors.Is(err, volume.ErrNotFound):
			return nil, nil // a record that is damaged was reported
		}
		// Or just deleted.
		if again, err := o.sh.ClaimedFor(ctx, directory); err != nil || again != key {
			return nil, err
		}
		return &row{directory, key}, nil
	})
}

// inCluster compares the volumes with the PersistentVolumes.
func (o *orphans) inCluster(ctx context.Context) error {
	if o.objects == nil {
		return nil
	}
	for _, handle := range slices.Sorted(maps.Keys(o.volumes)) {
		h, err := volume.ParseHandle(handle)
		if err != nil || h.Share != o.name {
			continue // a static one has any handle
		}
		if _, ok := o.records[h.Key]; ok {
			continue
		}
		if _, err := o.sh.Lookup(ctx, h.Key); errors.Is(err, volume.ErrNotFound) {
			why := "its volume " + handle + " has no record"
			if err := o.found("PersistentVolume", o.volumes[handle], why, "look for it with mooringctl trash list, and bring it back; or delete the PersistentVolume"); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.records)) {
		handle := o.name + "/" + key
		if o.volumes[handle] != "" {
			continue
		}
		r, err := o.sh.Lookup(ctx, key)
		if err != nil || time.Since(r.Created) < settled {
			continue
		}
		if err := o.found("volume", handle, "no PersistentVolume of this cluster has it", "another cluster's, or its PersistentVolume was removed without it: make one for it, or move the directory away and remove the record"); err != nil {
			return err
		}
	}
	return nil
}

// snapshots compares them with the VolumeSnapshotContents.
func (o *orphans) snapshots(ctx context.Context) error {
	if o.objects == nil {
		return nil
	}
	keys, err := o.sh.SnapshotKeys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		handle := o.name + "/" + key
		if o.contents[handle] != "" {
			continue
		}
		r, err := o.sh.Snapshot(ctx, key)
		if err != nil || time.Since(r.Created) < settled {
			continue
		}
		if err := o.found("snapshot", handle, "no VolumeSnapshotContent of this cluster has it", "another cluster's, or its content was removed without it: make one for it, or delete it by one"); err != nil {
			return err
		}
	}
	for _, handle := range slices.Sorted(maps.Keys(o.contents)) {
		h, err := volume.ParseHandle(handle)
		if err != nil || h.Share != o.name || slices.Contains(keys, h.Key) {
			continue
		}
		if _, err := o.sh.Snapshot(ctx, h.Key); errors.Is(err, volume.ErrNotFound) {
			if err := o.found("VolumeSnapshotContent", o.contents[handle], "its snapshot "+handle+" is not there", "delete it"); err != nil {
				return err
			}
		}
	}
	return nil
}
