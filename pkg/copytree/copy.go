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

// Copy copies a tree. Its counters may be read while it runs.
type Copy struct {
	// Workers is the number of concurrent calls to the server.
	Workers int
	// Methods is shared by copies between the same two mounts; nil: this copy has its own.
	Methods *Methods
	// SourceIsPlain: nothing in the source has extended attributes, or an access control list
	// that says more than its mode. The copy does not read them then.
	SourceIsPlain bool
	// Step, if set, is called before each change in the target, with the name of the change.
	// Tests end the process there.
	Step func(what string)

	// The copied entries: regular files, directories, further hard links of a file, symbolic
	// links, FIFOs and devices.
	Files, Dirs, Links, Symlinks, Special atomic.Int64
	// Skipped counts sockets, and special files that the server does not let us create. Vanished
	// counts entries that were removed before they were copied. Lost counts extended attributes
	// and access control lists that the target does not accept, times that it does not keep, and
	// hard links that it does not create.
	Skipped, Vanished, Lost atomic.Int64
	// Bytes is the size of the data of all files without holes: the space that a copy needs.
	Bytes atomic.Int64
	MethodCounts

	serverStalled   atomic.Bool // a file took longer than fileTimeout
	group           errgroup.Group
	source          source
	links           links
	owners          owners
	root            int // descriptor of the target
	foundAttributes atomic.Bool
	failure         struct {
		sync.Mutex
		first error
	}
	stop context.CancelFunc
}

// IsPlain reports whether nothing that was copied had extended attributes, or an access control
// list that says more than its mode.
func (c *Copy) IsPlain() bool { return !c.foundAttributes.Load() }

// Run copies the content of the directory source into the empty directory target, which nobody
// else uses. At the end it gives target the owner, mode, times and attributes of source. Both
// are open descriptors. The first failure ends the copy. Whatever others change in the source
// meanwhile, Run reads nothing outside it. It counts an entry that was removed, and copies one
// that was replaced as what it is now. Another file system inside is an error (EXDEV).
func (c *Copy) Run(ctx context.Context, source, target int) error {
	if c.Methods == nil {
		c.Methods = &Methods{}
	}
	ctx, c.stop = context.WithCancel(ctx)
	defer c.stop()
	c.root = target
	c.group.SetLimit(max(c.Workers-1, 1)) // the caller works too
	if c.Workers <= 1 {
		c.group.SetLimit(0)
	}
	f, err := openDir(source, ".")
	if err != nil {
		return fmt.Errorf("open the tree: %w", &SourceError{err})
	}
	defer f.Close()
	d := &directory{source: f, target: target}
	if err := c.source.stat(d.fd(), ".", &d.sourceStat); err != nil {
		return fmt.Errorf("stat the tree: %w", &SourceError{err})
	}
	if err := unix.Fstatat(target, "", &d.targetStat, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("stat the target: %w", err)
	}
	c.Methods.detect(d.fd(), target, d.sourceStat.Dev == d.targetStat.Dev)
	if err := c.Methods.removeDefaultACL(target); err != nil {
		return fmt.Errorf("remove the default access control list of the target: %w", err)
	}
	if err := c.copyEntries(ctx, d); err != nil {
		c.fail(d, ".", "copy", err)
	}
	_ = c.group.Wait()
	if err := c.firstFailure(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.serverStalled.Load() {
		return fmt.Errorf("the server did not answer for a while, and may have lost its last changes: the copy must start again: %w", unix.ETIMEDOUT)
	}
	// A tree that was removed during the copy is not a source.
	if err := c.source.refresh(d.fd(), d.name()); err != nil {
		return fmt.Errorf("stat the tree again: %w", &SourceError{err})
	}
	return nil
}

// data and attributes return the copiers of the parts of an entry.
func (c *Copy) data() dataCopier { return dataCopier{c.Methods, &c.MethodCounts} }

func (c *Copy) attributes() attributeCopier {
	return attributeCopier{c.Methods, &c.owners, c.SourceIsPlain, c.source, &c.foundAttributes, &c.Lost}
}

func (c *Copy) announce(what string) {
	if c.Step != nil {
		c.Step(what)
	}
}

// fail records the first failure and ends the copy: a part of a copy is useless.
func (c *Copy) fail(d *directory, name, what string, err error) {
	c.failure.Lock()
	defer c.failure.Unlock()
	if c.failure.first == nil {
		c.failure.first = fmt.Errorf("%s %q: %w", what, shorten(d.location.path(name)), err)
		c.stop()
	}
}

func (c *Copy) firstFailure() error {
	c.failure.Lock()
	defer c.failure.Unlock()
	return c.failure.first
}

// shorten shortens a path so that it fits in a message.
func shorten(path string) string {
	const head, tail = 100, 300
	if len(path) <= head+tail {
		return path
	}
	return path[:head] + "..." + path[len(path)-tail:]
}

// copyEntries copies the entries of a directory in parallel, and then the attributes of the
// directory itself, because creating entries changes them. It returns an error of the directory
// itself; fail records those of its entries.
func (c *Copy) copyEntries(ctx context.Context, d *directory) error {
	var wg sync.WaitGroup
	err := c.source.list(d, func(name string, kind uint8) bool {
		if ctx.Err() != nil {
			return false
		}
		wg.Add(1)
		work := func() error {
			defer wg.Done()
			(&entry{copy: c, dir: d, name: name}).run(ctx, kind)
			return nil
		}
		if c.Workers <= 1 || !c.group.TryGo(work) {
			_ = work()
		}
		return true
	})
	wg.Wait()
	if err != nil {
		return fmt.Errorf("read the directory: %w", &SourceError{err})
	}
	if ctx.Err() != nil || c.firstFailure() != nil {
		return nil
	}
	if err := c.finishDirectory(d); err != nil {
		return fmt.Errorf("set the attributes: %w", err)
	}
	return nil
}

// finishDirectory gives a directory the attributes of its source.
func (c *Copy) finishDirectory(d *directory) error {
	t := target{fd: d.target, path: fdPath(d.target)}
	c.announce("set a directory's attributes")
	if err := c.attributes().copy(d.fd(), t, &d.sourceStat, &d.targetStat); err != nil {
		return err
	}
	return c.attributes().copyTimes(t, &d.sourceStat)
}
