// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"errors"
	"fmt"
	"os"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// source is how a tree is read.
//
// That something is not there any more is believed only when the server says so about its
// name. ESTALE, and ENOENT for a directory that is open, say no more than that the server does
// not know a file handle: as when the export is withdrawn for a moment, or its disk is not
// mounted yet (RFC 1813, NFS3ERR_STALE). A copy that took this for a removal would be empty.
type source struct {
	// fault, if set, is asked before each call, which fails with what it returns. Tests set it.
	fault func(call, name string) error
}

// The calls that fault is asked about.
const (
	callOpen       = "open"
	callStat       = "stat"       // of what is open
	callLstat      = "look"       // at a name
	callList       = "list"       // a directory
	callListRest   = "list on"    // the same, when a part of it is known
	callRead       = "read"       // a file's data
	callAttributes = "attributes" // extended ones
	callRecheck    = "ask"        // the server, about a name
	callRemove     = "remove"     // a name
	callMove       = "move"       // a directory up
)

func (s source) check(call, name string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(call, name)
}

// SourceError says that the source is not as its server says that it is: it may be only for a
// moment that it cannot be read.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// turns is how often an entry is begun anew because it is there, and cannot be found, or is
// something else.
const maxAttempts = 5

// errKind: an entry is of another kind than it was just before.
var errKindChanged = fmt.Errorf("it becomes something else: %w", unix.ESTALE)

// gone reports whether an error says that a name, or what is open, is not there any more.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }

// changed reports whether an error of opening says that an entry is gone, or something else by now.
func isChanged(err error) bool {
	return isGone(err) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.EISDIR)
}

// persistent is the error of an entry that is there, and could not be read in any turn.
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

// look looks at a name itself, not through it.
func (s source) lstat(d *directory, name string, st *unix.Stat_t) error {
	if err := s.check(callLstat, name); err != nil {
		return err
	}
	return unix.Fstatat(d.fd(), name, st, unix.AT_SYMLINK_NOFOLLOW)
}

// list calls each for what is in a directory: see entries.
func (s source) list(d *directory, each func(name string, kind uint8) bool) error {
	if err := s.check(callList, d.name()); err != nil {
		return err
	}
	if err := readEntries(d.fd(), d.depth, each); err != nil {
		return err
	}
	return s.check(callListRest, d.name())
}

// ask asks the server about a name that seems to be gone. nil: it is. The tree itself never is,
// that is an error.
func (s source) recheck(d *directory, name string) (*unix.Statx_t, error) {
	err := s.refresh(d.fd(), d.name())
	if isGone(err) && d.parent != nil {
		// Then so is all in it, unless the directory is there by its name.
		is, err := s.recheck(d.parent, d.name())
		if err != nil {
			return nil, err
		}
		if is == nil || is.Ino != d.sourceStat.Ino {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return s.statCurrent(d.fd(), name)
}

// refresh has the client ask the server for a directory's attributes. If these have changed, the
// client looks up anew the names that it remembers to be there, or not to be there (nfs(5),
// "Directory entry caching"). The mount needs lookupcache=positive: while it has a delegation of
// the directory (RFC 8881, section 10.9), Linux 7 otherwise believes that a name is not there.
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

// lookUp looks at a name after refresh. nil: it is not there. For a file handle that is stale the
// kernel looks the name up anew itself.
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
