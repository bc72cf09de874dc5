// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
)

// The kinds of failure. Every error that leaves the domain wraps exactly one of
// them; package driver has the one table from these to gRPC codes.
var (
	// ErrInvalid: the request cannot be right, whatever the state of the world.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: there is no such volume, or no such mount.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name is taken by a volume that was asked for differently.
	ErrExists = errors.New("exists with other properties")
	// ErrBusy: another operation on the same volume is under way; try again.
	ErrBusy = errors.New("operation pending")
	// ErrUnavailable: the share's server does not answer, or refuses to serve; try again.
	ErrUnavailable = errors.New("share unavailable")
	// ErrTimeout: the operation did not end in time; it may still end, and a retry finds out.
	ErrTimeout = errors.New("not done in time")
	// ErrFull: no space, no inodes, or no more volumes allowed on the share.
	ErrFull = errors.New("share full")
	// ErrOutOfRange: the asked capacity can never be had.
	ErrOutOfRange = errors.New("capacity out of range")
	// ErrPrecondition: something stands in the way that somebody has to move first.
	ErrPrecondition = errors.New("precondition failed")
	// ErrRefused: the server does not let us (root_squash, a read-only export, an export list).
	ErrRefused = errors.New("refused by the server")
	// ErrDamaged: a record cannot be believed. Nothing is destroyed on its word.
	ErrDamaged = errors.New("record damaged")
)

// Kinds lists every sentinel, so that a test can prove that none is forgotten.
func Kinds() []error {
	return []error{
		ErrInvalid, ErrNotFound, ErrExists, ErrBusy, ErrUnavailable, ErrTimeout,
		ErrFull, ErrOutOfRange, ErrPrecondition, ErrRefused, ErrDamaged,
	}
}

// kindError carries a kind without putting the kind's own words before the
// message: an operator reads the message, a program asks errors.Is.
type kindError struct {
	kind error
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// Errorf formats an error as fmt.Errorf does and gives it a kind, one of the
// sentinels above, that errors.Is finds and that the text does not repeat.
func Errorf(kind error, format string, args ...any) error {
	return &kindError{kind: kind, err: fmt.Errorf(format, args...)}
}

// Kind returns the sentinel that err wraps, or nil where it wraps none. The
// outermost wins: a caller that reclassifies an error is believed.
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
