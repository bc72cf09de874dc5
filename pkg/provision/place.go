// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// candidates are the names of the shares on which the volume may be. All of them have to be known.
func (a *access) candidates(w volume.CreateRequest) ([]string, error) {
	registry := a.shares.Registry()
	names := w.Params.Shares
	if len(names) == 1 && names[0] == "*" {
		names = nil
		for _, sh := range registry.Shares {
			names = append(names, sh.Name)
		}
	}
	if len(names) == 0 {
		return nil, volume.Errorf(volume.ErrPrecondition, "the class asks for any share, and Mooring's configuration has none: register one")
	}
	var known []string
	for _, name := range names {
		def, err := registry.Resolve(name)
		if err != nil {
			return nil, err
		}
		if err := a.nested(def); err != nil {
			return nil, err
		}
		known = append(known, def.Name)
	}
	return known, nil
}

// nested says whether an export that is not registered gets no new volumes, as it lies inside a share
// or holds one. Of exports that are not registered either those count which this process knows, and
// only those around it. The error is ErrPrecondition.
func (a *access) nested(def volume.Share) error {
	registry := a.shares.Registry()
	if err := registry.CheckNested(def); err != nil {
		return err
	}
	if _, _, export := volume.SplitExport(def.Name); !export {
		return nil
	}
	for _, name := range a.shares.Known() {
		o, err := registry.Resolve(name)
		if err != nil || !def.IsInside(o) {
			continue
		}
		return volume.Errorf(volume.ErrPrecondition, "export %s lies inside export %s, which has volumes too, and one of those could hold it: name that one in the class, with a subDir, or register this one as a share", def.Name, o.Name)
	}
	return nil
}

// place chooses the share: the one where the volume's record is already, or else the one
// with the most free space of those that answer. One that does not say how much it has is taken if all
// others are full.
func (a *access) place(ctx context.Context, names []string, key string) (string, error) {
	if len(names) == 1 {
		return names[0], nil
	}
	type seen struct {
		name  string
		has   bool
		space volume.Space
		err   error
	}
	looks := make(chan seen, len(names))
	for _, name := range names {
		go func() {
			l := seen{name: name}
			defer func() { looks <- l }()
			sh, release, err := a.shares.Open(ctx, name, nil)
			if err != nil {
				l.err = err
				return
			}
			defer release()
			l.has, l.err = has(ctx, sh, key)
			if !l.has && l.err == nil {
				l.space, l.err = sh.Space(ctx)
			}
		}()
	}
	var best seen
	var errs []error
	// A share that is silent holds the choice up no longer than a moment beyond the others.
	patience := time.NewTimer(placePatience)
	defer patience.Stop()
	for range names {
		select {
		case l := <-looks:
			switch {
			case l.has:
				return l.name, nil
			case l.err != nil:
				errs = append(errs, l.err)
			case best.name == "" || cmp.Or(l.space.CompareFree(best.space), strings.Compare(best.name, l.name)) > 0:
				best = l
			}
			continue
		case <-patience.C:
		case <-ctx.Done():
		}
		break
	}
	if best.name == "" {
		return "", volume.Errorf(volume.ErrUnavailable, "none of the shares %s can be used: %w", strings.Join(names, ", "), errors.Join(errs...))
	}
	return best.name, nil
}

// has reports whether there is a record of key on the share, good or not.
func has(ctx context.Context, sh *share.Share, key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	_, err := sh.Volumes.Lookup(ctx, key)
	switch {
	case err == nil, errors.Is(err, volume.ErrDamaged), errors.Is(err, volume.ErrPrecondition):
		return true, nil
	case errors.Is(err, volume.ErrNotFound):
		return false, nil
	}
	return false, err
}

// placePatience is how long the choice among several shares waits for those that do not answer.
const placePatience = 5 * time.Second

// Capacity returns the space of the share where a volume of a class with these parameters
// can be largest, or of the roomiest of all where the class names none. It need not be known.
func (v *Volumes) Capacity(ctx context.Context, shares []string) (volume.Space, error) {
	if len(shares) == 0 {
		shares = []string{"*"}
	}
	names, err := v.candidates(volume.CreateRequest{Params: volume.Params{Shares: shares}})
	if err != nil {
		return volume.Space{}, err
	}
	return bounded(ctx, "find the capacity of "+strings.Join(names, ", "), "", func() {}, func(ctx context.Context) (volume.Space, error) {
		name, err := v.place(ctx, names, "")
		if err != nil {
			return volume.Space{}, err
		}
		sh, release, err := v.openAny(ctx, name, nil)
		if err != nil {
			return volume.Space{}, err
		}
		defer release()
		return sh.Space(ctx)
	})
}
