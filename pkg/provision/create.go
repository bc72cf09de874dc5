// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Create creates a volume, or finds it.
//
//	lock the volume       in this process
//	size it               as its source, if the request has no size
//	choose its share      see below
//	open the share        and lay it out if it is not (share.Identity.LayOut)
//	check the limits      maxVolumes and free space, unless the share has a record of the volume
//	create the record     share.Volumes.Begin
//	make the directory    share.Pending.MakeDirectory
//	make it exist         share.Pending.Commit
//
// The share is the one that has a record of the volume already or, if there is none, the one with
// the most free space among those that answer within 5 seconds. A volume with a source is created
// on the source's share, if the class names that one; else it is copied to another share. A job
// fills and commits a volume that has a source (Copier.Volume); a retry waits for the same job.
// With restore: shallow, a volume that nobody writes to, from a snapshot of its share, is the
// snapshot itself (share.Pending.UseSnapshot, then Commit). Any other volume is copied.
//
// If Begin finds a record, Create returns the volume that exists, waits for the copy that this
// process makes for it (Copier.Join), or undoes a creation that was abandoned
// (share.Volumes.AbortAbandoned) and begins again, up to 3 times. If a later step fails, Create ends
// with share.Pending.Fail; if a copy fails, its job undoes the creation.
//
// ErrInvalid: the request has no name, its range of sizes or its directory is not valid, its handle
// would be too long, or the class adopts directories and the volume has a source. ErrExists: there
// is a volume of that name with other properties. ErrBusy: another call or process creates or
// deletes it, or its deleted directory stays in its place until it is purged. ErrTimeout: the job
// is still copying. ErrNotFound: there is no such source, or it is being created or deleted.
// ErrFull: the share has maxVolumes volumes, or too little free space for capacity: checked.
// ErrOutOfRange: the source is larger than the request, or the request larger than the share.
// ErrPrecondition: a share of the class or of the source is not registered, or the directory
// belongs to another volume, or exists and is not adopted, or the directory of the existing volume
// is missing, or the free space is not known for capacity: checked.
func (v *Volumes) Create(ctx context.Context, w volume.CreateRequest) (*volume.Volume, error) {
	if w.Name == "" {
		return nil, volume.Errorf(volume.ErrInvalid, "the volume has no name")
	}
	if err := w.Capacity.Check(); err != nil {
		return nil, err
	}
	directory, err := v.directory(w)
	if err != nil {
		return nil, err
	}
	var from volume.Share
	if w.Source != nil {
		if from, err = v.shares.Registry().Resolve(w.Source.Share); err != nil {
			return nil, err
		}
	}
	shares, err := v.candidates(w)
	if err != nil {
		return nil, err
	}
	key := volume.KeyFor(w.Name)
	for _, name := range shares {
		if _, err := volume.NewHandle(name, key); err != nil {
			return nil, err
		}
	}
	if w.Source != nil && slices.Contains(shares, from.Name) {
		shares = []string{from.Name} // there the server can share the blocks
	}
	return run(ctx, v.access, "volume "+key, strings.Join(shares, " or "), func(ctx context.Context) (*volume.Volume, error) {
		if w.Source != nil && w.Capacity.Required == 0 {
			size, err := v.sourceSize(ctx, *w.Source, w.MountOptions)
			if err != nil {
				return nil, err
			}
			w.Capacity.Required = size
			if err := w.Capacity.Check(); err != nil {
				return nil, volume.Errorf(volume.ErrOutOfRange, "%s has %d bytes, which is over the limit of %d", w.Source, size, w.Capacity.Limit)
			}
		}
		name, err := v.place(ctx, shares, key)
		if err != nil {
			return nil, err
		}
		sh, release, err := v.openToCreate(ctx, name, w.MountOptions)
		if err != nil {
			return nil, err
		}
		defer release()
		r, err := v.create(ctx, sh, w, record(w, key, directory))
		if err != nil {
			return nil, err
		}
		return toVolume(name, r), nil
	})
}

// directory returns the volume's directory from the template of the class or of the configuration.
func (v *Volumes) directory(w volume.CreateRequest) (string, error) {
	names := w.Params.Names
	names.Name = w.Name
	if w.Params.SubDir.IsZero() {
		return v.shares.Registry().SubDir.ExpandDefault(names)
	}
	return w.Params.SubDir.Expand(names)
}

// record returns the record of the requested volume.
func record(w volume.CreateRequest, key, directory string) volume.Record {
	r := volume.Record{
		Key: key, Name: w.Name, Directory: directory, Capacity: w.Capacity.Size(),
		Mode: w.Params.Mode, UID: w.Params.UID, GID: w.Params.GID,
		Adopt: w.Params.Adopt, RequestedOnDelete: w.Params.OnDelete,
		OnDelete:  cmp.Or(w.Mutable.OnDelete, w.Params.OnDelete, volume.Delete),
		Retention: cmp.Or(w.Mutable.Retention, w.Params.Retention),
		Created:   time.Now().UTC().Truncate(time.Second),
		Source:    w.Source,
	}
	if n := w.Params.Names; n.Namespace != "" && n.PVC != "" {
		r.PVC = &volume.PVC{Namespace: n.Namespace, Name: n.PVC}
	}
	return r
}

// makeShallow changes a record to one of the snapshot itself, if the class requests that, the source
// is a snapshot on this share, and nobody writes to the volume. Any other volume is a copy.
func makeShallow(r *volume.Record, w volume.CreateRequest, def volume.Share) {
	if w.Source == nil || w.Source.Kind != volume.ObjectSnapshot || !def.Matches(w.Source.Share) || !w.ReadOnly || !w.Params.Shallow {
		return
	}
	r.Shallow, r.Directory = true, volume.SnapshotDirectory(w.Source.Key)
	r.Mode, r.UID, r.GID, r.Adopt = nil, nil, nil, false
}

// create does the steps of Create on the open share.
func (v *Volumes) create(ctx context.Context, sh *share.Share, w volume.CreateRequest, r volume.Record) (*volume.Record, error) {
	def := sh.Definition()
	makeShallow(&r, w, def)
	if w.Params.CheckCapacity || def.MaxVolumes > 0 {
		if err := checkLimits(ctx, sh, w, r.Key); err != nil {
			return nil, err
		}
	}
	if r.Adopt {
		if err := adopt(ctx, sh, w, &r); err != nil {
			return nil, err
		}
	}
	for range maxBegins {
		p, found, err := sh.Volumes.Begin(ctx, r)
		if err != nil {
			return nil, err
		}
		if p != nil {
			return v.finish(ctx, sh, w, p)
		}
		done, err := v.resolveExisting(ctx, sh, w, &r, found)
		if done != nil || err != nil {
			return done, err
		}
	}
	return nil, volume.Errorf(volume.ErrBusy, "share %s: volume %s is created and given up again and again: try again", def, r.Key)
}

// maxBegins is how often a creation begins, again after the undo of an abandoned one. After that it
// returns ErrBusy.
const maxBegins = 3

// adopt sets whether the volume adopts an existing directory.
func adopt(ctx context.Context, sh *share.Share, w volume.CreateRequest, r *volume.Record) error {
	if r.Source != nil {
		return volume.Errorf(volume.ErrInvalid, "the class says existingDirectory: adopt, and a volume made from %s needs a new directory: use another class for it", r.Source)
	}
	exists, err := sh.Directories.Exists(ctx, r.Directory)
	if err != nil {
		return err
	}
	r.Adopted = exists
	if exists && w.Mutable.OnDelete == "" && r.RequestedOnDelete == "" {
		r.OnDelete = volume.Retain
	}
	return nil
}

// resolveExisting handles an existing volume of that name. It returns its record if it has the requested
// properties. It undoes an abandoned creation, and then returns nil, nil.
func (v *Volumes) resolveExisting(ctx context.Context, sh *share.Share, w volume.CreateRequest, r *volume.Record, found *share.StoredRecord) (*volume.Record, error) {
	def := sh.Definition()
	if found.State == share.Deleting {
		return nil, deletingError(ctx, sh, w, found)
	}
	if differs := found.Differences(r, w.Capacity); differs != "" {
		return nil, volume.Errorf(volume.ErrExists, "share %s: there is a volume %s already, and it is another: %s", def, w.Name, differs)
	}
	if found.State == share.Ready {
		return existingVolume(ctx, sh, found)
	}
	if r.Source != nil && !r.Shallow {
		done, ok, err := v.copier.Join(ctx, def.Name, volume.Object{Kind: volume.ObjectVolume, Key: r.Key})
		if ok {
			return done, err
		}
	}
	err := sh.Volumes.AbortAbandoned(ctx, found)
	if found.Source != nil { // an incomplete copy may be in the trash
		v.purger.Rescan(def.Name)
	}
	return nil, err
}

// deletingError says why a volume that is being deleted cannot be created again yet.
func deletingError(ctx context.Context, sh *share.Share, w volume.CreateRequest, found *share.StoredRecord) error {
	kept, err := sh.Trash.InPlaceEntry(ctx, found)
	if err != nil {
		return err
	}
	if kept == nil {
		return volume.Errorf(volume.ErrBusy, "share %s: volume %s is just being deleted: try again", sh.Definition(), w.Name)
	}
	return volume.Errorf(volume.ErrBusy, "share %s: volume %s was deleted, and its directory %q stays in its place until it is purged, after %s (docs/operate.md): try again then, or purge it by mooringctl", sh.Definition(), w.Name, found.Directory, kept.Due.Format(time.RFC3339))
}

// existingVolume returns the record of an existing volume, if its directory exists.
func existingVolume(ctx context.Context, sh *share.Share, f *share.StoredRecord) (*volume.Record, error) {
	r := &f.Record
	exists, err := sh.Directories.Exists(ctx, r.Directory)
	if err != nil {
		return nil, err
	}
	if exists {
		return r, nil
	}
	return nil, volume.Errorf(volume.ErrPrecondition, "share %s: volume %s has a record, but its directory %q does not exist: somebody removed it: delete the volume before it is created again", sh.Definition(), r.Key, r.Directory)
}

// finish creates the volume after Begin: it makes the directory, or uses the snapshot itself, and commits.
// A job fills and commits a volume from a snapshot or another volume.
func (v *Volumes) finish(ctx context.Context, sh *share.Share, w volume.CreateRequest, p *share.Pending) (*volume.Record, error) {
	r := p.Record()
	if r.Shallow {
		if err := p.UseSnapshot(ctx); err != nil {
			return nil, p.Fail(ctx, err)
		}
		return commit(ctx, p)
	}
	if err := p.MakeDirectory(ctx); err != nil {
		return nil, p.Fail(ctx, err)
	}
	if r.Source == nil {
		return commit(ctx, p)
	}
	copy := volume.Copy{Target: volume.Object{Kind: volume.ObjectVolume, Key: r.Key}, Source: *r.Source}
	return v.copier.Volume(ctx, sh.Definition().Name, copy, p, w.MountOptions)
}

// commit commits a creation, or undoes it.
func commit(ctx context.Context, p *share.Pending) (*volume.Record, error) {
	r, err := p.Commit(ctx)
	if err != nil {
		return nil, p.Fail(ctx, err)
	}
	return r, nil
}

// checkLimits returns an error if a new volume exceeds maxVolumes (ErrFull) or the free space
// (checkSpace). It returns nil if the share has a record of the volume.
func checkLimits(ctx context.Context, sh *share.Share, w volume.CreateRequest, key string) error {
	def := sh.Definition()
	if _, err := sh.Volumes.Lookup(ctx, key); !errors.Is(err, volume.ErrNotFound) {
		return err
	}
	if def.MaxVolumes > 0 {
		keys, err := sh.Volumes.Keys(ctx)
		if err != nil {
			return err
		}
		if len(keys) >= def.MaxVolumes {
			return volume.Errorf(volume.ErrFull, "share %s has %d volumes, and maxVolumes is %d: delete some, or raise it in Mooring's configuration", def, len(keys), def.MaxVolumes)
		}
	}
	if !w.Params.CheckCapacity {
		return nil
	}
	space, err := sh.Space(ctx)
	if err != nil {
		return err
	}
	return checkSpace(def, space, w.Capacity.Required)
}

// checkSpace returns an error if a volume exceeds the free space (ErrFull) or the whole share
// (ErrOutOfRange), or if these are unknown (ErrPrecondition).
func checkSpace(def volume.Share, space volume.Space, required int64) error {
	switch {
	case !space.Known():
		return volume.Errorf(volume.ErrPrecondition, "the server of share %s does not say how much space it has, and the class has capacity: checked: say capacity: unchecked in the class", def)
	case required > space.Total:
		return volume.Errorf(volume.ErrOutOfRange, "share %s has %d bytes in all, and %d are asked for", def, space.Total, required)
	case required > space.Free:
		return volume.Errorf(volume.ErrFull, "share %s has %d bytes free, and %d are asked for: free some, or say capacity: unchecked in the class", def, space.Free, required)
	}
	return nil
}

// sourceSize returns the size of a volume from source if the request has none.
func (v *Volumes) sourceSize(ctx context.Context, source volume.Source, options []string) (int64, error) {
	sh, release, err := v.open(ctx, source.Share, options)
	if err != nil {
		return 0, err
	}
	defer release()
	if source.Kind == volume.ObjectVolume {
		r, err := usableVolume(ctx, sh, source.Key)
		if err != nil {
			return 0, err
		}
		return r.Capacity, nil
	}
	r, err := usableSnapshot(ctx, sh, source.Key)
	if err != nil {
		return 0, err
	}
	return max(r.Capacity, r.RestoreSize()), nil
}
