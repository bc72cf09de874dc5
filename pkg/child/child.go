// SPDX-License-Identifier: Apache-2.0

// Package child runs other programs that may get stuck in the kernel, waiting for an NFS
// server: each in a process group of its own, with a deadline, killed past it.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// killPatience is how long a killed child may take to be gone before it is left to itself.
const killPatience = 2 * time.Second

// Children are child processes. The zero value is ready for use.
type Children struct {
	alive atomic.Int64
	began atomic.Int64
}

// Alive returns how many there are, among them those that outlived their SIGKILL.
func (c *Children) Alive() int { return int(c.alive.Load()) }

// Started returns how many have been started so far.
func (c *Children) Started() int { return int(c.began.Load()) }

// Run starts a program and waits for it until ctx ends; then it is killed, with all that it
// has started. It returns what the program wrote, trimmed. A child that not even SIGKILL
// ends holds one goroutine, and nothing that anybody waits for.
func (c *Children) Run(ctx context.Context, name string, args ...string) (stdout, stderr string, err error) {
	if err := ctx.Err(); err != nil {
		return "", "", err
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what programs say is read
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // for a grandchild that keeps the pipe
	if err := cmd.Start(); err != nil {
		return "", "", fmt.Errorf("start %s: %w", name, err)
	}
	c.began.Add(1)
	c.alive.Add(1)
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
			err = nil // it is done; what it has started, rpc.statd say, keeps the pipe
		}
		c.alive.Add(-1)
		done <- err
	}()
	select {
	case err := <-done:
		return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), err
	case <-ctx.Done():
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	select {
	case <-done:
	case <-time.After(killPatience):
	}
	return "", "", ctx.Err()
}
