// SPDX-License-Identifier: Apache-2.0

// Package copytree works on whole directory trees beneath a share: it copies, measures and
// removes them.
//
// Tenants may still be changing a tree while it is worked on. Nothing here follows a
// symbolic link or crosses into another file system; every step is by a descriptor of the
// directory it is in.
package copytree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// batch is how many names of a directory are in memory at once, per directory being removed.
	batchSize = 512
	// maxDepth is how deep removal descends: each level holds a descriptor. What is deeper is
	// moved up first, where that is possible.
	maxOpenDepth = 64
	// passes is how often a directory is read again because something new has appeared in it.
	maxIdleReads = 8
)

// Removal removes trees. Its counters may be read while it runs.
type Removal struct {
	// Workers is how many calls to the server are under way at once. Removing is a matter of
	// round trips, so this divides the time for as long as the server keeps up.
	Workers int

	Entries atomic.Int64 // removed so far, directories included

	source  source
	removed atomic.Bool // the tree itself was
	group   errgroup.Group
	parent  int    // descriptor of the directory that holds the tree
	name    string // of the tree in it
	serial  atomic.Int64
	failure struct {
		sync.Mutex
		first error
		count int
	}
}

// Remove removes name, whatever it is, from the directory that dirfd is open on; "." is what is in
// that directory, which stays itself. It goes on past what it cannot remove, and then returns the first such error and their number. That
// name is not there is success, when the server says so. It stops soon after ctx ends.
func (r *Removal) Remove(ctx context.Context, dirfd int, name string) error {
	r.parent, r.name = dirfd, name
	r.group.SetLimit(max(r.Workers-1, 1)) // the caller works too
	for range maxAttempts {
		r.removeEntry(ctx, dirfd, name, -1)
		_ = r.group.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.failureError(); err != nil {
			return err
		}
		if r.removed.Load() {
			return nil
		}
		gone, err := r.isTreeGone()
		if err != nil {
			return fmt.Errorf("look for %q: %w", name, err)
		}
		if gone {
			return nil
		}
	}
	return fmt.Errorf("remove %q: it is called gone, and is there: %w", name, unix.ESTALE)
}

// gone asks the server whether the tree is gone, since unlink(2) may know no more than that the
// client remembers no such name. A tree that is called removed loses its record.
func (r *Removal) isTreeGone() (bool, error) {
	if err := r.source.refresh(r.parent, "."); err != nil {
		return false, err
	}
	is, err := r.source.statCurrent(r.parent, r.name)
	if err != nil {
		return false, err
	}
	return is == nil, nil
}

// failures returns the first failure, with the number of the others.
func (r *Removal) failureError() error {
	r.failure.Lock()
	defer r.failure.Unlock()
	if r.failure.count > 1 {
		return fmt.Errorf("%w (and %d more)", r.failure.first, r.failure.count-1)
	}
	return r.failure.first
}

func (r *Removal) addFailure(what, name string, err error) {
	r.failure.Lock()
	defer r.failure.Unlock()
	if r.failure.count++; r.failure.first == nil {
		r.failure.first = fmt.Errorf("%s %q: %w", what, name, err)
	}
}

// removeDir empties the directory name in parent and removes it.
func (r *Removal) removeDir(ctx context.Context, parent int, name string, depth int) {
	if depth >= maxOpenDepth && r.moveUp(parent, name, depth) {
		return
	}
	f, err := openDir(parent, name)
	if hasVanished(err, depth) {
		return
	}
	if err != nil {
		r.addFailure("open", name, err)
		return
	}
	defer f.Close()
	for idle := 0; idle < maxIdleReads; {
		before := r.Entries.Load()
		if !r.removeEntries(ctx, f, depth) {
			return
		}
		if depth == 0 && name == "." { // it stays; a last look has found nothing in it
			if r.Entries.Load() == before {
				r.removed.Store(true)
				return
			}
		} else {
			err = unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
			if err == nil {
				r.countRemoved(depth)
				return
			}
			if hasVanished(err, depth) {
				return
			}
			if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
				break
			}
		}
		if r.Entries.Load() == before {
			idle++
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			r.addFailure("read again", name, err)
			return
		}
	}
	r.addFailure("remove the directory", name, err)
}

// moveUp moves a directory up beside the tree's own entries, where the descent begins anew. It
// reports false where that cannot be: a directory with another project (quota) than the root of
// the tree is not moved there if what is new there gets its project (EXDEV; FS_XFLAG_PROJINHERIT,
// ioctl_fsgetxattr(2)).
func (r *Removal) moveUp(parent int, name string, depth int) bool {
	if depth >= maxTreeDepth {
		r.addFailure("open", name, fmt.Errorf("it is more than %d directories down: %w", maxTreeDepth, unix.ENAMETOOLONG))
		return true
	}
	up := fmt.Sprintf("%s/.mooring.deep.%d", r.name, r.serial.Add(1))
	err := r.source.rename(parent, name, r.parent, up)
	if errors.Is(err, unix.EXDEV) {
		return false
	}
	if err != nil && !hasVanished(err, depth) {
		r.addFailure("move up", name, err)
	}
	return true
}

// done counts what was removed.
func (r *Removal) countRemoved(depth int) {
	r.Entries.Add(1)
	if depth == 0 {
		r.removed.Store(true)
	}
}

// vanished reports whether err says that a name is not there any more. Within the tree, which
// is where depth is over 0, tenants can have something else take its place, or have it removed
// by another worker to which it has another name. If anything stays, removing what it is in
// fails, and that is read again.
func hasVanished(err error, depth int) bool {
	within := errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
	return errors.Is(err, unix.ENOENT) || depth > 0 && within
}

// empty removes what is in an open directory. It reports false where something stayed, here
// or anywhere: then there is no use in trying the directory itself.
func (r *Removal) removeEntries(ctx context.Context, f *os.File, depth int) bool {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		// Names only: where the server did not send types along, asking for them would be a
		// look-up by path, and unlink(2) tells a directory as well.
		names, err := f.Readdirnames(batchSize)
		for _, name := range names {
			wg.Add(1)
			work := func() error {
				defer wg.Done()
				r.removeEntry(ctx, int(f.Fd()), name, depth)
				return nil
			}
			if !r.group.TryGo(work) {
				_ = work()
			}
		}
		// ENOENT, ESTALE: it was removed meanwhile, under another name that a tenant gave it. If not,
		// it has entries still, and cannot be removed: then it is read again.
		if errors.Is(err, io.EOF) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
			wg.Wait()
			return ctx.Err() == nil && !r.hasFailed()
		}
		if err != nil {
			r.addFailure("read", f.Name(), err)
			return false
		}
	}
	return false
}

func (r *Removal) hasFailed() bool {
	r.failure.Lock()
	defer r.failure.Unlock()
	return r.failure.count > 0
}

func (r *Removal) removeEntry(ctx context.Context, parent int, name string, depth int) {
	if ctx.Err() != nil {
		return
	}
	err := r.source.unlink(parent, name)
	switch {
	case err == nil:
		r.countRemoved(depth + 1)
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		// The last two are a server's that was asked to remove what we took for a link: NFSv4
		// has one REMOVE for all.
		r.removeDir(ctx, parent, name, depth+1)
	case !hasVanished(err, depth+1):
		r.addFailure("remove", name, err)
	}
}

// openDir opens a directory for reading, and nothing else: no link, no other file system. The client
// is made to ask the server whether the directory has changed. To open it by name need not do that: while
// the client has a delegation of the parent, Linux 7.2 lists the directory as it remembers it, for up to
// acdirmax seconds (nfs_lookup_revalidate_delegated). To open "." does.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := beneath.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	if name != "." {
		err = beneath.Dir(fd).Refresh()
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
