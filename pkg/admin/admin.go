// SPDX-License-Identifier: Apache-2.0

// Package admin does the work of the command line: it lists the objects on the shares, restores and
// purges deleted ones, and finds orphans. It does not use the terminal.
//
// Shares are independent of one another: an error of one share is reported, and the work on the others
// continues. If a share's server stops answering, the work on the share is abandoned. Rows are passed
// on as they are read, so that memory does not grow with their number.
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
	// maxReaders is how many records are read concurrently: the time of a list is that of its round trips.
	maxReaders = 16
	// maxKeysPerRead is how many records a reader reads before it passes them on.
	maxKeysPerRead = 32
)

// Pool is the part of the pool that a Service uses.
type Pool interface {
	Registry() *volume.Registry
	// Open returns an open share. Until release, the work that runs with ctx ([bounded.Call]) is abandoned when
	// the share's server stops answering.
	Open(ctx context.Context, name string, options []string) (s *share.Share, release func(), err error)
	// Versions returns the versions of NFS by the names of the open shares.
	Versions() map[string]string
}

// Service does the work. Its methods call a function of the caller with each row, one at a time.
type Service struct {
	pool   Pool
	report func(error)
}

// New returns a Service on these shares. It calls report, also concurrently, with errors after which
// the work continues.
func New(pool Pool, report func(error)) *Service {
	return &Service{pool: pool, report: report}
}

// Filter selects shares, and objects on them.
type Filter struct {
	Shares    []string // names; nil: all that are registered
	Namespace string   // of the claim; "": any
}

// matches reports whether a claim is in the selected namespace.
func (f Filter) matches(pvc *volume.PVC) bool {
	return f.Namespace == "" || pvc != nil && pvc.Namespace == f.Namespace
}

// shares returns the names of the selected shares. All of them must resolve.
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

// emitter passes rows to the caller. It fails when the caller wants no more of them.
type emitter[T any] func(rows ...T) error

// work is done on a share.
type work[T any] func(ctx context.Context, sh *share.Share, emit emitter[T]) error

// onShares does work on each of the selected shares, one after another, and reports errors. It opens
// them concurrently, so that the timeouts of unavailable shares do not add up.
func onShares[T any](ctx context.Context, s *Service, f Filter, each func(T) error, do work[T]) error {
	names, err := s.shares(f)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	openings := openAll(ctx, s, names)
	for _, name := range names {
		err := workOn(ctx, s, <-openings[name], name, each, do)
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

// openAll opens shares at the same time.
func openAll(ctx context.Context, s *Service, names []string) map[string]chan opened {
	openings := map[string]chan opened{}
	for _, name := range names {
		openings[name] = s.open(ctx, name)
	}
	return openings
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

// workOn does work on a share that is open already, until it is done or the share's server stops
// answering. Then the work, which is inside a call that returns much later, is abandoned, and its
// rows with it.
func workOn[T any](ctx context.Context, s *Service, o opened, name string, each func(T) error, do work[T]) error {
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
	emitting.Lock() // each does not run any more after the return
	defer emitting.Unlock()
	if abandoned, ok := errors.AsType[bounded.Abandoned](err); ok {
		return fmt.Errorf("given up: %w", abandoned.Cause) // it names the share
	}
	return err
}

// isUnreadable reports whether an error concerns one record only: it is damaged, or something else has
// its name.
func isUnreadable(err error) bool {
	switch volume.Kind(err) {
	case volume.ErrDamaged, volume.ErrPrecondition:
		return true
	case nil:
		return err != nil
	}
	return errors.Is(err, unix.EIO) // of a bad sector: a dead server is found by the pool
}

// inOrder reads the rows of keys concurrently and emits them in the order of the keys. read returns
// nil for a row to omit. An error of one record only is reported; there may be a row with it. A reader
// reads several keys before it passes the rows on: to pass on each alone would cost more than to read it.
func inOrder[T any](ctx context.Context, s *Service, keys []string, emit emitter[T], read func(key string) (*T, error)) error {
	type result struct {
		row *T
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pending := make(chan chan []result, maxReaders-1) // and the one below
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
