// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
)

// readersAtOnce is how many records are read at once: a list is a matter of round trips.
const readersAtOnce = 16

// List returns the volumes of all shares in the order of their handles, from the page's
// token on, and the token of the next page, "" after the last. A token is the handle of the
// last volume that was listed: it stays good across restarts, and when that volume is gone.
//
// A share that does not answer is an error: a list without its volumes would say that they
// are gone. One volume's damaged record is logged and left out.
func (s *Service) List(ctx context.Context, p volume.Page) ([]volume.Volume, string, error) {
	if p.Max < 0 {
		return nil, "", volume.Errorf(volume.ErrInvalid, "max_entries is %d, and cannot be negative", p.Max)
	}
	var after volume.Handle
	if p.Token != "" {
		h, err := volume.ParseHandle(p.Token)
		if err != nil { // Aborted is what CSI asks for here: start again (ListVolumes Errors)
			return nil, "", volume.Errorf(volume.ErrBusy, "%q is no token of this list: start it again from the beginning", p.Token)
		}
		after = h
	}
	type page struct {
		volumes []volume.Volume
		next    string
	}
	got, err := bounded(ctx, "list the volumes", func() {}, func(ctx context.Context) (page, error) {
		var result page
		for _, name := range s.listed() {
			if name < after.Share {
				continue
			}
			from := ""
			if name == after.Share {
				from = after.Key
			}
			room := 0
			if p.Max > 0 {
				if room = p.Max - len(result.volumes); room == 0 {
					// The page is full exactly at the end of a share: there may be more.
					last := result.volumes[len(result.volumes)-1].Handle
					return page{result.volumes, last.String()}, nil
				}
			}
			volumes, next, err := s.listShare(ctx, name, from, room)
			if err != nil {
				return page{}, err
			}
			result.volumes = append(result.volumes, volumes...)
			if next != "" {
				result.next = next
				return result, nil
			}
		}
		return result, nil
	})
	return got.volumes, got.next, err
}

// listed are the shares whose volumes are listed: those registered, and those of classes
// that name server and path, as far as this process has come to know them.
func (s *Service) listed() []string {
	var names []string
	for _, sh := range s.shares.Registry().Shares {
		names = append(names, sh.Name)
	}
	for _, name := range s.shares.Opened() {
		if strings.Contains(name, ":/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// listShare returns up to room volumes (0: all) of a share with keys after from, and where
// there are more the token from which they go on.
func (s *Service) listShare(ctx context.Context, name, from string, room int) ([]volume.Volume, string, error) {
	sh, release, err := s.shares.Open(ctx, name, nil)
	if err != nil {
		return nil, "", err
	}
	defer release()
	keys, err := sh.Keys(ctx)
	if err != nil {
		return nil, "", err
	}
	i, found := slices.BinarySearch(keys, from)
	if found {
		i++
	}
	keys = keys[i:]
	var volumes []volume.Volume
	for len(keys) > 0 && (room == 0 || len(volumes) < room) {
		n := len(keys)
		if room > 0 {
			n = min(n, room-len(volumes))
		}
		some, err := read(ctx, sh, keys[:n])
		if err != nil {
			return nil, "", err
		}
		for _, r := range some {
			volumes = append(volumes, *answer(name, r))
		}
		from, keys = keys[n-1], keys[n:]
	}
	if len(keys) == 0 {
		return volumes, "", nil
	}
	return volumes, volume.Handle{Share: name, Key: from}.String(), nil
}

// read returns the records of those keys whose volumes are ready, in their order.
func read(ctx context.Context, sh *share.Share, keys []string) ([]*volume.Record, error) {
	records := make([]*volume.Record, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readersAtOnce)
	for i, key := range keys {
		group.Go(func() error {
			r, err := sh.Lookup(ctx, key)
			switch {
			case errors.Is(err, volume.ErrNotFound):
				return nil
			case errors.Is(err, volume.ErrDamaged), errors.Is(err, volume.ErrConflict):
				klog.FromContext(ctx).Error(err, "A volume is left out of the list")
				return nil
			case err != nil:
				return err
			}
			if r.Ready == 1 {
				records[i] = &r.Record
			}
			return nil
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(records, func(r *volume.Record) bool { return r == nil }), err
}

// Capacity returns the space of the share where a volume of a class with these parameters
// can be largest, or of the roomiest of all where the class names none.
func (s *Service) Capacity(ctx context.Context, shares []string) (volume.Space, error) {
	if len(shares) == 0 {
		shares = []string{"*"}
	}
	names, err := s.candidates(volume.Wish{Params: volume.Params{Shares: shares}})
	if err != nil {
		return volume.Space{}, err
	}
	return bounded(ctx, "find the capacity of "+strings.Join(names, ", "), func() {}, func(ctx context.Context) (volume.Space, error) {
		name, err := s.place(ctx, names, "")
		if err != nil {
			return volume.Space{}, err
		}
		sh, release, err := s.shares.Open(ctx, name, nil)
		if err != nil {
			return volume.Space{}, err
		}
		defer release()
		return sh.Space(ctx)
	})
}
