// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Measurement counts the entries of a tree. Its counters may be read while it runs.
type Measurement struct {
	// Workers is the number of concurrent calls to the server.
	Workers int

	Files, Dirs, Others atomic.Int64 // Others: links, FIFOs, sockets, devices
	// Bytes is the sum of the files' sizes, and Allocated of the space that they occupy. A file
	// with several names is counted once.
	Bytes, Allocated atomic.Int64

	source   source
	group    errgroup.Group
	links    links
	firstErr error
	once     sync.Once
	stop     context.CancelFunc
}

// Run measures the tree of the open directory dirfd. It does not count entries that are removed
// meanwhile. The first failure ends it.
func (m *Measurement) Run(ctx context.Context, dirfd int) error {
	ctx, m.stop = context.WithCancel(ctx)
	defer m.stop()
	m.group.SetLimit(max(m.Workers-1, 1))
	f, err := openDir(dirfd, ".")
	if err != nil {
		return fmt.Errorf("open the tree: %w", err)
	}
	if err := m.measureDir(ctx, &directory{source: f}); err != nil {
		m.fail("read the directory", ".", err)
	}
	_ = m.group.Wait()
	if m.firstErr != nil {
		return m.firstErr
	}
	return ctx.Err()
}

func (m *Measurement) fail(what, name string, err error) {
	m.once.Do(func() {
		m.firstErr = fmt.Errorf("%s %q: %w", what, name, err)
		m.stop()
	})
}

// measureDir measures an open directory, and closes it.
func (m *Measurement) measureDir(ctx context.Context, d *directory) error {
	defer d.source.Close()
	if err := m.source.stat(d.fd(), d.name(), &d.sourceStat); err != nil {
		return err
	}
	m.Dirs.Add(1)
	var wg sync.WaitGroup
	defer wg.Wait()
	return m.source.list(d, func(name string, _ uint8) bool {
		wg.Add(1)
		work := func() error {
			defer wg.Done()
			m.measureEntry(ctx, d, name)
			return nil
		}
		if m.Workers <= 1 || !m.group.TryGo(work) {
			_ = work()
		}
		return ctx.Err() == nil
	})
}

// measureEntry measures the entry name of d. An entry that is removed meanwhile is not counted; of a
// removed directory, the part that was read is.
func (m *Measurement) measureEntry(ctx context.Context, d *directory, name string) {
	var err error
	for range maxAttempts {
		if ctx.Err() != nil {
			return
		}
		var counted bool
		counted, err = m.count(ctx, d, name)
		if !isChanged(err) {
			if err != nil {
				m.fail("stat", name, err)
			}
			return
		}
		st, recheckErr := m.source.recheck(d, name)
		if recheckErr != nil && !isGone(recheckErr) {
			m.fail("stat", name, recheckErr)
			return
		}
		if st == nil && recheckErr == nil {
			return
		}
		if counted { // a part of it, which must not be counted twice
			break
		}
	}
	m.fail("stat", name, persistentError(err))
}

// count counts the entry name of d. counted: at least a part of it was counted, even with an error.
func (m *Measurement) count(ctx context.Context, d *directory, name string) (counted bool, err error) {
	var st unix.Stat_t
	if err := m.source.lstat(d, name, &st); err != nil {
		return false, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		f, err := m.source.openDir(d, name)
		if err != nil {
			return false, err
		}
		return true, m.measureDir(ctx, &directory{parent: d, location: &location{d.location, name}, depth: d.depth + 1, source: f})
	case unix.S_IFREG:
		m.Files.Add(1)
	default:
		m.Others.Add(1)
	}
	if st.Nlink > 1 && m.links.seenBefore(&st) {
		return true, nil
	}
	m.Bytes.Add(st.Size)
	m.Allocated.Add(st.Blocks * 512)
	return true, nil
}
