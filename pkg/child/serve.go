// SPDX-License-Identifier: Apache-2.0

package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// The protocol between Workers and a child is a sequence of JSON objects: requests on the child's
// standard input, and messages on its standard output. A worker ends at the end of its input; any
// other child makes one call.

// request asks for one call or, without Call, whether the call with that ID has begun. Workers ask
// only after a while, because each message costs a context switch and most calls end soon. ID 0
// asks whether the child runs.
type request struct {
	ID   uint64          `json:"id"`
	Call json.RawMessage `json:"call,omitempty"`
}

// message is a child's reply to a request: that the call has begun, if requested, and its result.
type message struct {
	ID     uint64          `json:"id"`
	Began  bool            `json:"began,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Serve is the main function of a worker: it makes the calls that it reads from in, all
// concurrently, until in ends. It does not wait for calls that have not returned by then. It writes
// the results of do to out.
func Serve[C any](in io.Reader, out io.Writer, do func(call C) (answer any, err error)) error {
	in, err := setNonblocking(in)
	if err != nil {
		return err
	}
	// One thread makes one call after the other; if a call stays in the kernel, the runtime continues
	// on another thread. With a higher GOMAXPROCS threads would only wake each other.
	runtime.GOMAXPROCS(1)
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	say := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(m) // a parent that does not read any more has closed in, too
	}
	say(message{Began: true}) // the worker runs
	for decoder := json.NewDecoder(in); ; {
		var r request
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}
		if r.Call == nil {
			say(message{ID: r.ID, Began: true}) // all earlier calls have begun
			continue
		}
		go func() { say(makeCall(r, do)) }()
	}
}

// ServeOne is the main function of a child that makes one call, for Runner.Do.
func ServeOne[C any](in io.Reader, out io.Writer, do func(call C) (answer any, err error)) error {
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	return json.NewEncoder(out).Encode(makeCall(r, do))
}

// makeCall makes a call, and returns the message with its result.
func makeCall[C any](r request, do func(call C) (answer any, err error)) message {
	var call C
	if err := json.Unmarshal(r.Call, &call); err != nil {
		return message{ID: r.ID, Error: err.Error()}
	}
	answer, err := do(call)
	if err != nil {
		return message{ID: r.ID, Error: err.Error()}
	}
	data, err := json.Marshal(answer)
	if err != nil {
		return message{ID: r.ID, Error: err.Error()}
	}
	return message{ID: r.ID, Answer: data}
}

// setNonblocking returns a pipe as a file that the runtime polls, so that no thread blocks in
// read(2).
func setNonblocking(in io.Reader) (io.Reader, error) {
	f, ok := in.(*os.File)
	if !ok {
		return in, nil
	}
	fd := f.Fd()
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		return nil, os.NewSyscallError("set O_NONBLOCK", err)
	}
	return os.NewFile(fd, f.Name()), nil
}
