// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	// slowThreshold is the duration of a volume's check from which health reports a slow share.
	slowThreshold = time.Second
	// healthBatch is how many volumes are checked for a page of the unhealthy ones.
	healthBatch = 256
)

// Health checks the health of volumes.
type Health struct {
	*access
	// fault returns why nothing can be written to a share. No Reason: none is known.
	fault func(share string) volume.Condition
	known sync.Map // keys of the volumes of each share ([]string by name), for when it is unavailable
}

// Volume returns what the controller finds wrong with a volume. It takes no lock and changes
// nothing.
//
// It reads the record (RecordDamaged) and checks that the directory exists (DirectoryMissing). It
// adds SlowResponses if that took more than a second, SharesOverlap if an unregistered export is
// inside a share or contains one, and the share's fault (jobs.Watcher.Fault). If the share cannot
// be used, the one condition says why, for example ServerUnreachable, ShareUnusable,
// ShareNotRegistered or AccessDenied. ErrNotFound: there is no such volume.
func (w *Health) Volume(ctx context.Context, h volume.Handle) ([]volume.Condition, error) {
	conditions, err := call(ctx, "look at volume "+h.Key, h.Share, func(ctx context.Context) ([]volume.Condition, error) {
		sh, release, err := w.open(ctx, h.Share, nil)
		if err != nil {
			return nil, err
		}
		defer release()
		start := time.Now()
		conditions, err := volumeHealth(ctx, sh, h.Key)
		if err != nil {
			return nil, err
		}
		if took := time.Since(start); took > slowThreshold {
			conditions = append(conditions, volume.Condition{Severity: volume.Degraded, Reason: volume.SlowResponses,
				Message: fmt.Sprintf("share %s: a look at the volume took %v: look at the server's load and at the network", sh.Definition(), took.Round(time.Millisecond))})
		}
		if err := w.checkNested(sh.Definition()); err != nil {
			conditions = append(conditions, volume.Condition{Severity: volume.Degraded, Reason: volume.SharesOverlap, Message: err.Error()})
		}
		if fault := w.fault(sh.Definition().Name); fault.Reason != "" {
			conditions = append(conditions, fault)
		}
		return conditions, nil
	})
	if err != nil {
		return w.conditionsOf(h.Share, err)
	}
	return conditions, nil
}

// conditionsOf returns the conditions of a volume whose share cannot be opened.
func (w *Health) conditionsOf(name string, err error) ([]volume.Condition, error) {
	if reason := share.FaultReason(err); reason != "" {
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: reason, Message: err.Error()}}, nil
	}
	switch volume.Kind(err) {
	case volume.ErrPrecondition:
		if _, unknown := w.shares.Registry().Resolve(name); unknown == nil { // it is registered, but unusable
			return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.ShareUnusable, Message: err.Error()}}, nil
		}
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.ShareNotRegistered, Message: err.Error()}}, nil
	case volume.ErrUnavailable, volume.ErrTimeout:
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.ServerUnreachable, Message: err.Error()}}, nil
	case volume.ErrRefused:
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.AccessDenied, Message: err.Error()}}, nil
	}
	return nil, err
}

// volumeHealth checks a record and its directory.
func volumeHealth(ctx context.Context, sh *share.Share, key string) ([]volume.Condition, error) {
	r, err := usableVolume(ctx, sh, key)
	if errors.Is(err, volume.ErrDamaged) {
		return []volume.Condition{{Severity: volume.Degraded, Reason: volume.RecordDamaged, Message: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	there, err := sh.Directories.Exists(ctx, r.Directory)
	switch {
	case volume.Kind(err) == volume.ErrPrecondition: // a link, a file
		return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.DirectoryMissing, Message: err.Error()}}, nil
	case err != nil || there:
		return nil, err
	}
	return []volume.Condition{{Severity: volume.Inaccessible, Reason: volume.DirectoryMissing,
		Message: fmt.Sprintf("share %s: the directory %q of volume %s is not there: somebody moved or removed it: put it back, or restore the volume from a snapshot", sh.Definition(), r.Directory, key)}}, nil
}

// List returns the unhealthy volumes of all shares, in the order of their handles: see
// Volumes.List. Of an unreachable share it returns the volumes that the last list found there.
func (w *Health) List(ctx context.Context, p volume.Page) ([]volume.Health, string, error) {
	registry := w.shares.Registry()
	w.known.Range(func(name, _ any) bool {
		if !registry.Has(name.(string)) {
			w.known.Delete(name)
		}
		return true
	})
	return list(ctx, w.access, p, listing[volume.Health]{
		what: "look at the volumes", many: healthBatch,
		keys: func(sh *share.Share, ctx context.Context) ([]string, error) {
			keys, err := sh.Volumes.Keys(ctx)
			if err == nil {
				w.known.Store(sh.Definition().Name, keys)
			}
			return keys, err
		},
		read: func(ctx context.Context, sh *share.Share, name, key string) (*volume.Health, error) {
			conditions, err := volumeHealth(ctx, sh, key)
			if share.FaultReason(err) == volume.DiskFailing { // under its record, or its directory
				conditions, err = w.conditionsOf(name, err)
			}
			if fault := w.fault(name); fault.Reason != "" && err == nil {
				conditions = append(conditions, fault)
			}
			if err != nil || conditions == nil {
				return nil, err
			}
			return &volume.Health{Handle: volume.Handle{Share: name, Key: key}, Conditions: conditions}, nil
		},
		absent: func(name string, err error) ([]string, func(string) volume.Health) {
			conditions, err := w.conditionsOf(name, err)
			keys, _ := w.known.Load(name)
			known, _ := keys.([]string)
			if err != nil {
				known = nil
			}
			return known, func(key string) volume.Health {
				return volume.Health{Handle: volume.Handle{Share: name, Key: key}, Conditions: conditions}
			}
		},
	})
}
