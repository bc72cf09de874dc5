// SPDX-License-Identifier: Apache-2.0

package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// The protocol of a child of our own is one JSON object after the other, requests on its standard
// input and messages on its standard output. A child ends with its standard input.

// request asks for one call. Without a call it is answered at once: it asks whether the child runs.
type request struct {
	ID   uint64          `json:"id"`
	Call json.RawMessage `json:"call,omitempty"`
}

// message is what a child says of a request: that the call has begun, and then how it ended.
type message struct {
	ID     uint64          `json:"id"`
	Began  bool            `json:"began,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// Serve is what a child of our own does: it makes the calls that in asks for, all at once, until
// in ends, and then returns without those that have not come back. out is told of each when it
// begins and what do has returned.
func Serve(in io.Reader, out io.Writer, do func(call json.RawMessage) (answer any, err error)) error {
	runtime.GOMAXPROCS(threads + 1) // none that can run waits for one that is in the kernel
	var mu sync.Mutex
	encoder := json.NewEncoder(out)
	say := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = encoder.Encode(m) // who does not listen any more has closed in, too
	}
	for decoder := json.NewDecoder(in); ; {
		var r request
		switch err := decoder.Decode(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read a request: %w", err)
		}
		if r.Call == nil {
			say(message{ID: r.ID})
			continue
		}
		go func() {
			say(message{ID: r.ID, Began: true})
			m := message{ID: r.ID}
			answer, err := do(r.Call)
			if err == nil {
				m.Answer, err = json.Marshal(answer)
			}
			if err != nil {
				m.Error = err.Error()
			}
			say(m)
		}()
	}
}
