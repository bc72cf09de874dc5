// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
)

// Problem is something on a share that is not as it should be.
type Problem struct {
	Share string `json:"share"`
	// Severity is "error": an invariant is broken; "warning": something stands still, or is not
	// understood; or "note": something was left that blocks nothing.
	Severity string `json:"severity"`
	Path     string `json:"path"` // beneath the share
	What     string `json:"what"`
	Remedy   string `json:"remedy"`
}

// Wrong reports whether somebody has to do something, or to look at least.
func (p Problem) Wrong() bool { return p.Severity != share.SeverityNote }

// Check calls each for what is wrong on the shares. It changes nothing there.
func (s *Service) Check(ctx context.Context, f Filter, each func(Problem) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Problem]) error {
		name := sh.Definition().Name
		return sh.Check(ctx, func(p share.Problem) error {
			return emit(Problem{Share: name, Severity: p.Severity, Path: p.Path, What: p.Message, Remedy: p.Remedy})
		})
	})
}
