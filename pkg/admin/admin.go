// SPDX-License-Identifier: Apache-2.0

// Package admin is what the command line does: it lists what is on the shares, brings back and
// purges what was deleted, and finds what belongs to nothing. It knows no terminal.
//
// Shares are independent of one another: what fails on one is reported, and the others go on.
// A share whose server stops answering is given up, and what is under way on it is left to
// itself. What is listed is handed on as it is read, so that memory does not grow with it.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/mooring-csi/mooring/pkg/bounded"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// maxReaders is how many records are read at once: a list is a matter of round trips.
	maxReaders = 16
	// maxKeysPerRead is how many of them each reads before it hands them on.
	maxKeysPerRead = 32
)

// Pool is what is needed of the pool of shares.
type Pool interface {
	Registry() *volume.Registry
	// Open returns an open share. Until release, the work that ctx is of ([bounded.Call]) is abandoned when
	// the share's server stops answering.
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
}

// Service does the work. Its methods hand rows to a function of the caller, one at a time.
type Service struct {
	pool   Pool
	report func(error)
}

// New returns a Service on these shares. report is told of what fails while the rest goes on;
// it may be called by several at once.
func New(pool Pool, report func(error)) *Service {
	return &Service{pool: pool, report: report}
}

// Filter chooses among what there is.
type Filter struct {
	Shares    []string // names; nil: all that are registered
	Namespace string   // of the claim; "": any
}

// matches reports whether the claim of something is in the namespace that is asked for.
func (f Filter) matches(pvc *volume.PVC) bool {
	return f.Namespace == "" || pvc != nil && pvc.Namespace == f.Namespace
}

// shares returns the names of the shares that are chosen. All of them have to be known.
func (s *Service) shares(f Filter) ([]string, error) {
	registry := s.pool.Registry()
	if f.Shares == nil {
		var names []string
		for _, sh := range registry.Shares {
			names = append(names, sh.Name)
		}
		if names == nil {
			return nil, volume.Errorf(volume.ErrPrecondition, "no share is registered in Mooring's configuration: name an export by --share server:/path, if those are allowed")
		}
		return names, nil
	}
	var names []string
	for _, name := range f.Shares {
		def, err := registry.Resolve(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, def.Name) { // an export can be spelled in several ways
			names = append(names, def.Name)
		}
	}
	return names, nil
}

// emitter hands rows to the caller, and fails when nobody wants them any more.
type emitter[T any] func(rows ...T) error

// work is done on a share.
type work[T any] func(ctx context.Context, sh *share.Share, emit emitter[T]) error

// onShares does work on each of the shares that are chosen, one after another, and reports what
// fails. They are opened all at once, so that those which are not there cost no time in a row.
func onShares[T any](ctx context.Context, s *Service, f Filter, each func(T) error, do work[T]) error {
	names, err := s.shares(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	openings := map[string]chan opened{}
	for _, name := range names {
		openings[name] = s.open(ctx, name)
	}
	for _, name := range names {
		err := on(ctx, s, <-openings[name], name, each, do)
		var stop stopped
		if errors.As(err, &stop) {
			return stop.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.report(err)
		}
	}
	return nil
}

// opened is the result of opening a share.
type opened struct {
	release func()
	err     error
}

func (s *Service) open(ctx context.Context, name string) chan opened {
	c := make(chan opened, 1)
	go func() {
		_, release, err := s.pool.Open(ctx, name, nil)
		c <- opened{release, err}
	}()
	return c
}

// stopped is why the caller wants no more rows: no error of a share.
type stopped struct{ error }

// on does work on a share that is open already, until it is done or the share's server stops
// answering. Then the work, which is inside a call that returns much later, is abandoned, and its
// rows with it.
func on[T any](ctx context.Context, s *Service, o opened, name string, each func(T) error, do work[T]) error {
	if o.err != nil {
		return o.err
	}
	var emitting sync.Mutex
	_, err := bounded.Call(ctx, func(ctx context.Context) (struct{}, error) {
		defer o.release()
		sh, release, err := s.pool.Open(ctx, name, nil)
		if err != nil {
			return struct{}{}, err
		}
		defer release()
		return struct{}{}, do(ctx, sh, func(rows ...T) error {
			emitting.Lock()
			defer emitting.Unlock()
			for _, row := range rows {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err := each(row); err != nil {
					return stopped{err}
				}
			}
			return nil
		})
	}, nil)
	emitting.Lock() // each does not run any more when on has returned
	defer emitting.Unlock()
	if abandoned, ok := errors.AsType[bounded.Abandoned](err); ok {
		return fmt.Errorf("given up: %w", abandoned.Cause) // it names the share
	}
	return err
}

// isUnreadable reports whether an error says that one record cannot be read, and nothing of the
// others: it is damaged, or something else stands in its place.
func isUnreadable(err error) bool {
	switch volume.Kind(err) {
	case volume.ErrDamaged, volume.ErrPrecondition:
		return true
	case nil:
		return err != nil
	}
	return errors.Is(err, unix.EIO) // of a bad sector; where the server is gone, it is watched
}

// inOrder reads what has these keys, many at once, and emits it in their order. read returns
// nil for what is not wanted. An error that concerns nothing but what was to be read is reported,
// and with it there may be a row all the same. A reader takes a few keys in a row: handing each
// on alone would cost more than reading it.
func inOrder[T any](ctx context.Context, s *Service, keys []string, emit emitter[T], read func(key string) (*T, error)) error {
	type result struct {
		row *T
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pending := make(chan chan []result, maxReaders-1) // and the one that is waited for
	go func() {
		defer close(pending)
		for some := range slices.Chunk(keys, min(max(len(keys)/(4*maxReaders), 1), maxKeysPerRead)) {
			c := make(chan []result, 1)
			select {
			case pending <- c:
			case <-ctx.Done():
				return
			}
			go func() {
				results := make([]result, len(some))
				for i, key := range some {
					if ctx.Err() == nil {
						results[i].row, results[i].err = read(key)
					}
				}
				c <- results
			}()
		}
	}()
	for c := range pending {
		var rows []T
		var failed error
		for _, r := range <-c {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(r.err, volume.ErrNotFound): // deleted meanwhile
				continue
			case isUnreadable(r.err), errors.Is(r.err, volume.ErrBusy):
				s.report(r.err)
			case r.err != nil:
				failed = cmp.Or(failed, r.err)
			}
			if r.row != nil && failed == nil {
				rows = append(rows, *r.row)
			}
		}
		if err := cmp.Or(ctx.Err(), emit(rows...), failed); err != nil {
			return err
		}
	}
	return ctx.Err()
}
