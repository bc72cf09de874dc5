// SPDX-License-Identifier: Apache-2.0

package child

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"time"
)

// worker is one process of Workers, whose lock guards all fields that change.
type worker struct {
	cmd *exec.Cmd
	in  *os.File // its standard input
	out *os.File // its standard output

	calls     map[uint64]*task // sent to it, and not answered yet
	retired   bool             // it gets no more calls
	killed    time.Time        // zero: not yet
	lastHeard time.Time        // time of its last message; zero: none
	lastPing  time.Time        // time of the last ping
}

// startWorker runs the program. Its pipes are files of this process, and no goroutine of os/exec
// copies them: a thread that is stuck in the kernel keeps the child's files open, so that end of
// file may come long after the kill.
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
	// Another working directory would keep its file system busy.
	cmd.Dir = "/"
	if err := c.start(cmd); err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	return &worker{cmd: cmd, in: in, out: out, calls: map[uint64]*task{}}, nil
}

// listen calls handle with each message. It returns if the process ends, if it writes something
// else than a message, or after kill.
func (w *worker) listen(handle func(message)) {
	for decoder := json.NewDecoder(w.out); ; {
		var m message
		if decoder.Decode(&m) != nil {
			return
		}
		handle(m)
	}
}

// send sends a request. It fails if the request does not fit into the pipe: then the worker does
// not read.
func (w *worker) send(r request) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_ = w.in.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err = w.in.Write(append(data, '\n'))
	return err
}

// ping asks whether the worker runs, unless an earlier ping is still unanswered.
func (w *worker) ping() {
	if w.lastPing.After(w.lastHeard) || !w.killed.IsZero() {
		return
	}
	w.lastPing = time.Now()
	_ = w.send(request{})
}

// isHung reports whether the answer to a ping is overdue. No server can delay this answer.
func (w *worker) isHung() bool {
	return w.lastPing.After(w.lastHeard) && time.Since(w.lastPing) > pongTimeout
}

// kill kills the process if possible, and closes our ends of its pipes.
func (w *worker) kill() {
	if !w.killed.IsZero() {
		return
	}
	w.killed = time.Now()
	_ = w.cmd.Process.Kill() // fails if the process has been waited for
	_ = w.in.Close()
	_ = w.out.Close()
}

// killIfDrained kills the process if no caller waits for it any more.
func (w *worker) killIfDrained() {
	for _, t := range w.calls {
		if !t.abandoned {
			return
		}
	}
	w.kill()
}

// hasSlot reports whether the worker may get one more call for this server and superblock.
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

// wait waits until the last thread of the process is gone.
func (w *worker) wait() error {
	if err := waitForChild(w.cmd); err != nil {
		return err
	}
	return errors.New("exit status 0")
}
