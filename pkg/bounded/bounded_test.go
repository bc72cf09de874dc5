// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var errLost, errWork = errors.New("lost"), errors.New("failed")

// TestResult returns what the work returns, also within the grace after the deadline.
func TestResult(t *testing.T) {
	for _, after := range []time.Duration{0, time.Second, time.Minute + Grace/2} {
		for _, want := range []error{nil, errWork} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				got, err := Call(ctx, func(context.Context) (int, error) { time.Sleep(after); return 1, want },
					func(int) { t.Error("it is late") })
				if got != 1 || err != want {
					t.Errorf("after %v the result is %v, %v", after, got, err)
				}
			})
		}
	}
}

// TestDeadline has work that ignores its context: late gets its value, once it has ended.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start, late := time.Now(), make(chan int, 1)
		got, err := Call(ctx, func(context.Context) (int, error) { time.Sleep(time.Minute); return 1, nil },
			func(v int) { late <- v })
		if a, ok := errors.AsType[Abandoned](err); !ok || a.Cause != context.DeadlineExceeded || got != 0 || time.Since(start) != time.Second+Grace {
			t.Errorf("after %v the result is %v, %v", time.Since(start), got, err)
		}
		time.Sleep(time.Minute - time.Second - Grace - time.Nanosecond)
		synctest.Wait()
		if len(late) > 0 {
			t.Error("late is called too early")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if len(late) != 1 || <-late != 1 {
			t.Error("late did not get the value")
		}
	})
}

// TestAbandon has work abandoned from inside: the innermost Call ends, and the cause says more
// than an error of the work that it has ended.
func TestAbandon(t *testing.T) {
	if AbandonFunc(t.Context()) != nil {
		t.Error("a context without a Call can be abandoned")
	}
	synctest.Test(t, func(t *testing.T) {
		_, err := Call(t.Context(), func(ctx context.Context) (int, error) {
			outer := ctx
			_, err := Call(ctx, func(ctx context.Context) (int, error) {
				AbandonFunc(ctx)(errLost)
				<-ctx.Done()
				return 0, errWork
			}, nil)
			if a, ok := errors.AsType[Abandoned](err); !ok || a.Cause != errLost || err.Error() != "lost" || outer.Err() != nil {
				t.Errorf("the inner error is %v; the outer context: %v", err, outer.Err())
			}
			return 0, errWork
		}, nil)
		if err != errWork {
			t.Errorf("the outer error is %v", err)
		}
		got, err := Call(t.Context(), func(ctx context.Context) (int, error) { AbandonFunc(ctx)(errLost); return 1, nil }, nil)
		if got != 1 || err != nil {
			t.Errorf("work that succeeds all the same: %v, %v", got, err)
		}
		// Its return and its end are there at once: a select takes either.
		for range 5000 {
			_, err = Call(t.Context(), func(ctx context.Context) (int, error) { AbandonFunc(ctx)(errLost); return 1, errWork }, nil)
			if _, ok := errors.AsType[Abandoned](err); !ok || !errors.Is(err, errLost) {
				t.Fatalf("work that fails at once: %v", err)
			}
		}
		failed := false
		_, err = Call(t.Context(), func(ctx context.Context) (int, error) {
			AbandonFunc(ctx)(errLost)
			time.Sleep(time.Minute)
			return 1, errWork
		}, func(int) { failed = true })
		time.Sleep(time.Hour)
		if !errors.Is(err, errLost) || failed {
			t.Errorf("the error is %v; late was called for a failure: %v", err, failed)
		}
	})
}

// TestPanic has work panic: its defers have run when Call returns.
func TestPanic(t *testing.T) {
	unlocked := false
	_, err := Call(t.Context(), func(context.Context) (int, error) {
		defer func() { unlocked = true }()
		panic("oops")
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "panic: oops: this is a bug") || !unlocked {
		t.Errorf("the error is %v; unlocked: %v", err, unlocked)
	}
}
