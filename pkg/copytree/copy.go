// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Moved counts regular files and the bytes of their data.
type Moved struct{ Files, Bytes atomic.Int64 }

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
	// lists that the target does not take.
	Skipped, Vanished, Lost atomic.Int64
	// Bytes is what the data of all files takes, without holes: what a copy needs.
	Bytes atomic.Int64
	// Cloned, Copied and Written count by how data was copied: by shared blocks, by the server
	// (or within the kernel), and through this process.
	Cloned, Copied, Written Moved

	away    atomic.Bool // the server was, for a while
	group   errgroup.Group
	links   links
	root    int // descriptor of the target
	marked  atomic.Bool
	failure struct {
		sync.Mutex
		first error
	}
	stop context.CancelFunc
}

// Plain reports whether nothing that was copied had extended attributes, or an access control
// list that says more than its mode.
func (c *Copy) Plain() bool { return !c.marked.Load() }

// Tree copies what is in the directory source into the empty directory target, which nobody
// else uses, and gives that the source's owner, mode, times and attributes in the end. Both
// are open descriptors. The first failure ends it. Whatever others do in the source meanwhile,
// nothing outside it is read: what is gone when it is its turn is counted, and what has become
// something else is copied as that. Another file system inside is an error (EXDEV).
func (c *Copy) Tree(ctx context.Context, source, target int) error {
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
		return fmt.Errorf("open the tree: %w", err)
	}
	defer f.Close()
	d := &directory{source: f, target: target}
	if err = unix.Fstat(int(f.Fd()), &d.stat); err == nil {
		err = unix.Fstatat(target, "", &d.made, unix.AT_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("look at the tree: %w", err)
	}
	c.Methods.learn(target, d.stat.Dev == d.made.Dev)
	// What the target has for new files is not what the source's files have. NFSv4 does not
	// show it so, and there each list is compared with what a new file has: see plainACL.
	if err = unix.Removexattr(byDescriptor(target), defaultACL); err != nil && !errors.Is(err, unix.ENODATA) && !unsupported(err) {
		return fmt.Errorf("take the access control list for new files from the target: %w", err)
	}
	c.fill(ctx, d)
	_ = c.group.Wait()
	if err := c.failed(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.away.Load() {
		return fmt.Errorf("the server was away for a while, and may have forgotten what it was told just before: it has to be begun again: %w", unix.ETIMEDOUT)
	}
	// A tree that was removed while it was copied is no source.
	if err := unix.Fstat(int(f.Fd()), &unix.Stat_t{}); err != nil {
		return fmt.Errorf("look at the tree again: %w", err)
	}
	return nil
}

func (c *Copy) step(what string) {
	if c.Step != nil {
		c.Step(what)
	}
}

// fail notes the first failure and ends the copy: half of one is of no use.
func (c *Copy) fail(d *directory, name, what string, err error) {
	if err == nil {
		return
	}
	c.failure.Lock()
	defer c.failure.Unlock()
	if c.failure.first == nil {
		c.failure.first = fmt.Errorf("%s %q: %w", what, short(d.path(name)), err)
		c.stop()
	}
}

func (c *Copy) failed() error {
	c.failure.Lock()
	defer c.failure.Unlock()
	return c.failure.first
}

// short is a path that a message has room for.
func short(path string) string {
	const head, tail = 100, 300
	if len(path) <= head+tail {
		return path
	}
	return path[:head] + "..." + path[len(path)-tail:]
}

// deepest is how many directories may be one in the other. Each takes two descriptors, and
// some KiB; a path that fits a system call has 2,048 at most.
const deepest = 8192

// directory is one that is being copied. It is done when all in it is.
type directory struct {
	above  *directory // nil: it is the tree itself
	name   string
	depth  int
	source *os.File
	target int         // descriptor, O_PATH
	stat   unix.Stat_t // of the source
	made   unix.Stat_t // of the target when it was new

	mu   sync.Mutex
	busy map[string]bool // what is being copied in it right now
}

// begin and end enclose the copying of an entry. A directory that is changed while it is read
// may tell of a name twice: what is there of it first stays.
func (d *directory) begin(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[name] {
		return false
	}
	if d.busy == nil {
		d.busy = map[string]bool{}
	}
	d.busy[name] = true
	return true
}

func (d *directory) end(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, name)
}

// path is the way from the tree to name in d, for errors and for hard links.
func (d *directory) path(name string) string {
	names := []string{name}
	for ; d.above != nil; d = d.above {
		names = append(names, d.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		if b.WriteString(names[i]); i > 0 {
			b.WriteByte('/')
		}
	}
	return b.String()
}

// fill copies what is in a directory, in parallel, and then the directory's own attributes,
// which what happens in it would change.
func (c *Copy) fill(ctx context.Context, d *directory) {
	var wg sync.WaitGroup
	err := entries(int(d.source.Fd()), d.depth, func(name string, kind uint8) bool {
		if ctx.Err() != nil {
			return false
		}
		wg.Add(1)
		work := func() error {
			defer wg.Done()
			c.entry(ctx, d, name, kind)
			return nil
		}
		if c.Workers <= 1 || !c.group.TryGo(work) {
			_ = work()
		}
		return true
	})
	wg.Wait()
	if err != nil && !gone(err) {
		c.fail(d, ".", "read the directory", err)
	}
	if ctx.Err() != nil || c.failed() != nil {
		return
	}
	c.finishDirectory(d)
}

// turns is how often an entry is looked at anew because it has become something else.
const turns = 3

// entry copies one entry of a directory. kind is what the directory said it is (readdir(3)).
func (c *Copy) entry(ctx context.Context, d *directory, name string, kind uint8) {
	if !d.begin(name) {
		return
	}
	defer d.end(name)
	for range turns {
		if ctx.Err() != nil {
			return
		}
		var again bool
		switch kind {
		case unix.DT_REG:
			again = c.file(ctx, d, name)
		case unix.DT_DIR:
			again = c.directory(ctx, d, name)
		case unix.DT_LNK, unix.DT_FIFO, unix.DT_CHR, unix.DT_BLK:
			again = c.other(d, name)
		case unix.DT_SOCK:
			c.Skipped.Add(1)
		default:
			again = true
		}
		if !again {
			return
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(d.source.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); gone(err) {
			break
		} else if err != nil {
			c.fail(d, name, "look at", err)
			return
		}
		kind = uint8(st.Mode & unix.S_IFMT >> 12)
	}
	c.Vanished.Add(1)
}

// gone reports whether an error says that a name, or the directory it was in, is not there any more.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// changed reports whether an error of opening says that an entry is gone, or something else by now.
func changed(err error) bool {
	return gone(err) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR)
}

// directory copies the directory name in d. again: it is no directory, or gone.
func (c *Copy) directory(ctx context.Context, d *directory, name string) (again bool) {
	f, err := openDir(int(d.source.Fd()), name)
	if changed(err) {
		return true
	}
	if err != nil {
		c.fail(d, name, "open the directory", err)
		return false
	}
	defer f.Close()
	sub := &directory{above: d, name: name, depth: d.depth + 1, source: f}
	if sub.depth > deepest {
		c.fail(d, name, "open the directory", fmt.Errorf("it is more than %d directories down: %w", deepest, unix.ENAMETOOLONG))
		return false
	}
	if err = unix.Fstat(int(f.Fd()), &sub.stat); err != nil {
		if gone(err) {
			return true
		}
		c.fail(d, name, "look at the directory", err)
		return false
	}
	c.step("make a directory")
	// We have to get in, whatever its mode is to be.
	err = unix.Mkdirat(d.target, name, sub.stat.Mode&0o777|0o700)
	if errors.Is(err, unix.EEXIST) {
		return false
	}
	if err == nil {
		sub.target, err = unix.Openat(d.target, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		c.fail(d, name, "make the directory", err)
		return false
	}
	defer unix.Close(sub.target)
	// Now, while its attributes are those that came with the answer.
	if err = unix.Fstatat(sub.target, "", &sub.made, unix.AT_EMPTY_PATH); err != nil {
		c.fail(d, name, "look at the new directory", err)
		return false
	}
	c.Dirs.Add(1)
	c.fill(ctx, sub)
	return false
}

// finishDirectory gives a directory the attributes of its source.
func (c *Copy) finishDirectory(d *directory) {
	t := target{fd: d.target, path: byDescriptor(d.target)}
	c.step("set a directory's attributes")
	err := c.attributes(int(d.source.Fd()), t, &d.stat, &d.made)
	if err == nil {
		err = setTimes(t, &d.stat)
	}
	c.fail(d, ".", "set the attributes of", err)
}
