// SPDX-License-Identifier: Apache-2.0

package child

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"time"
)

// worker is one process of Workers, whose lock guards all that is not set once and for all.
type worker struct {
	cmd *exec.Cmd
	in  *os.File // its standard input
	out *os.File // its standard output

	calls     map[uint64]*task // what it has been sent and has not answered
	retired   bool             // it gets no more
	killed    time.Time        // zero: not yet
	lastHeard time.Time        // when it said something last; zero: never
	lastPing  time.Time        // when it was asked last whether it runs
}

// startWorker runs the program. Its pipes are files of ours and no goroutines of os/exec's: a
// thread that is stuck in the kernel keeps the process's files, so that there may be no end of
// file long after it was killed.
func startWorker(c Command) (*worker, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer stdout.Close()
	cmd := c.newCmd(stdout, os.Stderr)
	cmd.Stdin = stdin
	// A directory of its own would keep that one's file system busy.
	cmd.Dir = "/"
	if err := c.start(cmd); err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	return &worker{cmd: cmd, in: in, out: out, calls: map[uint64]*task{}}, nil
}

// listen calls hear with each message, and returns when there are no more: the process has ended,
// or says what is no message, or kill has closed the pipe.
func (w *worker) listen(hear func(message)) {
	for decoder := json.NewDecoder(w.out); ; {
		var m message
		if decoder.Decode(&m) != nil {
			return
		}
		hear(m)
	}
}

// send sends a request. One that does not fit into the pipe is an error: the worker does not read.
func (w *worker) send(r request) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = w.in.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err = w.in.Write(append(data, '\n'))
	return err
}

// ping asks whether the worker runs, unless it has been asked and has not answered.
func (w *worker) ping() {
	if w.lastPing.After(w.lastHeard) || !w.killed.IsZero() {
		return
	}
	w.lastPing = time.Now()
	_ = w.send(request{})
}

// isHung reports whether the worker owes an answer that no server has a part in.
func (w *worker) isHung() bool {
	return w.lastPing.After(w.lastHeard) && time.Since(w.lastPing) > pongTimeout
}

// kill ends the process, as far as it can be ended, and our use of its files.
func (w *worker) kill() {
	if !w.killed.IsZero() {
		return
	}
	w.killed = time.Now()
	_ = w.cmd.Process.Kill() // unless it has been waited for
	_ = w.in.Close()
	_ = w.out.Close()
}

// killIfDrained kills the process when nobody waits for it any more.
func (w *worker) killIfDrained() {
	for _, t := range w.calls {
		if !t.abandoned {
			return
		}
	}
	w.kill()
}

// hasSlot reports whether the worker may have one more call of this server and superblock.
func (w *worker) hasSlot(c Call) bool {
	host, superblock := 0, 0
	for _, t := range w.calls {
		if t.Server == c.Server {
			host++
		}
		if t.Superblock == c.Superblock {
			superblock++
		}
	}
	return host < maxCallsPerServer && superblock < maxCallsPerSuperblock
}

// wait waits until the last of the process's threads is gone.
func (w *worker) wait() error {
	if err := waitForChild(w.cmd); err != nil {
		return err
	}
	return errors.New("exit status 0")
}
