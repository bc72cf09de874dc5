// SPDX-License-Identifier: Apache-2.0

// Package probe asks NFS servers, and file systems that are mounted from them, how they are,
// without ever waiting for one that does not answer.
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
	// patience bounds one question.
	patience = 4 * time.Second
	// doubtAfter is when a server is asked again whose file system has not answered: what it
	// said before may be from before an outage.
	doubtAfter = patience - serverPatience
	// memory is how long an answer serves for usage when there is no newer one to be had.
	memory = 10 * time.Minute
)

// ChildCommand is the hidden subcommand by which the driver runs itself to ask.
const ChildCommand = "ask"

// Mount is what is asked about.
type Mount struct {
	Path     string
	Server   string // by which the questions under way are bounded
	Endpoint Endpoint
	ReadOnly bool // nobody is to write there: whether one could is not asked
}

// Answer is what a mounted file system says.
type Answer struct {
	Space volume.Space  `json:"space"`
	Took  time.Duration `json:"took"`
	// ReadOnly: the server lets nobody write where we would.
	ReadOnly bool `json:"readOnly,omitempty"`
	// Errno is what it said instead.
	Errno unix.Errno `json:"errno,omitempty"`
}

// Mounts asks mounted file systems. At most one question is under way per mount; who asks
// meanwhile waits for its answer.
type Mounts struct {
	servers *Servers
	ask     func(ctx context.Context, m Mount) (Answer, error)

	mu     sync.Mutex
	mounts map[string]*mounted
}

type mounted struct {
	done chan struct{} // of the question under way; nil: there is none
	last Answer        // the last good one
	at   time.Time     // when it came; zero: never
	err  error         // of the last question
	good time.Time     // when the file system answered last, us or another
}

// NewMounts returns a Mounts that asks with the given function, which has to end when its
// context does: ByChild in production. Servers that do not answer are not asked.
func NewMounts(servers *Servers, ask func(ctx context.Context, m Mount) (Answer, error)) *Mounts {
	return &Mounts{servers: servers, ask: ask, mounts: map[string]*mounted{}}
}

// Server returns how long a server took to answer: see Servers.Check.
func (u *Mounts) Server(ctx context.Context, e Endpoint) (time.Duration, error) {
	return u.servers.Check(ctx, e)
}

// Watch watches a server while something else is asked of it: see Servers.Watch.
func (u *Mounts) Watch(ctx context.Context, e Endpoint) (context.Context, context.CancelFunc) {
	return u.servers.Watch(ctx, e)
}

// Ask returns what the file system says, or has said within fresh. That its server does not
// answer is ErrUnavailable, and so is an error of the file system, as unix.ESTALE.
func (u *Mounts) Ask(ctx context.Context, m Mount, fresh time.Duration) (Answer, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.entry(m.Path)
	if time.Since(e.good) < fresh {
		return e.last, nil
	}
	if e.done == nil {
		e.done = make(chan struct{})
		go u.question(m, e)
	}
	done := e.done
	u.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	u.mu.Lock()
	if e.done == done {
		return Answer{}, silent(m.Path, ctx.Err())
	}
	return e.last, e.err
}

func (u *Mounts) entry(path string) *mounted {
	e := u.mounts[path]
	if e == nil {
		e = &mounted{}
		u.mounts[path] = e
	}
	return e
}

// Usage returns how full the file system is. Where it does not answer in time, the last
// answer serves for ten minutes; then it is ErrUnavailable.
func (u *Mounts) Usage(ctx context.Context, m Mount) (volume.Space, error) {
	a, err := u.Ask(ctx, m, 0)
	if err == nil {
		return a.Space, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.mounts[m.Path]; e != nil && !e.at.IsZero() && time.Since(e.at) < memory {
		return e.last.Space, nil
	}
	return volume.Space{}, err
}

// Good notes that the file system has just answered somebody else.
func (u *Mounts) Good(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entry(path).good = time.Now()
}

// Forget drops what is known of a mount that is gone.
func (u *Mounts) Forget(path string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.mounts, path)
}

func (u *Mounts) question(m Mount, e *mounted) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := u.servers.Check(ctx, m.Endpoint)
	var a Answer
	if err != nil {
		err = fmt.Errorf("%s: %w", m.Path, err)
	} else {
		doubt := time.AfterFunc(doubtAfter, func() { u.servers.Doubt(m.Endpoint) })
		a, err = u.ask(ctx, m)
		doubt.Stop()
	}
	if err == nil && a.Errno != 0 {
		err = volume.Errorf(volume.ErrUnavailable, "%s: %w", m.Path, a.Errno)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if e.err = err; err == nil {
		e.last, e.at = a, time.Now()
		e.good = e.at
	} else {
		e.good = time.Time{}
	}
	close(e.done)
	e.done = nil
}

func silent(path string, err error) error {
	return volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer (%w)", path, err)
}

// ByChild asks by running this program again, so that a server which does not answer costs a
// process that can be killed and not a thread that cannot.
type ByChild struct {
	Children child.Children
}

// Ask asks about m in a child.
func (b *ByChild) Ask(ctx context.Context, m Mount) (Answer, error) {
	var a Answer
	access := "rw"
	if m.ReadOnly {
		access = "ro"
	}
	stdout, stderr, err := b.Children.Run(ctx, child.Command{
		Name: "/proc/self/exe", Args: []string{ChildCommand, m.Path, access}, Server: m.Server,
	})
	if ctx.Err() != nil {
		return a, silent(m.Path, ctx.Err())
	}
	if err != nil {
		return a, volume.Errorf(volume.ErrUnavailable, "ask how %s is: %s (%w)", m.Path, stderr, err)
	}
	if err := json.Unmarshal([]byte(stdout), &a); err != nil {
		return a, fmt.Errorf("ask how %s is: %w", m.Path, err)
	}
	return a, nil
}

// Child is what the child does: it prints the Answer of the file system at path, which is
// mounted "ro" or "rw".
func Child(path, access string) error {
	var a Answer
	start := time.Now()
	err := look(path, access == "rw", &a)
	a.Took = time.Since(start)
	if err != nil {
		var ok bool
		if a.Errno, ok = err.(unix.Errno); !ok {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(a)
}

func look(path string, write bool, a *Answer) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	// A directory that was removed may still answer, with nothing that could be done in it.
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_NLINK, &x); err != nil {
		return err
	}
	if x.Nlink == 0 {
		return unix.ESTALE
	}
	a.Space = volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree)
	if !write || unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil {
		return nil
	}
	// An export that is read-only and a root who is nobody look alike (RFC 8881, section 18.1).
	// To set what is set already changes nothing in the first case, which says EROFS, nor in
	// the second.
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return err
	}
	a.ReadOnly = unix.Chmod(path, s.Mode&0o7777) == unix.EROFS
	return nil
}
