// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"os"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// source reads a tree.
//
// An entry counts as removed only if the server says so for its name. ESTALE, and ENOENT for an
// open directory, only mean that the server does not know a file handle: for example if the export
// is withdrawn for a moment, or its disk is not mounted yet (RFC 1813, NFS3ERR_STALE). If a copy
// took that for a removal it would be empty.
type source struct {
	// fault, if set, is called before each call. Its error is the result of that call. Tests set it.
	fault func(call, name string) error
}

// The calls that fault gets.
const (
	callOpen       = "open"
	callStat       = "stat"       // an open file
	callLstat      = "look"       // a name
	callList       = "list"       // a directory
	callListRest   = "list on"    // the same, after a part was read
	callRead       = "read"       // a file's data
	callAttributes = "attributes" // extended attributes
	callRecheck    = "ask"        // a name on the server
	callRemove     = "remove"     // a name
	callMove       = "move"       // a directory to the root of the tree
)

func (s source) check(call, name string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(call, name)
}

// SourceError reports that the source cannot be read as the server describes it. That may be only
// for a moment.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// maxAttempts is the number of attempts for an entry that exists, but cannot be found or changes its
// kind.
const maxAttempts = 5

// errKindChanged: an entry is of another kind than just before.
var errKindChanged = fmt.Errorf("its kind has changed: %w", unix.ESTALE)

// isGone reports whether an error means that a name or an open file does not exist any more.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// isChanged reports whether an error of open(2) means that an entry was removed, replaced or moved.
func isChanged(err error) bool {
	return isGone(err) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR)
}

// persistentError returns the error for an entry that exists, but could not be read in any attempt.
func persistentError(err error) error {
	if !isGone(err) {
		err = fmt.Errorf("%w: %w", errKindChanged, err)
	}
	return &SourceError{err}
}

func (s source) openDir(d *directory, name string) (*os.File, error) {
	if err := s.check(callOpen, name); err != nil {
		return nil, err
	}
	return openDir(d.fd(), name)
}

func (s source) open(d *directory, name string, flags uint64) (int, error) {
	if err := s.check(callOpen, name); err != nil {
		return -1, err
	}
	return beneath.Openat(d.fd(), name, int(flags))
}

func (s source) stat(fd int, name string, st *unix.Stat_t) error {
	if err := s.check(callStat, name); err != nil {
		return err
	}
	return unix.Fstat(fd, st)
}

// lstat returns the attributes of a name. It does not follow a symbolic link.
func (s source) lstat(d *directory, name string, st *unix.Stat_t) error {
	if err := s.check(callLstat, name); err != nil {
		return err
	}
	return unix.Fstatat(d.fd(), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// list calls each for every entry of a directory: see readEntries.
func (s source) list(d *directory, each func(name string, kind uint8) bool) error {
	if err := s.check(callList, d.name()); err != nil {
		return err
	}
	if err := readEntries(d.fd(), d.depth, each); err != nil {
		return err
	}
	return s.check(callListRest, d.name())
}

// recheck asks the server for a name that seems to be gone. nil: it is gone. For the tree itself that
// is an error.
func (s source) recheck(d *directory, name string) (*unix.Statx_t, error) {
	err := s.refresh(d.fd(), d.name())
	if isGone(err) && d.parent != nil {
		// Then its entries are gone, too, unless the directory still exists under its name.
		st, err := s.recheck(d.parent, d.name())
		if err != nil {
			return nil, err
		}
		if st == nil || st.Ino != d.sourceStat.Ino {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return s.statCurrent(d.fd(), name)
}

// refresh makes the client ask the server for the attributes of a directory. If they have changed,
// the client looks up its cached names again, both existing and missing ones (nfs(5), "Directory
// entry caching"). The mount needs lookupcache=positive: otherwise Linux 7 caches that a name is
// missing while it has a delegation of the directory (RFC 8881, section 10.9).
func (s source) refresh(dir int, name string) error {
	if err := s.check(callRecheck, name); err != nil {
		return err
	}
	var st unix.Statx_t
	err := unix.Statx(dir, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err != nil {
		return err
	}
	if st.Nlink == 0 {
		return unix.ESTALE
	}
	return nil
}

// statCurrent returns the attributes of a name after refresh. nil: it does not exist. If the file
// handle is stale, the kernel itself looks the name up again.
func (s source) statCurrent(dir int, name string) (*unix.Statx_t, error) {
	if err := s.check(callRecheck, name); err != nil {
		return nil, err
	}
	st := &unix.Statx_t{}
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, st)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return st, err
}

func (s source) unlink(dir int, name string) error {
	if err := s.check(callRemove, name); err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, 0)
}

func (s source) rename(dir int, name string, to int, as string) error {
	if err := s.check(callMove, name); err != nil {
		return err
	}
	return unix.Renameat(dir, name, to, as)
}
