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
	"unicode/utf8"

	"github.com/mooring-csi/mooring/pkg/kube"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Orphan is an object whose counterpart is missing.
type Orphan struct {
	Share string `json:"share"`
	// Kind is "directory": of no volume that Mooring knows; "record": of a volume without its
	// directory; "claim": on a directory, of a volume that does not exist; "unfinished": a volume whose
	// creation or deletion does not continue; and in a cluster "PersistentVolume"
	// without a volume, "volume" without a PersistentVolume, "VolumeSnapshotContent" without a
	// snapshot, "snapshot" without a VolumeSnapshotContent.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Why says what is missing, and Remedy says what to do.
	Why    string `json:"why"`
	Remedy string `json:"remedy"`
}

// Cluster lists objects of a cluster. *kube.Client implements it.
type Cluster interface {
	PersistentVolumes(ctx context.Context, driver string, each func(kube.PersistentVolume) error) error
	SnapshotContents(ctx context.Context, driver string, each func(kube.SnapshotContent) error) error
}

// settleTime is the age from which Orphans reports something as unfinished, or as missing in the
// cluster: until then an operation may be running.
const settleTime = 2 * time.Minute

// objects are the names of a cluster's objects by their handles. nil: no cluster.
type objects struct{ volumes, contents map[string]string }

// Orphans calls each with each orphan on the shares and, unless cluster is nil, between the shares and
// the cluster, in which the driver has that name.
func (s *Service) Orphans(ctx context.Context, f Filter, cluster Cluster, driver string, each func(Orphan) error) error {
	var known *objects
	if cluster != nil {
		var err error
		if known, err = listObjects(ctx, cluster, driver); err != nil {
			s.report(err) // the orphans on the shares are found all the same
		}
	}
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Orphan]) error {
		o := orphans{s: s, sh: sh, name: sh.Definition().Name, cluster: known != nil, emit: emit}
		if known != nil {
			o.volumes, o.contents = objectsOf(sh.Definition(), known.volumes), objectsOf(sh.Definition(), known.contents)
		}
		return o.find(ctx)
	})
}

// listObjects lists the objects of a cluster.
func listObjects(ctx context.Context, cluster Cluster, driver string) (*objects, error) {
	known := &objects{map[string]string{}, map[string]string{}}
	err := cluster.PersistentVolumes(ctx, driver, func(v kube.PersistentVolume) error {
		known.volumes[v.Handle] = v.Name
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = cluster.SnapshotContents(ctx, driver, func(c kube.SnapshotContent) error {
		known.contents[c.Handle] = c.Name
		return nil
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}

// named is an object of a cluster, with its handle of an object on a share.
type named struct{ name, handle string }

// objectsOf returns those objects of a cluster that are of a share, by their keys. If a share was
// registered after it had volumes, the handles of these name its export.
func objectsOf(def volume.Share, all map[string]string) map[string]named {
	found := map[string]named{}
	for handle, name := range all {
		h, err := volume.ParseHandle(handle)
		if err != nil || !def.Matches(h.Share) { // a static PersistentVolume has any handle
			continue
		}
		found[h.Key] = named{name, handle}
	}
	return found
}

// orphans finds the orphans of one share.
type orphans struct {
	s       *Service
	sh      *share.Share
	name    string
	cluster bool // the cluster was listed
	emit    emitter[Orphan]

	volumes, contents map[string]named // of the cluster on this share, by key

	claims  map[string]bool   // by directory, whether it exists
	records map[string]string // directory by key
}

func (o *orphans) report(kind, name, why, remedy string) error {
	return o.emit(Orphan{Share: o.name, Kind: kind, Name: name, Why: why, Remedy: remedy})
}

func (o *orphans) find(ctx context.Context) error {
	// A volume that is created or deleted meanwhile is no orphan: each step looks it up again.
	keys, err := o.sh.Volumes.Keys(ctx)
	if err != nil {
		return err
	}
	o.claims, o.records = map[string]bool{}, map[string]string{}
	for _, step := range []func(context.Context) error{
		o.findUnclaimed,
		func(ctx context.Context) error { return o.checkRecords(ctx, keys) },
		o.checkClaims,
		o.persistentVolumes,
		o.snapshots,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// findUnclaimed finds the directories without a claim, and stores the claims.
func (o *orphans) findUnclaimed(ctx context.Context) error {
	return o.sh.Directories.Walk(ctx, func(p share.PathState) error {
		if p.Claimed {
			o.claims[p.Directory] = p.Exists
			return nil
		}
		key, err := o.sh.Directories.Owner(ctx, p.Directory)
		if isUnreadable(err) || key != "" {
			return nil // claimed just now
		}
		if err != nil {
			return err
		}
		remedy := "it belonged to a retained volume, or was made by a user: remove it if it is not needed"
		if _, base := volume.SplitDirectory(p.Directory); strings.HasPrefix(base, "archived-") {
			remedy = "it most likely belonged to an archived volume: remove it if it is not needed"
		}
		why := "no volume has it"
		if !utf8.ValidString(p.Directory) { // the printed name is ambiguous
			why += fmt.Sprintf("; the bytes of its name are %q", p.Directory)
		}
		return o.report("directory", p.Directory, why, remedy)
	})
}

// checkRecords checks that the volumes are finished and have their directories.
func (o *orphans) checkRecords(ctx context.Context, keys []string) error {
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
		r, err := o.sh.Volumes.Lookup(ctx, key)
		if err != nil {
			return nil, err
		}
		check := o.checkUnfinished
		if r.State == share.Ready {
			check = o.checkDirectory
		}
		orphan, err := check(ctx, r)
		if err != nil {
			return nil, err
		}
		return &row{key, r.Directory, orphan}, nil
	})
}

// checkUnfinished checks that the creation or deletion of a volume still continues.
func (o *orphans) checkUnfinished(ctx context.Context, r *share.StoredRecord) (*Orphan, error) {
	since := time.Now().Add(-r.Age()) // a running copy renews its lease
	if r.State != share.Making {
		var err error
		since, err = o.sh.Jobs.ChangedAt(volume.Object{Kind: volume.ObjectVolume, Key: r.Key})
		if err != nil || since.IsZero() {
			return nil, err
		}
	}
	if time.Since(since) <= settleTime {
		return nil, nil
	}
	at := since.UTC().Format(time.RFC3339)
	found := &Orphan{Share: o.name, Kind: "unfinished", Name: o.name + "/" + r.Key}
	if kept, err := o.sh.Trash.InPlaceEntry(ctx, r); kept != nil || err != nil {
		return nil, err // it is deleted, and stays in its place until its purge
	}
	switch r.State {
	case share.Deleting:
		found.Why = "its deletion is not complete; the last progress was at " + at
		found.Remedy = "delete its PersistentVolume again, which completes the deletion; as long as that exists, Kubernetes retries by itself"
	case share.Aborting:
		found.Why = "its creation failed and is not undone completely; the last progress was at " + at
		found.Remedy = "create the PersistentVolumeClaim again, or delete it: either completes this"
	default:
		found.Why = "its creation is not complete; the last progress was at " + at
		found.Remedy = "create the PersistentVolumeClaim again, or delete it: either completes this"
	}
	return found, nil
}

// checkDirectory checks that a volume has its directory.
func (o *orphans) checkDirectory(ctx context.Context, r *share.StoredRecord) (*Orphan, error) {
	if o.claims[r.Directory] {
		return nil, nil
	}
	there, err := o.sh.Directories.Exists(ctx, r.Directory)
	if err != nil || there {
		return nil, err
	}
	now, err := o.sh.Volumes.Lookup(ctx, r.Key)
	if err != nil || now.State != share.Ready || now.Nonce != r.Nonce {
		return nil, err // just deleted
	}
	return &Orphan{
		Share: o.name, Kind: "record", Name: o.name + "/" + r.Key,
		Why:    fmt.Sprintf("its directory %q does not exist", r.Directory),
		Remedy: "restore the directory from a backup, or delete the PersistentVolumeClaim, which forgets the volume",
	}, nil
}

// checkClaims checks that the claims are of volumes that exist.
func (o *orphans) checkClaims(ctx context.Context) error {
	return inOrder(ctx, o.s, slices.Sorted(maps.Keys(o.claims)), o.emit, func(directory string) (*Orphan, error) {
		key, err := o.sh.Directories.Owner(ctx, directory)
		if isUnreadable(err) {
			remedy := fmt.Sprintf("find out which volume has the directory, and then remove %s/claims/%s on the share", volume.StateDir, strings.ReplaceAll(directory, "/", "/taken/"))
			return &Orphan{Share: o.name, Kind: "claim", Name: directory, Why: "it cannot be read, and no volume takes it over", Remedy: remedy}, nil
		}
		if err != nil || key == "" || o.records[key] == directory {
			return nil, err
		}
		why, err := o.whyUnowned(ctx, directory, key)
		if err != nil || why == "" {
			return nil, err
		}
		// Or just deleted.
		again, err := o.sh.Directories.Owner(ctx, directory)
		if err != nil || again != key {
			return nil, err
		}
		remedy := "nothing has to be done: the next volume with this directory takes the claim over"
		if o.claims[directory] {
			why += "; the directory exists"
			remedy = "check whether the directory is needed, and move it away if it is not: the next volume with this directory takes the claim over"
		}
		return &Orphan{Share: o.name, Kind: "claim", Name: directory, Why: why, Remedy: remedy}, nil
	})
}

// whyUnowned says why a claim is not of the volume whose key it has; "" if it is, or that is unknown.
func (o *orphans) whyUnowned(ctx context.Context, directory, key string) (why string, err error) {
	r, err := o.sh.Volumes.Lookup(ctx, key)
	switch {
	case errors.Is(err, volume.ErrNotFound):
		return fmt.Sprintf("it is claimed for volume %s, which has no record", key), nil
	case isUnreadable(err): // already reported
		return "", nil
	case err != nil:
		return "", err
	case r.Directory == directory, r.State != share.Ready: // just created; or the name of an archive that is being created
		return "", nil
	}
	return fmt.Sprintf("it is claimed for volume %s, whose directory is %q", key, r.Directory), nil
}

// persistentVolumes compares the volumes with the PersistentVolumes.
func (o *orphans) persistentVolumes(ctx context.Context) error {
	if !o.cluster {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(o.volumes)) {
		if _, ok := o.records[key]; ok {
			continue
		}
		if _, err := o.sh.Volumes.Lookup(ctx, key); errors.Is(err, volume.ErrNotFound) {
			why := "its volume " + o.volumes[key].handle + " has no record"
			if err := o.report("PersistentVolume", o.volumes[key].name, why, "find it with mooringctl trash list, and restore it; or delete the PersistentVolume"); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.records)) {
		handle := o.name + "/" + key
		if _, ok := o.volumes[key]; ok {
			continue
		}
		r, err := o.sh.Volumes.Lookup(ctx, key)
		if err != nil || r.State != share.Ready || time.Since(r.Created) < settleTime {
			continue
		}
		remedy := fmt.Sprintf("it belongs to another cluster, or only its PersistentVolume was removed: create one for it, or move the directory away and remove %s/volumes/%s on the share", volume.StateDir, key)
		if err := o.report("volume", handle, "no PersistentVolume of this cluster has it", remedy); err != nil {
			return err
		}
	}
	return nil
}

// snapshots compares the snapshots with the VolumeSnapshotContents.
func (o *orphans) snapshots(ctx context.Context) error {
	if !o.cluster {
		return nil
	}
	keys, err := o.sh.Snapshots.Keys(ctx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		handle := o.name + "/" + key
		if _, ok := o.contents[key]; ok {
			continue
		}
		r, err := o.sh.Snapshots.Lookup(ctx, key)
		if err != nil || time.Since(r.Created) < settleTime {
			continue
		}
		if err := o.report("snapshot", handle, "no VolumeSnapshotContent of this cluster has it", "it belongs to another cluster, or only its VolumeSnapshotContent was removed: create one for it, also to delete the snapshot"); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.contents)) {
		if slices.Contains(keys, key) {
			continue
		}
		if _, err := o.sh.Snapshots.Lookup(ctx, key); errors.Is(err, volume.ErrNotFound) {
			c := o.contents[key]
			if err := o.report("VolumeSnapshotContent", c.name, "its snapshot "+c.handle+" does not exist", "delete it"); err != nil {
				return err
			}
		}
	}
	return nil
}
