// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"context"

	"github.com/mooring-csi/mooring/pkg/share"
)

// Problem is a broken invariant, or something unusual, on a share.
type Problem struct {
	Share string `json:"share"`
	// Severity is "error": an invariant is broken; "warning": something does not continue, or is
	// unknown; or "note": a leftover that blocks nothing.
	Severity string `json:"severity"`
	Path     string `json:"path"` // under the share
	What     string `json:"what"`
	Remedy   string `json:"remedy"`
}

// Wrong reports whether an administrator has to act, or to check.
func (p Problem) Wrong() bool { return p.Severity != share.SeverityNote }

// Check calls each with each problem on the shares. It changes nothing there.
func (s *Service) Check(ctx context.Context, f Filter, each func(Problem) error) error {
	return onShares(ctx, s, f, each, func(ctx context.Context, sh *share.Share, emit emitter[Problem]) error {
		name := sh.Definition().Name
		return sh.Check(ctx, func(p share.Problem) error {
			return emit(Problem{Share: name, Severity: p.Severity, Path: p.Path, What: p.Message, Remedy: p.Remedy})
		})
	})
}
