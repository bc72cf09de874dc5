// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"errors"
	"slices"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
)

// maxReaders is how many records are read concurrently: the time of a list is that of its round trips.
const maxReaders = 16

// List returns the volumes of all shares in the order of their handles, from the page's
// token on, and the token of the next page, "" after the last. A token is the handle of the
// last volume that was read: it stays valid across restarts, and after that volume's deletion.
//
// A share that does not answer is an error: a list without its volumes would say that they do not
// exist. A damaged record is logged and omitted.
func (v *Volumes) List(ctx context.Context, p volume.Page) ([]volume.Volume, string, error) {
	return list(ctx, v.access, p, listing[volume.Volume]{
		what: "list the volumes", keys: func(sh *share.Share, ctx context.Context) ([]string, error) { return sh.Volumes.Keys(ctx) },
		read: func(ctx context.Context, sh *share.Share, name, key string) (*volume.Volume, error) {
			r, err := usableVolume(ctx, sh, key)
			if err != nil {
				return nil, err
			}
			return toVolume(name, &r.Record), nil
		},
	})
}

// listing describes the elements of a list.
type listing[T any] struct {
	what string
	keys func(*share.Share, context.Context) ([]string, error)
	// read returns nil for an element that the list omits.
	read func(ctx context.Context, sh *share.Share, name, key string) (*T, error)
	// many is how many are read for a page at least, if most are omitted.
	many int
	// absent, if set, handles a share that cannot be opened, or listed because its disk fails: it
	// returns the known keys, and a function for the element of each.
	absent func(name string, err error) (keys []string, say func(key string) T)
}

// list lists the elements on all shares.
func list[T any](ctx context.Context, a *access, p volume.Page, of listing[T]) ([]T, string, error) {
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
		found []T
		next  string
	}
	got, err := call(ctx, of.what, "", func(ctx context.Context) (page, error) {
		var result page
		last := p.Token
		for _, name := range a.shares.Known() {
			if name < after.Share {
				continue
			}
			from := ""
			if name == after.Share {
				from = after.Key
			}
			room := 0
			if p.Max > 0 {
				if room = p.Max - len(result.found); room == 0 {
					// The page ends with a share: there may be more shares.
					result.next = last
					return result, nil
				}
			}
			l := lister[T]{listing: of, name: name}
			if err := l.list(ctx, a, from, room); err != nil {
				return page{}, err
			}
			result.found = append(result.found, l.found...)
			if l.more {
				result.next = l.last
				return result, nil
			}
			if l.last != "" {
				last = l.last
			}
		}
		return result, nil
	})
	return got.found, got.next, err
}

// lister lists one share.
type lister[T any] struct {
	listing[T]
	name string

	found []T
	last  string // handle of the last that was read
	more  bool   // there are more
}

// list adds up to room elements (0: all) of the share with keys after from.
func (l *lister[T]) list(ctx context.Context, a *access, from string, room int) error {
	sh, release, err := a.openCurrent(ctx, l.name, nil)
	if err != nil {
		return l.listAbsent(err, from, room)
	}
	defer release()
	keys, err := l.keys(sh, ctx)
	if share.FaultReason(err) == volume.DiskFailing {
		return l.listAbsent(err, from, room)
	}
	if err != nil {
		return err
	}
	return l.collect(keys, from, room, func(keys []string) ([]*T, error) { return l.readAll(ctx, sh, keys) })
}

// listAbsent lists a share that cannot be opened, or listed because its disk fails.
func (l *lister[T]) listAbsent(err error, from string, room int) error {
	if l.absent == nil {
		return err
	}
	keys, say := l.absent(l.name, err)
	return l.collect(keys, from, room, func(keys []string) ([]*T, error) {
		all := make([]*T, len(keys))
		for i, key := range keys {
			one := say(key)
			all[i] = &one
		}
		return all, nil
	})
}

// collect adds up to room elements of the sorted keys after from.
func (l *lister[T]) collect(keys []string, from string, room int, read func(keys []string) ([]*T, error)) error {
	i, found := slices.BinarySearch(keys, from)
	if found {
		i++
	}
	keys = keys[i:]
	for len(keys) > 0 && (room == 0 || len(l.found) < room) {
		n := len(keys)
		if room > 0 {
			n = min(n, max(room-len(l.found), l.many))
		}
		all, err := read(keys[:n])
		if err != nil {
			return err
		}
		for i, one := range all {
			if one != nil {
				l.found = append(l.found, *one)
			}
			if room > 0 && len(l.found) == room {
				n = i + 1
				break
			}
		}
		l.last = volume.Handle{Share: l.name, Key: keys[n-1]}.String()
		keys = keys[n:]
	}
	l.more = len(keys) > 0
	return nil
}

// readAll reads the elements of keys. An element is nil if it cannot be used or the list omits it.
func (l *lister[T]) readAll(ctx context.Context, sh *share.Share, keys []string) ([]*T, error) {
	all := make([]*T, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReaders)
	for i, key := range keys {
		group.Go(func() (err error) {
			all[i], err = l.read(ctx, sh, l.name, key)
			switch {
			case errors.Is(err, volume.ErrNotFound):
				return nil
			case errors.Is(err, volume.ErrDamaged), errors.Is(err, volume.ErrPrecondition):
				klog.FromContext(ctx).Error(err, "Left out of a list")
				return nil
			}
			return err
		})
	}
	return all, group.Wait()
}
