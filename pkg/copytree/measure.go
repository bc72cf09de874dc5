// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Measurement counts what is in a tree. Its counters may be read while it runs.
type Measurement struct {
	// Workers is how many calls to the server are under way at once.
	Workers int

	Files, Dirs, Others atomic.Int64 // Others: links, FIFOs, sockets, devices
	// Bytes is the sum of the files' sizes, and Allocated of what they take on the disk. A file
	// with several names is counted once.
	Bytes, Allocated atomic.Int64

	group errgroup.Group
	links links
	first error
	once  sync.Once
	stop  context.CancelFunc
}

// Tree measures the tree of the directory that dirfd is open on. What vanishes meanwhile is
// not counted. The first failure ends it.
func (m *Measurement) Tree(ctx context.Context, dirfd int) error {
	ctx, m.stop = context.WithCancel(ctx)
	defer m.stop()
	m.group.SetLimit(max(m.Workers-1, 1))
	m.dir(ctx, dirfd, ".", 0)
	_ = m.group.Wait()
	if m.first != nil {
		return m.first
	}
	return ctx.Err()
}

func (m *Measurement) fail(what, name string, err error) {
	m.once.Do(func() {
		m.first = fmt.Errorf("%s %q: %w", what, name, err)
		m.stop()
	})
}

// dir measures the directory name in parent.
func (m *Measurement) dir(ctx context.Context, parent int, name string, depth int) {
	f, err := openDir(parent, name)
	if changed(err) && name != "." {
		return
	}
	if err != nil {
		m.fail("open the directory", name, err)
		return
	}
	defer f.Close()
	m.Dirs.Add(1)
	var wg sync.WaitGroup
	defer wg.Wait()
	err = entries(int(f.Fd()), depth, func(name string, _ uint8) bool {
		wg.Add(1)
		work := func() error {
			defer wg.Done()
			m.entry(ctx, f, name, depth)
			return nil
		}
		if m.Workers <= 1 || !m.group.TryGo(work) {
			_ = work()
		}
		return ctx.Err() == nil
	})
	if err != nil && !gone(err) {
		m.fail("read the directory", name, err)
	}
}

func (m *Measurement) entry(ctx context.Context, d *os.File, name string, depth int) {
	if ctx.Err() != nil {
		return
	}
	var st unix.Stat_t
	err := unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case gone(err):
		return
	case err != nil:
		m.fail("look at", name, err)
		return
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		m.dir(ctx, int(d.Fd()), name, depth+1)
		return
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		m.Files.Add(1)
	default:
		m.Others.Add(1)
	}
	if st.Nlink > 1 && m.links.another(&st) {
		return
	}
	m.Bytes.Add(st.Size)
	m.Allocated.Add(st.Blocks * 512)
}
