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

// DefaultLease is how long other controllers leave an unfinished creation to its maker.
const DefaultLease = 20 * time.Second

// Options are common to all shares of one process.
type Options struct {
	// Maker identifies this instance of the driver across restarts. No two instances may have the
	// same.
	Maker string
	// Run identifies this process among the runs of the Maker. "": each opened share is a run.
	Run string
	// Lease is how long an unfinished operation of another instance is left alone. 0: DefaultLease.
	// Safety does not depend on it: it keeps two controllers from undoing each other's work.
	Lease time.Duration
	// ReadOnly opens shares only for reading: nothing is laid out or removed.
	ReadOnly bool
	// Initialize allows Open to lay a share out (Identity.LayOut), because something will be created
	// there. Without it a share that has not been laid out is open, with nothing on it.
	Initialize bool
	// AnyID opens shares whatever id the registry requires: to show the id, or to change it.
	AnyID bool
	// OnInitialized, if set, is called when this process has laid a share out.
	OnInitialized func(def volume.Share, id string)
	// Step, if set, is called before each change on the share, with the name of the step. Tests
	// stop the process there.
	Step func(what string)

	// beforeRename, if set, is called before a directory is renamed, and may refuse it: tests
	// simulate project quotas with it.
	beforeRename func(from beneath.Dir, name string, to beneath.Dir, as string) error
	// linkErr, if set, is the error of each link(2): tests simulate servers without hard links with
	// it.
	linkErr error
}

// Share is an open share. Its parts give access to what Mooring keeps there, and may be used
// concurrently. All of them access the file system, and block until it answers.
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

// Open opens the share that is mounted at path. If it has been laid out, Open creates those of
// Mooring's directories that are missing, and removes from staging, and of unfinished formats, what
// an earlier run of this instance has left, or any process an hour ago. With opt.ReadOnly it
// changes nothing. ErrPrecondition: the share requires a feature that this program does not know,
// or has another id than def.
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
	d.handles.close = s.closeHandles
	d.handles.retain()
	s.claims = &claims{disk: d, dir: beneath.None}
	s.claims.parents = &parents{disk: d, index: beneath.None, claims: s.claims, lastUse: map[string]time.Time{}, listed: map[string]beneath.Node{}}
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

// directories returns the names of Mooring's own directories in .mooring.
func (s *Share) directories() map[string]*beneath.Dir {
	return map[string]*beneath.Dir{
		"volumes": &s.Volumes.dir, "claims": &s.claims.dir, "parents": &s.claims.parents.index,
		"snapshots": &s.Snapshots.dir, "groups": &s.Groups.dir, "staging": &s.staging,
		"jobs": &s.Jobs.dir, "trash": &s.Trash.dir,
	}
}

// staleTempAge is the age after which a temporary file in staging is considered abandoned.
const staleTempAge = time.Hour

// sweepStaging removes what interrupted processes have left in staging, and unfinished formats, by
// the server's clock. If the process still runs, its rename from there fails.
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
		if err := d.state.Unlink(name); is(err, unix.EISDIR) { // other errors are harmless
			_ = d.state.Rmdir(name)
		}
	}
	return err
}

// listStale returns the abandoned temporary names with a prefix in a directory. It skips other
// names: a later Mooring may have made them.
func listStale(d *disk, dir beneath.Dir, prefix string, now time.Time) (names []string, err error) {
	err = beneath.Names(dir, func(name string) error {
		temp, ok := strings.CutPrefix(name, prefix)
		if _, _, ours := cutNonce(temp); !ok || !ours {
			return nil
		}
		st, err := dir.Stat(name)
		if err != nil {
			return ignore(err, unix.ENOENT)
		}
		if now.Sub(time.Unix(st.Mtim.Unix())) > staleTempAge || d.isFromEarlierRun(temp) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// removeSharedTemp removes one temporary file, or a small directory, of another process. It renames
// it first: its maker may rename it into its place at any moment, or may have done so with the
// answer lost. What is in its place must not be changed.
func (d *disk) removeSharedTemp(name string) error {
	mine := d.stagingName()
	if err := d.staging.Rename(name, d.staging, mine); err != nil {
		return ignore(err, unix.ENOENT)
	}
	return removeTemp(d, mine)
}

// removeTemp removes a temporary file or a small directory whose name no other process knows.
func removeTemp(d *disk, name string) error {
	temp, err := d.staging.Resolve(name)
	if is(err, unix.ENOTDIR) {
		return ignore(d.staging.Unlink(name), unix.ENOENT)
	}
	if err != nil {
		return ignore(err, unix.ENOENT)
	}
	defer temp.Close()
	if err := removeAll(temp, 2); err != nil {
		return err
	}
	return ignore(d.staging.Rmdir(name), unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST)
}

// removeAll removes the content of a small directory of Mooring's, down to a depth.
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
		if err := removeSubdirectory(d, name, depth); err != nil {
			return err
		}
	}
	return nil
}

func removeSubdirectory(parent beneath.Dir, name string, depth int) error {
	d, err := parent.Resolve(name)
	if err != nil || depth == 0 {
		closeAll(d)
		_ = parent.Rmdir(name)
		return nil
	}
	defer d.Close()
	if err := removeAll(d, depth-1); err != nil {
		return err
	}
	_ = parent.Rmdir(name)
	return nil
}

// Close closes the share, as soon as no Pending needs it any more. It does not unmount it: a mount that is in use
// can only be detached.
func (s *Share) Close() { s.handles.release() }

func (s *Share) closeHandles() {
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

// Definition returns the registry's definition of the share at the time when it was opened.
func (s *Share) Definition() volume.Share { return s.def }

// Lease returns how long an unfinished operation of another controller is left alone.
func (s *Share) Lease() time.Duration { return s.opt.Lease }

// Lost reports whether the share is lost: it has to be mounted again. An operation found that
// something else is mounted, or that this client's cache is outdated, or another process may have
// laid the share out since.
func (s *Share) Lost() bool { return s.lost.Load() || s.Identity.mayBeLaidOut() }

// MarkLost makes Lost return true.
func (s *Share) MarkLost() { s.lost.Store(true) }

// Initialized reports whether the share has been laid out.
func (s *Share) Initialized() bool { return s.Volumes.dir != beneath.None }

// WrapError adds the share, the operation, the kind and the remedy to an error of another package's
// work on the share.
func (s *Share) WrapError(what string, err error) error {
	s.wrapError(&err, "%s", what)
	return err
}

// Space returns the total and the free space of the share, in bytes and inodes, as the server
// reports them (statfs(2)).
func (s *Share) Space(ctx context.Context) (space volume.Space, err error) {
	defer s.wrapError(&err, "read its free space")
	if err := ctx.Err(); err != nil {
		return volume.Space{}, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(s.root), &st); err != nil {
		return volume.Space{}, err
	}
	return volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree), nil
}

// CheckWritable returns an error if nothing can be written on s, which must not be open read-only: it creates
// an empty file and removes it. If s has not been laid out, it only asks the server for the permission (access(2)).
func CheckWritable(ctx context.Context, s *Share) (err error) {
	defer s.wrapError(&err, "check whether it is writable")
	if !s.Initialized() {
		return unix.Faccessat(int(s.root), ".", unix.W_OK, 0)
	}
	if err := s.checkUsable(ctx); err != nil {
		return err
	}
	_, err = s.now()
	return err
}

// Now returns the time by the server's clock, the one that decides what is due: it creates a file
// in staging, reads its time, and removes it.
func (s *Share) Now(ctx context.Context) (now time.Time, err error) {
	defer s.wrapError(&err, "read the server's time")
	if err := s.checkUsable(ctx); err != nil {
		return time.Time{}, err
	}
	return s.now()
}
