// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// DefaultLease is how long a volume in the making is left to the controller that began it.
const DefaultLease = 20 * time.Second

// staleAside is the age past which a record that was never published is nobody's any more.
const staleAside = time.Hour

// Options are what all shares of one process have in common.
type Options struct {
	// Maker names this instance of the driver across its restarts; no two run under one name.
	Maker string
	// Run names this process among the runs of the Maker. "": every opened share is a run.
	Run string
	// Lease is how long what another instance began is left alone. 0: DefaultLease.
	Lease time.Duration
	// ReadOnly opens shares only to look: nothing is laid out or swept.
	ReadOnly bool
	// Step, if set, is called before each change on the share, with what it is. Tests end the
	// process there.
	Step func(what string)
}

// Share is an open share. Its methods may be called at the same time; all of them touch the
// file system, and return no sooner than it answers.
type Share struct {
	def  volume.Share
	opt  Options
	seq  atomic.Int64
	lost atomic.Bool // the file system under us is not the share any more

	opened time.Time

	root, volumes, claims, snapshots, groups, staging, jobs, trash beneath.Dir

	mu      sync.Mutex
	parents map[string]time.Time // of volumes that were deleted, and when: see Tidy
}

// Open opens the share that is mounted at path and, unless it is to be read only, lays out
// what is Mooring's there.
func Open(path string, def volume.Share, opt Options) (*Share, error) {
	if opt.Lease == 0 {
		opt.Lease = DefaultLease
	}
	if opt.Run == "" {
		opt.Run = randomHex(4)
	}
	s := &Share{def: def, opt: opt, opened: time.Now(), parents: map[string]time.Time{}, root: beneath.None}
	for _, d := range s.own() {
		*d = beneath.None
	}
	err := s.layOut(path)
	if err == nil && !opt.ReadOnly {
		err = s.sweepStaging()
	}
	if err == nil && !opt.ReadOnly {
		err = s.findParents(s.claims, "")
	}
	if err != nil {
		s.Close()
		return nil, s.fail("lay out "+volume.StateDir, err)
	}
	return s, nil
}

func (s *Share) layOut(path string) (err error) {
	if s.root, err = beneath.OpenRoot(path); err != nil {
		return err
	}
	state, err := s.ensure(s.root, volume.StateDir)
	if err != nil {
		return err
	}
	defer state.Close()
	for name, d := range s.own() {
		if *d, err = s.ensure(state, name); err != nil {
			return err
		}
	}
	return nil
}

// own names Mooring's own directories.
func (s *Share) own() map[string]*beneath.Dir {
	return map[string]*beneath.Dir{
		"volumes": &s.volumes, "claims": &s.claims,
		"snapshots": &s.snapshots, "groups": &s.groups, "staging": &s.staging, "jobs": &s.jobs, "trash": &s.trash,
	}
}

// ensure opens the directory name in parent, and makes it where it is not there.
func (s *Share) ensure(parent beneath.Dir, name string) (beneath.Dir, error) {
	d, err := parent.Resolve(name)
	if !is(err, unix.ENOENT) {
		return d, err
	}
	if s.opt.ReadOnly {
		return beneath.None, nil
	}
	s.step("lay out " + name)
	if err := parent.Mkdir(name, 0o700); err != nil && !is(err, unix.EEXIST) {
		return beneath.None, err
	}
	return parent.Resolve(name)
}

// sweepStaging removes the asides of this instance's earlier runs, and anybody's old ones.
// The age is told by the server's clock alone.
func (s *Share) sweepStaging() error {
	var stale []string
	now, err := s.staging.Self()
	if err != nil {
		return err
	}
	err = s.staging.Names(func(name string) error {
		aside, ok := keyOf(name)
		if !ok {
			return nil // a copy in the making: SweepStaging
		}
		nonce := aside[strings.LastIndexByte(aside, '.')+1:] // a key may have dots
		if s.earlierRun(nonce) {
			stale = append(stale, name)
		} else if st, err := s.staging.Stat(name); err == nil && now.Mtim.Sec-st.Mtim.Sec > int64(staleAside/time.Second) {
			stale = append(stale, name)
		}
		return nil
	})
	for _, name := range stale {
		if err == nil {
			s.step("sweep staging")
			err = ignore(s.staging.Unlink(name), unix.ENOENT)
		}
	}
	return err
}

// Close lets go of the share. It does not unmount it.
func (s *Share) Close() {
	for _, d := range s.own() {
		if *d >= 0 {
			d.Close()
		}
	}
	if s.root >= 0 {
		s.root.Close()
	}
}

// Definition returns what the registry said of the share when it was opened.
func (s *Share) Definition() volume.Share { return s.def }

// Lost reports whether an operation found that what is mounted is not the share any more: it
// has to be mounted anew.
func (s *Share) Lost() bool { return s.lost.Load() }

// MarkLost has the share mounted anew by whoever opens it next, as if it had been found to be
// lost.
func (s *Share) MarkLost() { s.lost.Store(true) }

// Space asks the server how much there is and how much of it is free.
func (s *Share) Space(ctx context.Context) (volume.Space, error) {
	if err := ctx.Err(); err != nil {
		return volume.Space{}, s.fail("ask for its space", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.root), &st); err != nil {
		return volume.Space{}, s.fail("ask for its space", err)
	}
	return volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree), nil
}

// ReadOnly reports whether the server lets nobody write to the share's directory, other than
// one who may not write there.
func (s *Share) ReadOnly(ctx context.Context) (bool, error) {
	const what = "ask whether it can be written to"
	if err := ctx.Err(); err != nil {
		return false, s.fail(what, err)
	}
	readOnly, err := s.root.ReadOnly()
	return readOnly, s.fail(what, err)
}

func (s *Share) step(what string) {
	if s.opt.Step != nil {
		s.opt.Step(what)
	}
}

func (s *Share) nonce() string {
	return fmt.Sprintf("%s-%s-%s", s.opt.Maker, s.opt.Run, strconv.FormatInt(s.seq.Add(1), 36))
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// doubtInterval is how often a share is mounted anew only because of a doubt.
const doubtInterval = 5 * time.Second

// doubt has the share mounted anew, because what it shows may be no more than what this
// client remembers: a new mount remembers nothing. Linux 7 goes on showing a directory that
// another client has renamed for as long as it has a delegation of it (RFC 8881, section
// 10.9), whatever it is asked.
func (s *Share) doubt() {
	if time.Since(s.opened) > doubtInterval {
		s.lost.Store(true)
	}
}

// confused gives up on parents that come and go.
func (s *Share) confused(what string) error {
	s.doubt()
	return volume.Errorf(volume.ErrBusy, "share %s: %s: its parent is removed again and again: try again", s.def, what)
}

// Explain gives an error of work on the share that was done elsewhere its kind and advice.
func (s *Share) Explain(what string, err error) error { return s.fail(what, err) }

// fail says what was being done on which share, and gives what the system said its kind and,
// where there is one, its remedy. An error that has a kind already keeps it.
func (s *Share) fail(what string, err error) error {
	if err == nil {
		return nil
	}
	if volume.Kind(err) != nil {
		return err
	}
	advice, kind := classify(err)
	if is(err, unix.ELOOP) || is(err, unix.ENOTDIR) {
		s.doubt() // what stands in the way may have been replaced since
	}
	if gone(err) {
		if !s.gone() {
			s.doubt()
			return volume.Errorf(volume.ErrBusy, "share %s: %s: %w: it was changed from elsewhere at the same time: try again", s.def, what, err)
		}
		s.lost.Store(true)
		advice, kind = classify(unix.ESTALE)
	}
	return volume.Errorf(kind, "share %s: %s: %w%s", s.def, what, err, advice)
}

// classify finds the kind of a system call's error on a share, and the advice that goes with it.
func classify(err error) (advice string, kind error) {
	var errno unix.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "", volume.ErrTimeout
	case !errors.As(err, &errno):
		return "", nil
	}
	switch errno {
	case unix.EACCES, unix.EPERM:
		return ": the server does not let us: most likely it maps root to nobody (root_squash) and the directory is not nobody's: export with no_root_squash, or make the export's directory writable for the one root is mapped to", volume.ErrRefused
	case unix.EROFS:
		return ": the share is exported, or mounted, read-only: export it rw", volume.ErrRefused
	case unix.ENOSPC:
		return ": no space or no inodes are left on the server: free some, or empty the trash", volume.ErrFull
	case unix.EDQUOT:
		return ": a quota on the server is used up: raise it, or free some", volume.ErrFull
	case unix.ESTALE:
		return ": the export was made anew or its disk is not mounted on the server: look there; the share is mounted again at the next try", volume.ErrUnavailable
	case unix.ETIMEDOUT, unix.EIO, unix.ECONNREFUSED, unix.ECONNRESET, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return ": the server does not answer: check that it runs and that port 2049 is reachable from here", volume.ErrUnavailable
	case unix.ELOOP, unix.ENOTDIR:
		return ": a symbolic link or a file stands where a directory is to be: remove it on the server", volume.ErrConflict
	case unix.EXDEV:
		return ": another file system is mounted there on the server: register that as a share of its own", volume.ErrConflict
	case unix.ENAMETOOLONG, unix.EINVAL:
		return ": the server does not take that name: choose another", volume.ErrInvalid
	}
	return "", nil
}

func is(err error, errno unix.Errno) bool { return errors.Is(err, errno) }

// gone reports whether a name, or the directory that it was looked for in, is not there (any
// more): a directory that another client removed is stale here.
func gone(err error) bool { return is(err, unix.ENOENT) || is(err, unix.ESTALE) }

// ignore returns nil for an error that is as good as success.
func ignore(err error, errno unix.Errno) error {
	if is(err, errno) {
		return nil
	}
	return err
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}
