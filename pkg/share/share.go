// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// DefaultLease is how long a creation that another controller has begun is left to it.
const DefaultLease = 20 * time.Second

// Options are what all shares of one process have in common.
type Options struct {
	// Maker names this instance of the driver across its restarts. No two run under one name.
	Maker string
	// Run names this process among the runs of the Maker. "": each opened share is a run.
	Run string
	// Lease is how long what another instance began is left alone. 0: DefaultLease. Nothing
	// is unsafe without it: it keeps two controllers from undoing each other's work.
	Lease time.Duration
	// ReadOnly opens shares only to look: nothing is laid out or swept.
	ReadOnly bool
	// Initialize has shares laid out that are not, because something is to be created there. Without
	// it such a share is open with nothing on it.
	Initialize bool
	// AnyID opens shares whatever id the registry says they have: to show it, or to change it.
	AnyID bool
	// OnInitialized, if set, is called when this process has laid a share out.
	OnInitialized func(def volume.Share, id string)
	// Step, if set, is called before each change on the share, with what it is. Tests stop
	// the process there.
	Step func(what string)

	// forbids, if set, is asked before a directory is renamed: in tests some have projects.
	beforeRename func(from beneath.Dir, name string, to beneath.Dir, as string) error
	// links, if set, is what link(2) fails with: in tests some servers have no hard links.
	linkErr error
}

// Share is an open share: the door to what Mooring keeps there. The parts may be used at the
// same time. All of them touch the file system, and return no sooner than it answers.
type Share struct {
	*disk

	Volumes     *Volumes
	Snapshots   *Snapshots
	Groups      *Groups
	Trash       *Trash
	Jobs        *Jobs
	Directories *Directories
	Identity    *Identity

	claims *claims
}

// Open opens the share that is mounted at path. Where it has been laid out, directories of
// Mooring's that are missing are made, unless it is for reading only.
func Open(path string, def volume.Share, opt Options) (s *Share, err error) {
	if opt.Lease == 0 {
		opt.Lease = DefaultLease
	}
	if opt.Run == "" {
		opt.Run = volume.NewNonce()[:8]
	}
	d := &disk{def: def, opt: opt, opened: time.Now(), root: beneath.None, state: beneath.None, staging: beneath.None}
	defer d.wrapError(&err, "lay out %s", volume.StateDir)
	s = newShare(d)
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	if d.root, err = beneath.OpenRoot(path); err != nil {
		return s, err
	}
	if err = (layout{s}).open(); err != nil || opt.ReadOnly || !s.formatted {
		return s, err
	}
	return s, ignore(d.sweepStaging(), unix.EROFS)
}

func newShare(d *disk) *Share {
	s := &Share{disk: d}
	s.claims = &claims{disk: d, dir: beneath.None}
	s.claims.parents = &parents{disk: d, dir: beneath.None, claims: s.claims, lastUse: map[string]time.Time{}, listed: map[string]beneath.Node{}}
	s.Trash = &Trash{disk: d, dir: beneath.None}
	s.Jobs = &Jobs{disk: d, dir: beneath.None}
	volumes := newTable(d, volume.ObjectVolume, nil)
	volumes.volumes = volumes
	s.Volumes = &Volumes{table: volumes, claims: s.claims, trash: s.Trash, jobs: s.Jobs}
	s.Snapshots = &Snapshots{table: newTable(d, volume.ObjectSnapshot, volumes), trash: s.Trash, jobs: s.Jobs}
	s.Volumes.snapshots = s.Snapshots
	s.Groups = &Groups{table: newTable(d, ofGroup, nil), snapshots: s.Snapshots}
	s.Directories = &Directories{disk: d, claims: s.claims}
	s.Identity = &Identity{disk: d}
	s.claims.volumes, s.Trash.volumes = volumes, s.Volumes
	s.Jobs.volumes, s.Jobs.snapshots = volumes, s.Snapshots
	return s
}

// directories names Mooring's own directories, in .mooring.
func (s *Share) directories() map[string]*beneath.Dir {
	return map[string]*beneath.Dir{
		"volumes": &s.Volumes.dir, "claims": &s.claims.dir, "parents": &s.claims.parents.dir,
		"snapshots": &s.Snapshots.dir, "groups": &s.Groups.dir, "staging": &s.staging,
		"jobs": &s.Jobs.dir, "trash": &s.Trash.dir,
	}
}

// staleAside is the age past which something in staging is nobody's any more.
const staleTempAge = time.Hour

// sweepStaging removes what interrupted processes have left in staging, and formats that they were
// writing, by the server's clock. What a late one wanted to rename from there is gone then, and its step
// fails.
func (d *disk) sweepStaging() error {
	now, err := d.now()
	if err != nil {
		return err
	}
	stale, err := listStale(d, d.staging, "", now)
	if err != nil {
		return err
	}
	for _, name := range stale {
		d.step("sweep staging")
		if err := d.removeSharedTemp(name); err != nil {
			return err
		}
	}
	formats, err := listStale(d, d.state, formatTempPrefix, now)
	for _, name := range formats {
		d.step("sweep staging")
		if err := d.state.Unlink(name); is(err, unix.EISDIR) { // it is in nobody's way
			_ = d.state.Rmdir(name)
		}
	}
	return err
}

// listStale returns the asides with a prefix in a directory that are nobody's any more. What has another name
// may be a later Mooring's.
func listStale(d *disk, dir beneath.Dir, prefix string, now time.Time) (names []string, err error) {
	err = beneath.Names(dir, func(name string) error {
		aside, ok := strings.CutPrefix(name, prefix)
		if _, _, ours := cutNonce(aside); !ok || !ours {
			return nil
		}
		st, err := dir.Stat(name)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		if now.Sub(time.Unix(st.Mtim.Unix())) > staleTempAge || d.isFromEarlierRun(aside) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// removeSharedTemp removes one file, or a directory with little in it. It is renamed first: whoever prepares it
// may rename it into its place at any moment, and may have done so when the answer to that was lost. What is
// in its place is not to be touched.
func (d *disk) removeSharedTemp(name string) error {
	mine := d.stagingName()
	if err := d.staging.Rename(name, d.staging, mine); err != nil {
		return ignore(err, unix.ENOENT)
	}
	return removeTemp(d, mine)
}

// removeTemp is sweepAside of what nobody else knows the name of.
func removeTemp(d *disk, name string) error {
	aside, err := d.staging.Resolve(name)
	if is(err, unix.ENOTDIR) {
		return ignore(d.staging.Unlink(name), unix.ENOENT)
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer aside.Close()
	if err := removeAll(aside, 2); err != nil {
		return err
	}
	return ignore(d.staging.Rmdir(name), unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// removeAll removes what is in a directory of ours, to a depth: there is little in it.
func removeAll(d beneath.Dir, depth int) error {
	dirs := map[string]bool{}
	err := beneath.Entries(d, func(name string, isDir bool) error {
		dirs[name] = isDir
		return nil
	})
	if err != nil {
		return ignore(err, unix.ESTALE)
	}
	for name, isDir := range dirs {
		if !isDir {
			_ = d.Unlink(name)
			continue
		}
		if in, err := d.Resolve(name); err == nil && depth > 0 {
			err = removeAll(in, depth-1)
			in.Close()
			if err != nil {
				return err
			}
		}
		_ = d.Rmdir(name)
	}
	return nil
}

// Close closes the share. It does not unmount it.
func (s *Share) Close() {
	for _, d := range s.directories() {
		if *d >= 0 {
			d.Close()
		}
	}
	if s.state >= 0 {
		s.state.Close()
	}
	if s.root >= 0 {
		s.root.Close()
	}
}

// Definition returns what the registry said of the share when it was opened.
func (s *Share) Definition() volume.Share { return s.def }

// Lease returns how long what another controller has begun is left to it.
func (s *Share) Lease() time.Duration { return s.opt.Lease }

// Lost reports whether an operation found that what is mounted is not the share any more, or it
// may have been laid out since: it has to be mounted anew.
func (s *Share) Lost() bool { return s.lost.Load() || s.Identity.mayBeLaidOut() }

// MarkLost has the share mounted anew.
func (s *Share) MarkLost() { s.lost.Store(true) }

// Initialized reports whether the share has been laid out.
func (s *Share) Initialized() bool { return s.Volumes.dir != beneath.None }

// WrapError gives an error of work on the share that was done elsewhere its kind and advice.
func (s *Share) WrapError(what string, err error) error {
	s.wrapError(&err, "%s", what)
	return err
}

// Space asks the server how much there is and how much of it is free, in bytes and inodes.
func (s *Share) Space(ctx context.Context) (space volume.Space, err error) {
	defer s.wrapError(&err, "ask for its space")
	if err := ctx.Err(); err != nil {
		return volume.Space{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.root), &st); err != nil {
		return volume.Space{}, err
	}
	return volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree), nil
}

// Now returns the time by the server's clock, by which alone it is told what is due.
func (s *Share) Now(ctx context.Context) (now time.Time, err error) {
	defer s.wrapError(&err, "ask for the time")
	if err := s.checkUsable(ctx); err != nil {
		return time.Time{}, err
	}
	return s.now()
}
