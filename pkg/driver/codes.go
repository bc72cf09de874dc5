// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"

	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeByKind maps the domain's kinds of error to gRPC codes (CSI spec, "Error Scheme"). An error of
// no kind becomes Internal, and is a bug.
var codeByKind = map[error]codes.Code{
	volume.ErrInvalid:      codes.InvalidArgument,
	volume.ErrNotFound:     codes.NotFound,
	volume.ErrExists:       codes.AlreadyExists,
	volume.ErrBusy:         codes.Aborted,
	volume.ErrUnavailable:  codes.Unavailable,
	volume.ErrTimeout:      codes.DeadlineExceeded,
	volume.ErrFull:         codes.ResourceExhausted,
	volume.ErrOutOfRange:   codes.OutOfRange,
	volume.ErrPrecondition: codes.FailedPrecondition,
	volume.ErrRefused:      codes.PermissionDenied,
	volume.ErrDamaged:      codes.DataLoss,
}

// Codes returns the names of all gRPC codes.
func Codes() []string {
	var all []string
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		all = append(all, code.String())
	}
	return all
}

// toStatus converts an error to a gRPC status. An error that is a status already stays as it is.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	kind := volume.Kind(err)
	code, known := codeByKind[kind]
	switch {
	case known:
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	default:
		code = codes.Internal
	}
	return status.Error(code, err.Error())
}

func invalid(format string, args ...any) error {
	return volume.Errorf(volume.ErrInvalid, format, args...)
}
