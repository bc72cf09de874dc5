// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRunReturnsWhatWasSaid(t *testing.T) {
	var c Runner
	stdout, stderr, err := c.Run(context.Background(), Command{Name: "sh", Args: []string{"-c", "cat; echo wrong >&2; exit 3"}, Stdin: []byte("out")})
	if stdout != "out" || stderr != "wrong" || err == nil {
		t.Errorf("got %q, %q, %v", stdout, stderr, err)
	}
	if c.Alive() != 0 || c.Started() != 1 {
		t.Errorf("%d alive of %d, want 0 of 1", c.Alive(), c.Started())
	}
	if _, _, err := c.Run(context.Background(), Command{Name: "/no/such/program"}); err == nil {
		t.Error("a program that does not exist ran")
	}
}

// TestDo runs a child that makes one call.
func TestDo(t *testing.T) {
	var c Runner
	once := func(name string, o order) (r report, err error) {
		return r, c.Do(context.Background(), Command{Name: name, Args: []string{"once"}}, o, &r)
	}
	if r, err := once("/proc/self/exe", order{}); err != nil || r.PID == 0 || r.PID == os.Getpid() {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, o := range []order{{Fail: "no such file"}, {Exit: 3}} {
		if _, err := once("/proc/self/exe", o); err == nil || o.Exit == 0 && err.Error() != o.Fail {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	if _, err := once("echo", order{}); err == nil || !strings.Contains(err.Error(), `is not an answer: "once"`) {
		t.Errorf("another program: got %v", err)
	}
}

// TestRunKillsTheWholeGroup detects the end of a grandchild by the pipe that it keeps open.
func TestRunKillsTheWholeGroup(t *testing.T) {
	var c Runner
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, _, err := c.Run(ctx, Command{Name: "sh", Args: []string{"-c", "sh -c 'exec >" + pipe + "; echo; sleep 600' & wait"}})
		ended <- err
	}()
	grandchild, err := os.Open(pipe) // waits for a writer
	if err != nil {
		t.Fatal(err)
	}
	defer grandchild.Close()
	if _, err := grandchild.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if c.Alive() != 0 {
		t.Errorf("%d children are left", c.Alive())
	}
	if err := grandchild.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := grandchild.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a grandchild still runs: %v", err)
	}
}

// TestKillReapsGrandchildren kills a child that has started another one: neither stays, not even as
// a zombie.
func TestKillReapsGrandchildren(t *testing.T) {
	adopt(t)
	var c Runner
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, _, err := c.Run(ctx, Command{Name: "sh", Args: []string{"-c", "sh -c 'sleep 60; true' & sh -c 'sleep 60; true'; wait"}})
	if !errors.Is(err, context.DeadlineExceeded) || c.Abandoned() > 0 {
		t.Errorf("got error %v and %d abandoned children", err, c.Abandoned())
	}
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Fatal(tasks, err)
	}
	for _, file := range tasks {
		if left, _ := os.ReadFile(file); len(left) > 0 {
			t.Errorf("children are left: %s", left)
		}
	}
}

// TestServerLimit checks that only the children of one server wait for each other.
func TestServerLimit(t *testing.T) {
	var c Runner
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range maxPerServer {
		all.Go(func() {
			_, _, _ = c.Run(ctx, Command{Name: "sleep", Args: []string{"60"}, Server: "dead"})
		})
	}
	for c.Alive() < maxPerServer {
		time.Sleep(time.Millisecond)
	}
	if _, _, err := c.Run(context.Background(), Command{Name: "true", Server: "healthy"}); err != nil {
		t.Errorf("another server's child: %v", err)
	}
	short, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if _, _, err := c.Run(short, Command{Name: "true", Server: "dead"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one child over the limit: %v", err)
	}
	if c.Started() != maxPerServer+1 {
		t.Errorf("%d children were started", c.Started())
	}
	cancel()
	all.Wait()
	if _, _, err := c.Run(context.Background(), Command{Name: "true", Server: "dead"}); err != nil {
		t.Errorf("after they have ended: %v", err)
	}
	if len(c.servers) != 0 || c.Abandoned() != 0 {
		t.Errorf("%d servers and %d abandoned children are left", len(c.servers), c.Abandoned())
	}
}

// TestStuck checks that a child is refused at once if all of its server's slots are stuck.
func TestStuck(t *testing.T) {
	var c Runner
	for range maxPerServer {
		s, err := c.acquire(context.Background(), "dead")
		if err != nil {
			t.Fatal(err)
		}
		c.addStuck(s, 1)
	}
	if _, _, err := c.Run(context.Background(), Command{Name: "true", Server: "dead"}); !errors.Is(err, ErrStuck) {
		t.Errorf("got error %v", err)
	}
	if c.Abandoned() != maxPerServer || c.Started() != 0 {
		t.Errorf("%d children are abandoned, %d were started", c.Abandoned(), c.Started())
	}
}
