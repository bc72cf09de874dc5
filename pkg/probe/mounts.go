// SPDX-License-Identifier: Apache-2.0

// Package probe asks mounted file systems how they are, without ever waiting for one that
// does not answer.
package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

const (
	// patience bounds one statfs(2).
	patience = 4 * time.Second
	// memory is how long an answer serves when there is no newer one to be had.
	memory = 10 * time.Minute
)

// ChildCommand is the hidden subcommand by which the driver runs itself to ask.
const ChildCommand = "statfs"

// Usage finds out how full mounted file systems are. At most one question is under way per
// mount; who asks meanwhile waits for its answer.
type Usage struct {
	ask func(ctx context.Context, path string) (volume.Space, error)

	mu     sync.Mutex
	mounts map[string]*mounted
}

type mounted struct {
	done  chan struct{} // of the question under way; nil: there is none
	space volume.Space  // the last good answer
	at    time.Time     // when it came; zero: never
	err   error         // of the last question
}

// NewUsage returns a Usage that asks with the given function, which has to end when its
// context does: ByChild in production.
func NewUsage(ask func(ctx context.Context, path string) (volume.Space, error)) *Usage {
	return &Usage{ask: ask, mounts: map[string]*mounted{}}
}

// Of returns how full the file system at path is. Where it does not answer in time, the last
// answer serves for ten minutes; then it is ErrUnavailable.
func (u *Usage) Of(ctx context.Context, path string) (volume.Space, error) {
	u.mu.Lock()
	m := u.mounts[path]
	if m == nil {
		m = &mounted{}
		u.mounts[path] = m
	}
	if m.done == nil {
		m.done = make(chan struct{})
		go u.question(path, m)
	}
	done := m.done
	u.mu.Unlock()

	select {
	case <-done:
	case <-ctx.Done():
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case m.done == nil && m.err == nil, !m.at.IsZero() && time.Since(m.at) < memory:
		return m.space, nil
	case m.err != nil:
		return volume.Space{}, m.err
	}
	return volume.Space{}, volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer (%w)", path, ctx.Err())
}

// Forget drops what is known of a mount that is gone.
func (u *Usage) Forget(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mounts, path)
}

func (u *Usage) question(path string, m *mounted) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	space, err := u.ask(ctx, path)
	u.mu.Lock()
	defer u.mu.Unlock()
	if m.err = err; err == nil {
		m.space, m.at = space, time.Now()
	}
	close(m.done)
	m.done = nil
}

// ByChild asks by running this program again, so that a server which does not answer costs a
// process that can be killed and not a thread that cannot.
type ByChild struct {
	Children child.Children
}

// Ask runs statfs(2) on path in a child.
func (b *ByChild) Ask(ctx context.Context, path string) (volume.Space, error) {
	var space volume.Space
	stdout, stderr, err := b.Children.Run(ctx, "/proc/self/exe", ChildCommand, path)
	if ctx.Err() != nil {
		return space, volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer (%w)", path, ctx.Err())
	}
	if err != nil {
		return space, volume.Errorf(volume.ErrUnavailable, "ask for the space of %s: %s (%w)", path, stderr, err)
	}
	if err := json.Unmarshal([]byte(stdout), &space); err != nil {
		return space, fmt.Errorf("ask for the space of %s: %w", path, err)
	}
	return space, nil
}

// Child is what the child does: it prints the space of the file system at path.
func Child(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree))
}
