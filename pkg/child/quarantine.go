// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// checkOverdue handles a call that has not returned for a while; its timer calls it repeatedly. If
// the worker has not confirmed the beginning of the call, checkOverdue asks it, and replaces it if
// it does not reply. Later it pings the worker. It abandons a call that began when its caller had
// left already.
func (w *Workers) checkOverdue(v *worker, t *task) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case v.calls[t.id] != t || t.stuck:
	case !t.begun && t.asked:
		w.retireHung(v)
	case !t.begun:
		t.asked = true
		timeout := w.beginTimeout
		if v.lastHeard.IsZero() {
			timeout = w.firstBeginTimeout
		}
		t.timer.Reset(timeout)
		_ = v.send(request{ID: t.id})
	case t.abandoned:
		w.quarantine(v, t)
	default:
		v.ping()
		t.timer.Reset(w.pingAfter)
	}
}

// giveUp ends the wait for a call.
func (w *Workers) giveUp(ctx context.Context, t *task) (json.RawMessage, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case r := <-t.done:
		return r.answer, r.err
	default:
	}
	v := t.worker
	t.abandoned = true
	switch {
	case v == nil:
		w.queue = slices.DeleteFunc(w.queue, func(other *task) bool { return other == t })
	case v.isHung():
		delete(v.calls, t.id) // its delay says nothing about the superblock
		w.retireHung(v)
		return nil, ErrHung
	case t.begun:
		w.quarantine(v, t)
	case v.retired:
		v.killIfDrained()
	}
	return nil, context.Cause(ctx)
}

// quarantine leaves a superblock to a worker, with the call that does not return. Callers that wait
// for the same superblock get an error at once.
func (w *Workers) quarantine(v *worker, t *task) {
	t.stuck = true
	w.queue = slices.DeleteFunc(w.queue, func(other *task) bool {
		same := other.Superblock == t.Superblock
		if same {
			other.done <- result{err: w.refusal(other.Call)}
		}
		return same
	})
	w.retire(v)
	_ = w.ensureWorker() // so that the next call does not wait for it
}

// retireHung retires a worker that does not run. Another one makes the calls that it has not begun.
func (w *Workers) retireHung(v *worker) {
	w.retire(v)
	w.requeue(v, ErrHung)
	v.killIfDrained()
}

// requeue takes back the calls that a worker has not begun. A call that was taken back before
// fails.
func (w *Workers) requeue(v *worker, err error) {
	var back []*task
	for id, t := range v.calls {
		if t.begun {
			continue
		}
		t.timer.Stop()
		delete(v.calls, id)
		t.worker = nil
		if t.requeued || t.abandoned {
			t.done <- result{err: err}
			continue
		}
		t.requeued, t.asked = true, false
		back = append(back, t)
	}
	w.queue = append(back, w.queue...)
	w.dispatch()
}

// retire stops sending calls to a worker. If too many workers are retired already, it does not
// retire another one: the free threads of that worker are better than none.
func (w *Workers) retire(v *worker) {
	if !v.retired && len(w.all) > maxRetired {
		return
	}
	v.retired = true
	v.killIfDrained()
	if w.current != v {
		return
	}
	w.current = nil
	w.dispatch()
}

// removeWorker removes a worker that has ended, and its calls.
func (w *Workers) removeWorker(v *worker, err error) {
	delete(w.all, v)
	if w.current == v {
		w.current = nil
	}
	v.retired = true
	v.kill() // closes its pipes
	err = fmt.Errorf("the process that makes such calls has ended: %w", err)
	for id, t := range v.calls {
		t.timer.Stop()
		if t.begun {
			delete(v.calls, id)
			t.done <- result{err: err}
		}
	}
	w.requeue(v, err)
}
