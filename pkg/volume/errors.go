// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
)

// The kinds of failure. Every error that the domain packages return wraps exactly one of
// them; the comment of package driver has their gRPC codes.
var (
	// ErrInvalid: the request is never valid, whatever the state of the system.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: the volume, snapshot, group or mount does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists: a volume or snapshot with this name and other properties exists.
	ErrExists = errors.New("exists with other properties")
	// ErrBusy: another operation on the same volume is under way; try again.
	ErrBusy = errors.New("operation pending")
	// ErrUnavailable: the share's server does not answer, or refuses to serve; try again.
	ErrUnavailable = errors.New("share unavailable")
	// ErrTimeout: the operation did not finish in time; it may still finish, and a retry finds out.
	ErrTimeout = errors.New("not done in time")
	// ErrFull: no space, no inodes, or no more volumes allowed on the share.
	ErrFull = errors.New("share full")
	// ErrOutOfRange: the requested capacity is never available.
	ErrOutOfRange = errors.New("capacity out of range")
	// ErrPrecondition: somebody must change the state of the system first.
	ErrPrecondition = errors.New("precondition failed")
	// ErrRefused: the server denies the operation (root_squash, a read-only export, an export list).
	ErrRefused = errors.New("refused by the server")
	// ErrDamaged: a record is damaged. Nothing is deleted because of its content.
	ErrDamaged = errors.New("record damaged")
)

// Kinds returns all sentinels, so that a test can prove that none is missing.
func Kinds() []error {
	return []error{
		ErrInvalid, ErrNotFound, ErrExists, ErrBusy, ErrUnavailable, ErrTimeout,
		ErrFull, ErrOutOfRange, ErrPrecondition, ErrRefused, ErrDamaged,
	}
}

// kindError has a kind that is not part of its message: an operator reads the
// message, a program uses errors.Is.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// Errorf formats an error as fmt.Errorf does and gives it a kind, one of the
// sentinels above. errors.Is finds the kind; the text does not contain it.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind: kind, err: fmt.Errorf(format, args...)}
}

// Kind returns the sentinel that err wraps, or nil. The outermost kind wins, so
// that a caller can reclassify an error.
func Kind(err error) error {
	var k *kindError
	if errors.As(err, &k) {
		return k.kind
	}
	for _, kind := range Kinds() {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return nil
}
