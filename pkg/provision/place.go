// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// candidates returns the names of the shares on which the volume may be placed. All of them must exist in
// the registry, or be exports.
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
		if err := a.checkNested(def); err != nil {
			return nil, err
		}
		known = append(known, def.Name)
	}
	return known, nil
}

// checkNested returns ErrPrecondition if an export that is not registered gets no new volumes: it lies
// inside a share, or contains one. Of other exports that are not registered, only those count that this
// process has mounted and that contain it.
func (a *access) checkNested(def volume.Share) error {
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

// place chooses the share: the one that has the volume's record already, or else the one with the most
// free space of those that answer within placeTimeout. One that does not say how much it has is taken
// if all others are full.
func (a *access) place(ctx context.Context, names []string, key string) (string, error) {
	if len(names) == 1 {
		return names[0], nil
	}
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	answers := make(chan candidate, len(names))
	for _, name := range names {
		go func() {
			c, err := bounded.Call(ctx, func(ctx context.Context) (candidate, error) { return a.candidate(ctx, name, key) }, nil)
			c.name, c.err = name, err
			answers <- c
		}()
	}
	var best candidate
	var errs []error
	for range names {
		c := <-answers
		abandoned, silent := errors.AsType[bounded.Abandoned](c.err)
		switch {
		case silent:
			errs = append(errs, fmt.Errorf("share %s: %w", c.name, abandoned.Cause))
		case c.err != nil:
			errs = append(errs, c.err)
		case c.hasRecord:
			return c.name, nil
		case best.name == "" || cmp.Or(c.space.CompareFree(best.space), strings.Compare(best.name, c.name)) > 0:
			best = c
		}
	}
	if best.name == "" {
		return "", volume.Errorf(volume.ErrUnavailable, "none of the shares %s can be used: %w", strings.Join(names, ", "), errors.Join(errs...))
	}
	return best.name, nil
}

// candidate is a share on which a volume may be placed.
type candidate struct {
	name      string
	hasRecord bool // of the volume
	space     volume.Space
	err       error
}

func (a *access) candidate(ctx context.Context, name, key string) (c candidate, err error) {
	sh, release, err := a.shares.Open(ctx, name, nil)
	if err != nil {
		return c, err
	}
	defer release()
	if c.hasRecord, err = hasRecord(ctx, sh, key); err != nil || c.hasRecord {
		return c, err
	}
	c.space, err = sh.Space(ctx)
	return c, err
}

// hasRecord reports whether the share has a record of key, valid or not.
func hasRecord(ctx context.Context, sh *share.Share, key string) (bool, error) {
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

// placeTimeout bounds the wait for shares that do not answer, when there are several to choose from.
const placeTimeout = 5 * time.Second

// Capacity returns the space of the one of these shares, or of all shares if there are none, that has the
// most free space. It may be unknown.
func (v *Volumes) Capacity(ctx context.Context, shares []string) (volume.Space, error) {
	if len(shares) == 0 {
		shares = []string{"*"}
	}
	names, err := v.candidates(volume.CreateRequest{Params: volume.Params{Shares: shares}})
	if err != nil {
		return volume.Space{}, err
	}
	return call(ctx, "find the capacity of "+strings.Join(names, ", "), "", func(ctx context.Context) (volume.Space, error) {
		name, err := v.place(ctx, names, "")
		if err != nil {
			return volume.Space{}, err
		}
		sh, release, err := v.shares.Open(ctx, name, nil)
		if err != nil {
			return volume.Space{}, err
		}
		defer release()
		return sh.Space(ctx)
	})
}
