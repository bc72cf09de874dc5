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
	// Workers is how many calls to the server are under way at once.
	Workers int
	// Methods is shared by copies between the same two mounts; nil: this copy's own.
	Methods *Methods
	// SourceIsPlain: nothing in the source has extended attributes, or an access control list
	// that says more than its mode. Nobody is asked then.
	SourceIsPlain bool
	// Step, if set, is called before each change in the target, with what it is. Tests end the
	// process there.
	Step func(what string)

	// What was copied: regular files, directories, further names of a file, symbolic links,
	// FIFOs and devices.
	Files, Dirs, Links, Symlinks, Special atomic.Int64
	// Skipped are sockets, and what the server does not let us make; Vanished is what was not
	// there any more when it was its turn; Lost are extended attributes and access control
	// lists that the target does not take, times that it does not have, and hard links that it does not make.
	Skipped, Vanished, Lost atomic.Int64
	// Bytes is what the data of all files takes, without holes: what a copy needs.
	Bytes atomic.Int64
	MethodCounts

	serverStalled   atomic.Bool // the server was, for a while
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

// Run copies what is in the directory source into the empty directory target, which nobody
// else uses, and gives that the source's owner, mode, times and attributes in the end. Both
// are open descriptors. The first failure ends it. Whatever others do in the source meanwhile,
// nothing outside it is read: what is gone when it is its turn is counted, and what has become
// something else is copied as that. Another file system inside is an error (EXDEV).
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
		return fmt.Errorf("look at the tree: %w", &SourceError{err})
	}
	if err := unix.Fstatat(target, "", &d.targetStat, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("look at the target: %w", err)
	}
	c.Methods.detect(d.fd(), target, d.sourceStat.Dev == d.targetStat.Dev)
	if err := c.Methods.removeDefaultACL(target); err != nil {
		return fmt.Errorf("take the access control list for new files from the target: %w", err)
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
		return fmt.Errorf("the server was away for a while, and may have forgotten what it was told just before: it has to be begun again: %w", unix.ETIMEDOUT)
	}
	// A tree that was removed while it was copied is no source.
	if err := c.source.refresh(d.fd(), d.name()); err != nil {
		return fmt.Errorf("look at the tree again: %w", &SourceError{err})
	}
	return nil
}

// data and attributes are what copies the parts of an entry.
func (c *Copy) data() dataCopier { return dataCopier{c.Methods, &c.MethodCounts} }

func (c *Copy) attributes() attributeCopier {
	return attributeCopier{c.Methods, &c.owners, c.SourceIsPlain, c.source, &c.foundAttributes, &c.Lost}
}

func (c *Copy) announce(what string) {
	if c.Step != nil {
		c.Step(what)
	}
}

// fail notes the first failure and ends the copy: half of one is of no use.
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

// short is a path that a message has room for.
func shorten(path string) string {
	const head, tail = 100, 300
	if len(path) <= head+tail {
		return path
	}
	return path[:head] + "..." + path[len(path)-tail:]
}

// fill copies what is in a directory, in parallel, and then the directory's own attributes,
// which what happens in it would change. It returns an error of the directory itself, those of
// what is in it are noted.
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
