// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
)

// open opens a share for work on what is on the share. Where that has not been laid out, nobody can
// tell what was there: it is ErrPrecondition, and not that there is no such volume.
func (a *access) open(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.openNow(ctx, name, options)
	if err != nil {
		return nil, nil, err
	}
	if err := sh.Identity.Check(); err != nil {
		release()
		return nil, nil, err
	}
	return sh, release, nil
}

// openNow opens a share for a caller that reads what is on it. A share that has not been laid out is opened
// again: another controller may have laid it out since.
func (a *access) openNow(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.shares.Open(ctx, name, options)
	if err != nil || sh.Initialized() {
		return sh, release, err
	}
	sh.MarkLost()
	release()
	return a.shares.Open(ctx, name, options)
}

// openToCreate is open for who is about to create a volume, for which the share is laid out and gets an
// id, if it has none.
func (a *access) openToCreate(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.shares.Open(ctx, name, options)
	if err != nil || sh.Identity.ID() != "" {
		return sh, release, err
	}
	_, err = sh.Identity.LayOut(ctx)
	release()
	if err != nil {
		return nil, nil, err
	}
	return a.open(ctx, name, options)
}
