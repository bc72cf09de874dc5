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
	// maxCalls bounds the calls that a worker makes at once; perHost and perSuperblock those
	// that ask one server, and one of its file systems, so that what does not come back
	// leaves maxCalls to others until it is given up.
	maxCalls              = 8
	maxCallsPerServer     = 5
	maxCallsPerSuperblock = 3
	// maxRetired and maxRetiredPerHost bound the workers that are not gone yet because of a
	// call that has not come back.
	maxRetired          = 16
	maxRetiredPerServer = 2
	// askBegunAfter is when a worker is asked whether it has begun what it was sent. stall is how long
	// one that runs may take to say so, and firstStall one that has just been started.
	askBegunAfter     = 10 * time.Millisecond
	beginTimeout      = 2 * time.Second
	firstBeginTimeout = 10 * time.Second
	// pingAfter is how long a call may take before the worker is asked whether it runs.
	pingAfter = time.Second
	// pongTimeout is how long the answer to that may take.
	pongTimeout = 200 * time.Millisecond
	// sendTimeout bounds writing to a worker.
	sendTimeout = time.Second
)

// ErrHung is why a call has no answer: the worker itself does not run, whatever the server does.
var ErrHung = errors.New("the process that makes such calls does not run")

var errClosed = errors.New("the workers are closed")

// Call is what a worker is to do.
type Call struct {
	// Server and Superblock are who the call may wait for.
	Server, Superblock string
	// Request is for the function that Serve has, as JSON.
	Request any
}

// Workers make calls that can hang for ever, by a child of our own that stays. A call that is
// given up while it is made quarantines its superblock, and retires its worker: that one ends
// what else it has under way, and is killed. Another makes the calls of all others. What
// is begun is told: a call that waits here says nothing about any server.
type Workers struct {
	command Command
	// The fields' names are those of the constants.
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
	done    chan result // has room for one

	worker    *worker // nil: it waits
	asked     bool    // whether it has begun
	begun     bool
	abandoned bool // nobody waits for it any more
	stuck     bool // it was given up after it had begun: its superblock is in quarantine
	requeued  bool // it was sent to a worker that did not begin it
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

// NewWorkers returns Workers that run a program which does what Serve does.
func NewWorkers(command Command) *Workers {
	return &Workers{command: command, beginTimeout: beginTimeout, firstBeginTimeout: firstBeginTimeout, pingAfter: pingAfter, all: map[*worker]bool{}}
}

// Start starts a worker, so that the first call need not wait for it.
func (w *Workers) Start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ensureWorker()
}

// Close kills all workers. Calls that are under way fail.
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

// Do has a worker make the call, and returns its answer. began is called when that has begun and
// does not end at once. When ctx ends before, the call is not made; afterwards it goes on, and its
// superblock is in quarantine until it has come back or its worker is gone: to ask for it is
// ErrStuck, at once.
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

// refusal says why a call is not made now.
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

// dispatch sends what waits to the worker, as far as it may have more.
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

// send gives a call to the worker, and soon asks whether it has begun.
func (w *Workers) send(v *worker, t *task) bool {
	w.id++
	t.id, t.worker = w.id, v
	v.calls[t.id] = t
	t.timer = time.AfterFunc(askBegunAfter, func() { w.checkOverdue(v, t) })
	err := v.send(request{ID: t.id, Call: t.request})
	return err == nil || errors.Is(err, syscall.EPIPE) // then it ends
}

// ensureWorker has a current worker.
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
		v.kill() // it may have closed its output only
	}()
	go func() {
		err := v.wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.removeWorker(v, err)
	}()
	return nil
}

// handleMessage takes what a worker says, and returns the call that has begun by that, if one has.
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

// Alive returns how many workers there are, among them those that outlived their SIGKILL.
func (w *Workers) Alive() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// Started returns how many have been started so far.
func (w *Workers) Started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.started
}

// Abandoned returns how many outlived their SIGKILL and are still there.
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

// QueueStats returns how many calls wait here because of others, and how many superblocks are in
// quarantine.
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
