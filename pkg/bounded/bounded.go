// SPDX-License-Identifier: Apache-2.0

// Package bounded bounds the wait for work that may hang: a system call on a dead NFS server
// ignores its context.
package bounded

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
)

// Grace is how long work may take to return after its context has ended.
const Grace = 200 * time.Millisecond

// Abandoned is the error of Call when it has returned before its work.
type Abandoned struct {
	Cause error // of the end of the work's context
}

func (a Abandoned) Error() string { return a.Cause.Error() }

func (a Abandoned) Unwrap() error { return a.Cause }

// key is the context key of the function that [AbandonFunc] returns.
type key struct{}

// AbandonFunc returns the function that ends the innermost Call whose work has ctx, with a cause.
// It is nil if there is no such Call.
func AbandonFunc(ctx context.Context) context.CancelCauseFunc {
	abandon, _ := ctx.Value(key{}).(context.CancelCauseFunc)
	return abandon
}

// Call does work in a goroutine and returns its result. A panic becomes an error. When ctx ends,
// or the work is abandoned ([AbandonFunc]), and the work has not returned after Grace, the error
// is Abandoned. It is also Abandoned if abandoned work returns an error within Grace.
//
// The goroutine of abandoned work goes on, and the system call that hangs may still happen. So
// the work itself releases its locks, in a defer: not before it has really ended. late, if set,
// is called with the value of abandoned work that succeeds after Call has returned, to close it.
func Call[T any](ctx context.Context, work func(context.Context) (T, error), late func(T)) (T, error) {
	inner, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r.err = fmt.Errorf("panic: %v: this is a bug, please report it: %s", p, debug.Stack())
			}
			done <- r
		}()
		r.value, r.err = work(context.WithValue(inner, key{}, abandon))
	}()
	var r result
	select {
	case r = <-done:
	case <-inner.Done():
		select {
		case r = <-done:
		case <-time.After(Grace):
			go func() {
				if r := <-done; r.err == nil && late != nil {
					late(r.value)
				}
			}()
			return r.value, Abandoned{context.Cause(inner)}
		}
	}
	// Also when work has returned before the wait saw that it was abandoned.
	if r.err != nil && inner.Err() != nil && ctx.Err() == nil {
		return r.value, Abandoned{context.Cause(inner)}
	}
	return r.value, r.err
}
