// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
)

// open opens a share for work on its volumes. If it has not been laid out, the error is ErrPrecondition and
// not ErrNotFound: nobody knows which volumes it had.
func (a *access) open(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.openCurrent(ctx, name, options)
	if err != nil {
		return nil, nil, err
	}
	if err := sh.Identity.Check(); err != nil {
		release()
		return nil, nil, err
	}
	return sh, release, nil
}

// openCurrent opens a share for a caller that reads from it. A share that has not been laid out is opened
// again: another controller may have laid it out since.
func (a *access) openCurrent(ctx context.Context, name string, options []string) (*share.Share, func(), error) {
	sh, release, err := a.shares.Open(ctx, name, options)
	if err != nil || sh.Initialized() {
		return sh, release, err
	}
	sh.MarkLost()
	release()
	return a.shares.Open(ctx, name, options)
}

// openToCreate opens a share for the creation of a volume. It lays the share out and gives it an id, if it
// has none.
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
