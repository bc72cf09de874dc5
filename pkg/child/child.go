// SPDX-License-Identifier: Apache-2.0

// Package child runs other programs that may get stuck in the kernel, waiting for an NFS
// server: each in a process group of its own, with a deadline, killed past it, and not more
// than a few at once for each server.
package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// killTimeout is how long a killed child may take to be gone before it is left to itself.
	killTimeout = 2 * time.Second
	// maxPerServer bounds the children of one server, those that are left to themselves included.
	maxPerServer = 8
)

// ErrStuck is why a child was not started: there are as many as there may be for its server,
// and not even SIGKILL has ended them.
var ErrStuck = errors.New("its earlier children are stuck in the kernel")

// Runner are child processes. The zero value is ready for use.
type Runner struct {
	alive     atomic.Int64
	started   atomic.Int64
	abandoned atomic.Int64

	mu      sync.Mutex
	servers map[string]*server
}

// server is what there is of one server's children. Its fields but slots are the Children's.
type server struct {
	slots chan struct{} // one is in it for each child that is alive
	users int           // who holds, or waits for, a slot
	stuck int           // children that outlived their SIGKILL
}

// Command is a program to be run.
type Command struct {
	Name string
	Args []string
	// Server is who the child will wait for: the name under which children are bounded.
	Server string
	// Stdin is what the program reads.
	Stdin []byte
	// Files are the program's descriptors from 3 on.
	Files []*os.File
	// Hostname, if set, is the host name that the program sees, in a UTS namespace of its own.
	Hostname string
	// MountNamespace, if set, is the mount namespace of the caller's thread, where that is not this process's.
	MountNamespace *os.File
	// Unprivileged takes all capabilities from the program, and what could give it some.
	Unprivileged bool
	// SameProcessGroup leaves the program in this process's group, so that what kills this kills it too.
	SameProcessGroup bool
}

// Alive returns how many there are, among them those that outlived their SIGKILL.
func (c *Runner) Alive() int { return int(c.alive.Load()) }

// Started returns how many have been started so far.
func (c *Runner) Started() int { return int(c.started.Load()) }

// Abandoned returns how many outlived their SIGKILL and are still there.
func (c *Runner) Abandoned() int { return int(c.abandoned.Load()) }

// acquire waits for a slot among the children of a server. It is ErrStuck where there is no hope of one.
func (c *Runner) acquire(ctx context.Context, name string) (*server, error) {
	c.mu.Lock()
	s := c.servers[name]
	if s == nil {
		if c.servers == nil {
			c.servers = map[string]*server{}
		}
		s = &server{slots: make(chan struct{}, maxPerServer)}
		c.servers[name] = s
	}
	if s.stuck == maxPerServer {
		c.mu.Unlock()
		return nil, fmt.Errorf("%w: %d of them, for %s", ErrStuck, maxPerServer, name)
	}
	s.users++
	c.mu.Unlock()
	select {
	case s.slots <- struct{}{}:
		return s, nil
	case <-ctx.Done():
		c.release(name, s)
		return nil, ctx.Err()
	}
}

// release ends the use of a server's entry, which goes with its last user.
func (c *Runner) release(name string, s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(c.servers, name)
	}
}

// addStuck counts a child that does not go (1), or that went at last (-1).
func (c *Runner) addStuck(s *server, n int) {
	c.abandoned.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stuck += n
}

// newCmd returns what os/exec is to run.
func (command Command) newCmd(out, errs io.Writer) *exec.Cmd {
	cmd := exec.Command(command.Name, command.Args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what programs say is read
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.ExtraFiles = command.Files
	if command.Stdin != nil {
		cmd.Stdin = bytes.NewReader(command.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !command.SameProcessGroup}
	cmd.WaitDelay = time.Second // for a grandchild that keeps the pipe
	return cmd
}

// start starts the program. What it is to have of its own it inherits from a thread that has it,
// and ends here.
func (command Command) start(cmd *exec.Cmd) error {
	if command.Hostname == "" && !command.Unprivileged {
		return startChild(cmd)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread does not end before the process, and is what ps(1) and /proc
			// tell of. While it is held here, the next goroutine has another.
			done <- command.start(cmd)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		err := command.setUpThread()
		if err == nil {
			err = startChild(cmd)
		}
		done <- err
	}()
	return <-done
}

// setUpThread makes this thread what the program is to be.
func (command Command) setUpThread() error {
	if command.MountNamespace != nil {
		if err := EnterMountNamespace(command.MountNamespace); err != nil {
			return err
		}
	}
	if command.Hostname != "" {
		err := unix.Unshare(unix.CLONE_NEWUTS)
		if err == nil {
			err = unix.Sethostname([]byte(command.Hostname))
		}
		if err != nil {
			return fmt.Errorf("give it a host name: %w", err)
		}
	}
	if !command.Unprivileged {
		return nil
	}
	// Root would have all capabilities again after execve(2), but for no_new_privs.
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	}
	if err == nil {
		none := [2]unix.CapUserData{}
		err = unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
	}
	if err != nil {
		return fmt.Errorf("take its capabilities: %w", err)
	}
	return nil
}

// Run starts a program and waits for it until ctx ends; then it is killed, with all that it
// has started. It returns what the program wrote, trimmed. A child that not even SIGKILL
// ends holds one goroutine and one of its server's slots, and nothing that anybody waits for.
func (c *Runner) Run(ctx context.Context, command Command) (stdout, stderr string, err error) {
	if err := ctx.Err(); err != nil {
		return "", "", err
	}
	s, err := c.acquire(ctx, command.Server)
	if err != nil {
		return "", "", err
	}
	gone := func() { <-s.slots; c.release(command.Server, s) }
	var out, errs bytes.Buffer
	cmd := command.newCmd(&out, &errs)
	if err := command.start(cmd); err != nil {
		gone()
		return "", "", fmt.Errorf("start %s: %w", command.Name, err)
	}
	c.started.Add(1)
	c.alive.Add(1)
	done := make(chan error, 1)
	var killed atomic.Bool
	go func() {
		err := waitForChild(cmd)
		if killed.Load() && !command.SameProcessGroup {
			waitForGroup(cmd.Process.Pid)
		}
		if errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success() {
			err = nil // it is done; what it has started, rpc.statd say, keeps the pipe
		}
		c.alive.Add(-1)
		gone()
		done <- err
	}()
	select {
	case err := <-done:
		return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), err
	case <-ctx.Done():
	}
	victim := -cmd.Process.Pid
	if command.SameProcessGroup {
		victim = cmd.Process.Pid
	}
	killed.Store(true)
	_ = syscall.Kill(victim, syscall.SIGKILL)
	select {
	case <-done:
	case <-time.After(killTimeout):
		c.addStuck(s, 1)
		go func() { <-done; c.addStuck(s, -1) }()
	}
	return "", "", ctx.Err()
}

// EnterMountNamespace has this thread be in another mount namespace, with its root as working directory.
func EnterMountNamespace(namespace *os.File) error {
	// Threads share their working directory, and none that does changes its namespace (setns(2)).
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("enter the mount namespace: %w", err)
	}
	return nil
}

// Do runs a program that does what ServeOne does, has it make a call, and takes its answer.
func (c *Runner) Do(ctx context.Context, command Command, call, answer any) error {
	data, err := json.Marshal(call)
	if err != nil {
		return err
	}
	if command.Stdin, err = json.Marshal(request{ID: 1, Call: data}); err != nil {
		return err
	}
	stdout, stderr, err := c.Run(ctx, command)
	if err != nil {
		if stderr != "" {
			err = fmt.Errorf("%s (%w)", stderr, err)
		}
		return err
	}
	var m message
	if err := json.Unmarshal([]byte(stdout), &m); err != nil {
		return fmt.Errorf("what %s says is not understood: %q", command.Name, stdout)
	}
	if m.Error != "" {
		return errors.New(m.Error)
	}
	return json.Unmarshal(m.Answer, answer)
}

// waitForGroup waits until those of a process group that was killed are gone who are our children.
func waitForGroup(group int) {
	for pause := time.Millisecond; ; {
		switch pid, err := unix.Wait4(-group, nil, unix.WNOHANG, nil); {
		case errors.Is(err, unix.ECHILD):
			return
		case pid == 0:
			time.Sleep(pause)
			pause = min(2*pause, time.Second)
		}
	}
}
