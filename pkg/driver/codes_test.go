// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestCodes checks the code of every kind of error that the domain has.
func TestCodes(t *testing.T) {
	want := map[error]codes.Code{ // CSI spec, "Error Scheme"
		volume.ErrInvalid: codes.InvalidArgument, volume.ErrNotFound: codes.NotFound, volume.ErrExists: codes.AlreadyExists,
		volume.ErrBusy: codes.Aborted, volume.ErrUnavailable: codes.Unavailable, volume.ErrTimeout: codes.DeadlineExceeded,
		volume.ErrFull: codes.ResourceExhausted, volume.ErrOutOfRange: codes.OutOfRange, volume.ErrPrecondition: codes.FailedPrecondition,
		volume.ErrRefused: codes.PermissionDenied, volume.ErrDamaged: codes.DataLoss,
	}
	for _, kind := range volume.Kinds() {
		if codeByKind[kind] != want[kind] || codeByKind[kind] == codes.OK {
			t.Errorf("code of %v = %v, want %v", kind, codeByKind[kind], want[kind])
		}
		for _, err := range []error{
			kind, volume.Errorf(kind, "do %d: %w", 1, context.DeadlineExceeded), fmt.Errorf("outside: %w", volume.Errorf(kind, "inside")),
		} {
			got := toStatus(err)
			if status.Code(got) != want[kind] || status.Convert(got).Message() != err.Error() {
				t.Errorf("%v becomes %v, want %v", err, got, want[kind])
			}
		}
	}
	if len(codeByKind) != len(volume.Kinds()) {
		t.Errorf("%d kinds have codes, want %d", len(codeByKind), len(volume.Kinds()))
	}
	for err, want := range map[error]codes.Code{
		nil:                                     codes.OK,
		errors.New("x"):                         codes.Internal,
		context.DeadlineExceeded:                codes.DeadlineExceeded,
		fmt.Errorf("x: %w", context.Canceled):   codes.Canceled,
		status.Error(codes.Unimplemented, "no"): codes.Unimplemented,
	} {
		if got := status.Code(toStatus(err)); got != want {
			t.Errorf("code of %v = %v, want %v", err, got, want)
		}
	}
}
