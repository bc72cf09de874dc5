// SPDX-License-Identifier: Apache-2.0

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
	// batchSize is the number of names in memory for each directory that is being removed.
	batchSize = 512
	// maxOpenDepth is the depth to which removal descends: each level holds a descriptor. A deeper
	// directory is moved up first, if that is possible.
	maxOpenDepth = 64
	// maxIdleReads is the number of times that a directory is read again without any progress,
	// because it still has entries.
	maxIdleReads = 8
)

// Removal removes trees. Its counters may be read while it runs.
type Removal struct {
	// Workers is the number of concurrent calls to the server. The time for a removal is the sum of
	// its round trips, so this divides it for as long as the server keeps up.
	Workers int

	Entries atomic.Int64 // removed so far, directories included

	source  source
	removed atomic.Bool // the tree itself is removed
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

// Remove removes name, whatever it is, from the open directory dirfd. "." removes the content of that
// directory, and keeps the directory itself. Remove continues after an error, and returns the first
// error with the number of the others. A name that does not exist on the server is a success. Remove
// stops soon after ctx ends.
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
			return fmt.Errorf("stat %q: %w", name, err)
		}
		if gone {
			return nil
		}
	}
	return fmt.Errorf("remove %q: it is reported as gone, and exists: %w", name, unix.ESTALE)
}

// isTreeGone asks the server whether the tree is gone, because unlink(2) may answer from the client's
// cache. The record of a removed tree is deleted, so a false answer would leave the tree without one.
func (r *Removal) isTreeGone() (bool, error) {
	if err := r.source.refresh(r.parent, "."); err != nil {
		return false, err
	}
	st, err := r.source.statCurrent(r.parent, r.name)
	if err != nil {
		return false, err
	}
	return st == nil, nil
}

// failureError returns the first failure, with the number of the others.
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
		if depth == 0 && name == "." { // it is kept; the last read found it empty
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

// moveUp moves a directory up into the root of the tree, where removal descends again. It returns
// false if that is impossible: a directory with another project (quota) than the root of the tree
// cannot be moved there if new entries inherit the project (EXDEV; FS_XFLAG_PROJINHERIT,
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

// countRemoved counts a removed entry.
func (r *Removal) countRemoved(depth int) {
	r.Entries.Add(1)
	if depth == 0 {
		r.removed.Store(true)
	}
}

// hasVanished reports whether err means that a name does not exist any more. Inside the tree (depth
// over 0) tenants can also replace it, or rename it so that another worker removes it. If anything is
// left, the removal of its parent fails, and the parent is read again.
func hasVanished(err error, depth int) bool {
	within := errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
	return errors.Is(err, unix.ENOENT) || depth > 0 && within
}

// removeEntries removes the entries of an open directory. It returns false after a failure here or
// anywhere: then it is useless to remove the directory itself.
func (r *Removal) removeEntries(ctx context.Context, f *os.File, depth int) bool {
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		// Names only: if the server did not send types, each would cost a lookup by path, and
		// unlink(2) detects a directory as well.
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
		// ENOENT, ESTALE: another worker removed it under a name that a tenant gave it. If not, it still
		// has entries and cannot be removed: then it is read again.
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
		// The last two are the server's answer if the client sends REMOVE for a directory that it
		// takes for a link: NFSv4 has one REMOVE for both.
		r.removeDir(ctx, parent, name, depth+1)
	case !hasVanished(err, depth+1):
		r.addFailure("remove", name, err)
	}
}

// openDir opens a directory for reading. It opens no link and no other file system. It makes the client
// ask the server whether the directory has changed. An open by name may not do that: while the client has
// a delegation of the parent, Linux 7.2 lists the directory from its cache, for up to acdirmax seconds
// (nfs_lookup_revalidate_delegated). An open of "." does.
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
