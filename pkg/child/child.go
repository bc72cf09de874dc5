// SPDX-License-Identifier: Apache-2.0

// Package child runs programs that may hang in the kernel because they wait for an NFS server.
// Each has its own process group and a deadline, after which it is killed. Only a few run at the
// same time for each server.
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
	// killTimeout is how long a child may take to end after SIGKILL before it is abandoned.
	killTimeout = 2 * time.Second
	// pipeTimeout bounds reading the output after the end of a child: a grandchild may keep the pipe open.
	pipeTimeout = time.Second
	// maxPerServer bounds the children of one server, including the abandoned ones.
	maxPerServer = 8
)

// ErrStuck is returned if a child is not started because its server already has the maximum of
// children, and SIGKILL has ended none of them.
var ErrStuck = errors.New("its earlier children are stuck in the kernel")

// Runner runs child processes. The zero value is ready to use.
type Runner struct {
	alive     atomic.Int64
	started   atomic.Int64
	abandoned atomic.Int64

	mu      sync.Mutex
	servers map[string]*server
}

// server has the state of one server's children. The Runner's lock guards all fields except slots.
type server struct {
	slots chan struct{} // has one element for each live child
	users int           // callers that hold a slot or wait for one
	stuck int           // children that survive their SIGKILL
}

// Command describes a program to run.
type Command struct {
	Name string
	Args []string
	// Server is the server that the child may wait for. Its children are bounded together.
	Server string
	// Stdin is the program's input.
	Stdin []byte
	// Files are the program's descriptors from 3 on.
	Files []*os.File
	// Hostname, if set, is the host name that the program sees, in a separate UTS namespace.
	Hostname string
	// MountNamespace, if set, is the mount namespace of the caller's thread, if it differs from the
	// process's.
	MountNamespace *os.File
	// Unprivileged removes all capabilities from the program, and all ways to get them back.
	Unprivileged bool
	// SameProcessGroup keeps the program in this process's group, so that a signal to the group
	// kills both.
	SameProcessGroup bool
}

// Alive returns the number of children, including those that survive their SIGKILL.
func (c *Runner) Alive() int { return int(c.alive.Load()) }

// Started returns the number of children started so far.
func (c *Runner) Started() int { return int(c.started.Load()) }

// Abandoned returns the number of children that survive their SIGKILL.
func (c *Runner) Abandoned() int { return int(c.abandoned.Load()) }

// acquire waits for a slot among the children of a server. It returns ErrStuck if all slots are
// stuck.
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

// release drops a reference to a server's entry, and removes the entry with the last one.
func (c *Runner) release(name string, s *server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(c.servers, name)
	}
}

// addStuck counts a child that survives its SIGKILL (1), or that has ended after all (-1).
func (c *Runner) addStuck(s *server, n int) {
	c.abandoned.Add(int64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	s.stuck += n
}

// newCmd returns the os/exec command.
func (command Command) newCmd(out, errs io.Writer) *exec.Cmd {
	cmd := exec.Command(command.Name, command.Args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // messages are parsed
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.ExtraFiles = command.Files
	if command.Stdin != nil {
		cmd.Stdin = bytes.NewReader(command.Stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !command.SameProcessGroup}
	cmd.WaitDelay = pipeTimeout
	return cmd
}

// start starts the program. The program inherits namespaces and capabilities from a thread that
// gets them first and that ends here.
func (command Command) start(cmd *exec.Cmd) error {
	if command.Hostname == "" && !command.Unprivileged {
		return startChild(cmd)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread lives as long as the process, and ps(1) and /proc show its
			// attributes. While it is locked here, the next goroutine runs on another thread.
			done <- command.start(cmd)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		if err := command.setUpThread(); err != nil {
			done <- err
			return
		}
		done <- startChild(cmd)
	}()
	return <-done
}

// setUpThread gives this thread the namespaces and capabilities of the program.
func (command Command) setUpThread() error {
	if command.MountNamespace != nil {
		if err := EnterMountNamespace(command.MountNamespace); err != nil {
			return err
		}
	}
	if command.Hostname != "" {
		if err := unix.Unshare(unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("set its host name: %w", err)
		}
		if err := unix.Sethostname([]byte(command.Hostname)); err != nil {
			return fmt.Errorf("set its host name: %w", err)
		}
	}
	if !command.Unprivileged {
		return nil
	}
	if err := dropCapabilities(); err != nil {
		return fmt.Errorf("drop its capabilities: %w", err)
	}
	return nil
}

// dropCapabilities drops all capabilities of this thread and of the programs that it starts.
func dropCapabilities() error {
	// Without no_new_privs root would have all capabilities again after execve(2).
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	none := [2]unix.CapUserData{}
	return unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0])
}

// Run starts a program and waits until it ends or ctx does; then it kills the program and all that
// it has started. It returns the program's trimmed output. A child that survives SIGKILL keeps one
// goroutine and one slot of its server, and nothing that another caller waits for.
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
			err = nil // it has ended; a program that it started, such as rpc.statd, keeps the pipe open
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

// EnterMountNamespace moves this thread to another mount namespace, with its root as the working
// directory.
func EnterMountNamespace(namespace *os.File) error {
	// A thread that shares its working directory cannot change its mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter the mount namespace: %w", err)
	}
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the mount namespace: %w", err)
	}
	return nil
}

// Do runs a program that calls ServeOne, sends it a call, and decodes its answer.
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
		return fmt.Errorf("the output of %s is not an answer: %q", command.Name, stdout)
	}
	if m.Error != "" {
		return errors.New(m.Error)
	}
	return json.Unmarshal(m.Answer, answer)
}

// waitForGroup waits until our children in a killed process group are gone.
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
