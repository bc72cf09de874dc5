// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mooring-csi/mooring/pkg/child"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// ChildCommand is the hidden subcommand by which the driver runs itself to ask.
const ChildCommand = "ask"

// Worker asks by a process of this program that stays, so that a server which does not answer
// costs a process that can be killed and not a thread that cannot, and one that does answer costs
// none. The process has this one's mounts, and no capabilities.
type Worker struct {
	*child.Workers
}

// NewWorker returns a Worker whose process is not there yet.
func NewWorker() Worker {
	return Worker{child.NewWorkers(child.Command{Name: "/proc/self/exe", Args: []string{ChildCommand}, Unprivileged: true})}
}

// statRequest is what the process is to look at.
type statRequest struct {
	Path  string `json:"path"`
	Write bool   `json:"write,omitempty"` // and whether one can write there
}

// Query is an Asker.
func (w Worker) Query(ctx context.Context, m Mount, began func()) (MountStatus, error) {
	var a MountStatus
	answer, err := w.Do(ctx, child.Call{Server: m.Server, Superblock: m.Superblock, Request: statRequest{m.Path, !m.ReadOnly}}, began)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return a, err
	case errors.Is(err, child.ErrStuck):
		return a, volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer: %w", m.Path, err)
	case err != nil:
		return a, volume.Errorf(volume.ErrBusy, "%s: not asked: %w: try again", m.Path, err)
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("ask how %s is: %w", m.Path, err)
	}
	return a, nil
}

// Child is what the process does.
func Child(in io.Reader, out io.Writer) error {
	return child.Serve(in, out, func(l statRequest) (any, error) {
		var a MountStatus
		start := time.Now()
		err := l.stat(&a)
		a.Latency = time.Since(start)
		if err != nil {
			var ok bool
			if a.Errno, ok = err.(unix.Errno); !ok {
				return nil, err
			}
		}
		return a, nil
	})
}

func (l statRequest) stat(a *MountStatus) error {
	path := l.Path
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return err
	}
	// A directory that was removed may still answer, with nothing that could be done in it.
	var x unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_NLINK, &x); err != nil {
		return err
	}
	if x.Nlink == 0 {
		return unix.ESTALE
	}
	a.Space = volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree)
	if !l.Write {
		return nil
	}
	// To take an attribute away that is not there changes nothing, not even a time, and a file system
	// that takes no changes refuses it before it looks. Of an ext4 that an error has made read-only
	// ACCESS does not tell: Linux 6.12 and newer do not set SB_RDONLY then (commit d3476f3dad4a). It is one
	// round trip, and only in health.
	switch err := unix.Removexattr(path, absentAttribute()); err {
	case unix.EROFS:
		a.ReadOnly = true
		return nil
	case unix.EIO:
		return err
	case unix.ENODATA:
		return nil
	}
	// NFS before 4.2 has no attributes, and not every server has them.
	if unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil {
		return nil
	}
	// An export that is read-only and a root who is nobody look alike (RFC 8881, section 18.1).
	// To set a time to what it is changes nothing in the first case, which says EROFS, nor in
	// the second. To set the mode could take the set-group-ID bit away (chmod(2)). Nobody could
	// be the owner, and change the ctime, only where the owner may not write either.
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Mode&unix.S_IWUSR == 0 {
		return err
	}
	a.ReadOnly = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{s.Atim, {Nsec: unix.UTIME_OMIT}}, 0) == unix.EROFS
	return nil
}

// absentAttribute returns the name of an extended attribute that no file has.
func absentAttribute() string { return "user.mooring." + rand.Text() }
