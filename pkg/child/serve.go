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

// The protocol of a child of our own is one JSON object after the other, requests on its standard
// input and messages on its standard output. A worker ends with its standard input; any other
// child makes the one call that is there.

// request asks for one call, or, without one, whether the call of that ID has begun: a call that
// ends soon costs no message more, and each is a switch of processes. ID 0 asks whether the child
// runs.
type request struct {
	ID   uint64          `json:"id"`
	Call json.RawMessage `json:"call,omitempty"`
}

// message is what a child says of a request: that the call has begun, if that was asked, and how
// it ended.
type message struct {
	ID     uint64          `json:"id"`
	Began  bool            `json:"began,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Serve is what a child of our own does: it makes the calls that in asks for, all at once, until
// in ends, and then returns without those that have not come back. out is told what do has
// returned of each.
func Serve[C any](in io.Reader, out io.Writer, do func(call C) (answer any, err error)) error {
	in, err := setNonblocking(in)
	if err != nil {
		return err
	}
	// A thread does one call after the other; the runtime gives its place to another one when it
	// is in the kernel for long. More places would only have threads wake each other.
	runtime.GOMAXPROCS(1)
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	say := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(m) // who does not listen any more has closed in, too
	}
	say(message{Began: true}) // it runs
	for decoder := json.NewDecoder(in); ; {
		var r request
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}
		if r.Call == nil {
			say(message{ID: r.ID, Began: true}) // what came before is under way
			continue
		}
		go func() { say(makeCall(r, do)) }()
	}
}

// ServeOne is what a child of our own does that makes one call, for Runner.Do.
func ServeOne[C any](in io.Reader, out io.Writer, do func(call C) (answer any, err error)) error {
	var r request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	return json.NewEncoder(out).Encode(makeCall(r, do))
}

// makeCall makes a call, and returns what is to be said of that.
func makeCall[C any](r request, do func(call C) (answer any, err error)) message {
	m := message{ID: r.ID}
	var call C
	var answer any
	err := json.Unmarshal(r.Call, &call)
	if err == nil {
		answer, err = do(call)
	}
	if err == nil {
		m.Answer, err = json.Marshal(answer)
	}
	if err != nil {
		m.Error = err.Error()
	}
	return m
}

// setNonblocking returns a pipe as a file that no thread waits for in read(2), which would keep its place.
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
