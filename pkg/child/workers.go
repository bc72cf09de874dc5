// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// maxCalls bounds the concurrent calls of a worker. maxCallsPerServer and maxCallsPerSuperblock
	// bound those to one server and to one of its file systems, so that calls that hang leave
	// threads to others until they are abandoned.
	maxCalls              = 8
	maxCallsPerServer     = 5
	maxCallsPerSuperblock = 3
	// maxRetired and maxRetiredPerServer bound the workers that still run because of a call that
	// has not returned.
	maxRetired          = 16
	maxRetiredPerServer = 2
	// askBegunAfter is when Workers asks whether a call has begun. beginTimeout bounds the reply of
	// a running worker, firstBeginTimeout that of a worker that has just started.
	askBegunAfter     = 10 * time.Millisecond
	beginTimeout      = 2 * time.Second
	firstBeginTimeout = 10 * time.Second
	// pingAfter is how long a call may take before Workers pings its worker.
	pingAfter = time.Second
	// pongTimeout bounds the answer to a ping.
	pongTimeout = 200 * time.Millisecond
	// sendTimeout bounds a write to a worker.
	sendTimeout = time.Second
)

// ErrHung is returned if a call has no answer because the worker itself does not run, independent
// of the server.
var ErrHung = errors.New("the process that makes such calls does not run")

var errClosed = errors.New("the workers are closed")

// Call is a call for a worker.
type Call struct {
	// Server and Superblock are what the call may wait for.
	Server, Superblock string
	// Request is the argument of Serve's function. It is sent as JSON.
	Request any
}

// Workers makes calls that can hang forever, in a long-running child process. If a caller gives up
// a call that has begun, the call's superblock is quarantined, and its worker is retired: it ends
// its other calls and is killed. A new worker makes all other calls. Workers reports the beginning
// of a call to the caller: the wait before it says nothing about the server.
type Workers struct {
	command Command
	// Tests replace these timeouts.
	beginTimeout, firstBeginTimeout, pingAfter time.Duration

	mu      sync.Mutex
	id      uint64
	queue   []*task
	current *worker // nil: there is none
	all     map[*worker]bool
	started int
	closed  bool
}

// task is a call on its way.
type task struct {
	Call
	id      uint64
	request json.RawMessage
	began   func()
	done    chan result // has a buffer for one result

	worker    *worker // nil: the call waits for a slot
	asked     bool    // the worker was asked whether the call has begun
	begun     bool
	abandoned bool // the caller has given up
	stuck     bool // it was abandoned after it had begun: its superblock is in quarantine
	requeued  bool // an earlier worker did not begin it
	timer     *time.Timer
}

type result struct {
	answer json.RawMessage
	err    error
}

func failAll(all []*task, err error) {
	for _, t := range all {
		t.done <- result{err: err}
	}
}

// NewWorkers returns Workers that run a program which calls Serve.
func NewWorkers(command Command) *Workers {
	return &Workers{command: command, beginTimeout: beginTimeout, firstBeginTimeout: firstBeginTimeout, pingAfter: pingAfter, all: map[*worker]bool{}}
}

// Start starts a worker, so that the first call does not wait for it.
func (w *Workers) Start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ensureWorker()
}

// Close kills all workers. Running calls fail.
func (w *Workers) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for v := range w.all {
		v.kill()
	}
	failAll(w.queue, errClosed)
	w.queue = nil
}

// Do makes the call in a worker, and returns its answer. It calls began when the call has begun,
// unless the call ends at once. If ctx ends before that, the call is not made. If ctx ends
// afterwards, the call goes on, and its superblock stays in quarantine until the call returns or
// its worker ends: meanwhile Do returns ErrStuck for it at once.
func (w *Workers) Do(ctx context.Context, c Call, began func()) (json.RawMessage, error) {
	data, err := json.Marshal(c.Request)
	if err != nil {
		return nil, err
	}
	t := &task{Call: c, request: data, began: began, done: make(chan result, 1)}
	if err := w.enqueue(t); err != nil {
		return nil, err
	}
	select {
	case r := <-t.done:
		return r.answer, r.err
	case <-ctx.Done():
	}
	return w.giveUp(ctx, t)
}

func (w *Workers) enqueue(t *task) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.refusal(t.Call); err != nil {
		return err
	}
	w.queue = append(w.queue, t)
	w.dispatch()
	return nil
}

// refusal returns the reason not to make a call now, or nil.
func (w *Workers) refusal(c Call) error {
	retired := 0
	for v := range w.all {
		here := false
		for _, t := range v.calls {
			if t.stuck && t.Superblock == c.Superblock {
				return fmt.Errorf("%w: an earlier call to this file system has not come back", ErrStuck)
			}
			here = here || t.stuck && t.Server == c.Server
		}
		if here && v.retired {
			retired++
		}
	}
	if retired >= maxRetiredPerServer {
		return fmt.Errorf("%w: %d of them, for %s", ErrStuck, retired, c.Server)
	}
	return nil
}

// dispatch sends waiting calls to the current worker, within the bounds.
func (w *Workers) dispatch() {
	if len(w.queue) == 0 {
		return
	}
	if err := w.ensureWorker(); err != nil {
		failAll(w.queue, err)
		w.queue = nil
		return
	}
	v := w.current
	for i := 0; i < len(w.queue) && len(v.calls) < maxCalls; {
		t := w.queue[i]
		if !v.hasSlot(t.Call) {
			i++
			continue
		}
		w.queue = slices.Delete(w.queue, i, i+1)
		if !w.send(v, t) {
			w.retireHung(v)
			return
		}
	}
}

// send sends a call to the worker, and starts the timer for checkOverdue.
func (w *Workers) send(v *worker, t *task) bool {
	w.id++
	t.id, t.worker = w.id, v
	v.calls[t.id] = t
	t.timer = time.AfterFunc(askBegunAfter, func() { w.checkOverdue(v, t) })
	err := v.send(request{ID: t.id, Call: t.request})
	return err == nil || errors.Is(err, syscall.EPIPE) // EPIPE: the worker is about to end
}

// ensureWorker starts a worker if there is no current one.
func (w *Workers) ensureWorker() error {
	switch {
	case w.closed:
		return errClosed
	case w.current != nil:
		return nil
	}
	v, err := startWorker(w.command)
	if err != nil {
		return fmt.Errorf("start %s: %w", w.command.Name, err)
	}
	w.current = v
	w.started++
	w.all[v] = true
	go func() {
		v.listen(func(m message) {
			if t := w.handleMessage(v, m); t != nil && t.began != nil {
				t.began()
			}
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.retire(v)
		v.kill() // in case it has only closed its output
	}()
	go func() {
		err := v.wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.removeWorker(v, err)
	}()
	return nil
}

// handleMessage handles a message of a worker. It returns the task if the message says that it has
// begun.
func (w *Workers) handleMessage(v *worker, m message) *task {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.lastHeard = time.Now()
	t := v.calls[m.ID]
	if t == nil {
		return nil
	}
	if m.Began {
		t.begun = true
		t.timer.Reset(w.pingAfter)
		return t
	}
	t.timer.Stop()
	delete(v.calls, m.ID)
	r := result{answer: m.Answer}
	if m.Error != "" {
		r.err = errors.New(m.Error)
	}
	t.done <- r
	if v.retired {
		v.killIfDrained()
	}
	w.dispatch()
	return nil
}

// Alive returns the number of workers, including those that survive their SIGKILL.
func (w *Workers) Alive() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// Started returns the number of workers started so far.
func (w *Workers) Started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.started
}

// Abandoned returns the number of workers that survive their SIGKILL.
func (w *Workers) Abandoned() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for v := range w.all {
		if !v.killed.IsZero() && time.Since(v.killed) > killTimeout {
			n++
		}
	}
	return n
}

// QueueStats returns the number of calls that wait for others, and of superblocks in quarantine.
func (w *Workers) QueueStats() (waiting, quarantined int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	stuck := map[string]bool{}
	for v := range w.all {
		for _, t := range v.calls {
			if t.stuck {
				stuck[t.Superblock] = true
			}
		}
	}
	return len(w.queue), len(stuck)
}
