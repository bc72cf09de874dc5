// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// Share is a row of the list of shares.
type Share struct {
	Name   string `json:"name"`
	Export string `json:"export"`
	// State is "laid out"; "not laid out" if the export has no .mooring; or "another" if the
	// configuration has another id than the share.
	State string `json:"state"`
	ID    string `json:"id,omitempty"`
	// Expected is the id in the configuration; "": none.
	Expected string `json:"expectedId,omitempty"`
	// Free and Total are bytes; nil: the server does not report them.
	Free  *int64 `json:"freeBytes,omitempty"`
	Total *int64 `json:"totalBytes,omitempty"`
}

// The states of a share.
const (
	stateLaidOut    = "laid out"
	stateNotLaidOut = "not laid out"
	stateAnother    = "another"
)

// Shares shows the identity of each share, and changes it. The pool must open shares whatever id they
// have.
type Shares struct{ service *Service }

// NewShares returns the Shares of a Service.
func NewShares(s *Service) Shares { return Shares{s} }

// List calls each with each share.
func (s Shares) List(ctx context.Context, f Filter, each func(Share) error) error {
	return onShares(ctx, s.service, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Share]) error {
		space, err := sh.Space(ctx)
		if err != nil {
			return err
		}
		def := sh.Definition()
		row := Share{
			Name: def.Name, Export: exportOf(def), State: stateNotLaidOut,
			ID: sh.Identity.ID(), Expected: def.ID,
		}
		if space.Known() {
			row.Free, row.Total = &space.Free, &space.Total
		}
		if sh.Initialized() {
			row.State = stateLaidOut
		}
		if def.ID != "" && def.ID != row.ID {
			row.State = stateAnother
		}
		return emit(row)
	})
}

// Identified is a share that got an id.
type Identified struct{ Name, Before, ID, Expected string }

// Forgettable returns the error that Forget would return, before the user is asked.
func (s Shares) Forgettable(ctx context.Context, name string) error {
	return s.onOne(ctx, name, func(_ context.Context, sh *share.Share) error { return forgettable(sh) })
}

// Forget lays a share out again that has no .mooring any more. Its former volumes do not exist from then
// on.
func (s Shares) Forget(ctx context.Context, name string) (done Identified, err error) {
	err = s.onOne(ctx, name, func(ctx context.Context, sh *share.Share) error {
		if err := forgettable(sh); err != nil {
			return err
		}
		id, err := sh.Identity.LayOut(ctx)
		done = Identified{Name: name, ID: id, Expected: sh.Definition().ID}
		return err
	})
	return done, err
}

func forgettable(sh *share.Share) error {
	if !sh.Initialized() {
		return nil
	}
	return volume.Errorf(volume.ErrPrecondition, "share %s has been laid out (its id is %q), and what is on it is not forgotten; nothing was changed: delete its volumes, or remove %s on the server, and try again", sh.Definition(), sh.Identity.ID(), volume.StateDir)
}

// Reidentify gives a share a new id.
func (s Shares) Reidentify(ctx context.Context, name string) (done Identified, err error) {
	err = s.onOne(ctx, name, func(ctx context.Context, sh *share.Share) error {
		before, now, err := sh.Identity.Renew(ctx)
		done = Identified{Name: name, Before: before, ID: now, Expected: sh.Definition().ID}
		return err
	})
	return done, err
}

// onOne does work on one share.
func (s Shares) onOne(ctx context.Context, name string, do func(ctx context.Context, sh *share.Share) error) error {
	f := Filter{Shares: []string{name}}
	if _, err := s.service.shares(f); err != nil {
		return err
	}
	return workOn(ctx, s.service, <-s.service.open(ctx, name), name, func(struct{}) error { return nil }, func(ctx context.Context, sh *share.Share, _ emitter[struct{}]) error {
		return do(ctx, sh)
	})
}
