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

// ChildCommand is the hidden subcommand with which the driver runs itself as the worker's process.
const ChildCommand = "ask"

// Worker queries mounts in a long-running process of this program, so that a server that does not
// answer blocks a process that can be killed, and not a thread that cannot; and a server that
// answers costs no new process. The process has this one's mounts and no capabilities.
type Worker struct {
	*child.Workers
}

// NewWorker returns a Worker that has not started its process.
func NewWorker() Worker {
	return Worker{child.NewWorkers(child.Command{Name: "/proc/self/exe", Args: []string{ChildCommand}, Unprivileged: true})}
}

// statRequest tells the process which path to query.
type statRequest struct {
	Path  string `json:"path"`
	Write bool   `json:"write,omitempty"` // also check for writes
}

// Query is a QueryFunc.
func (w Worker) Query(ctx context.Context, m Mount, began func()) (MountStatus, error) {
	var a MountStatus
	answer, err := w.Do(ctx, child.Call{Server: m.Server, Superblock: m.Superblock, Request: statRequest{m.Path, !m.ReadOnly}}, began)
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return a, err
	case errors.Is(err, child.ErrStuck):
		return a, volume.Errorf(volume.ErrUnavailable, "%s: its server does not answer: %w", m.Path, err)
	case err != nil:
		return a, volume.Errorf(volume.ErrBusy, "%s: not queried: %w: try again", m.Path, err)
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return a, fmt.Errorf("query %s: %w", m.Path, err)
	}
	return a, nil
}

// Child is the main function of the process.
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
	// A removed directory may still answer, although no operation in it can succeed.
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
	// The removal of an attribute that does not exist changes nothing, not even a time, and a read-only
	// file system refuses it before it looks the attribute up. ACCESS does not detect an ext4 that is
	// read-only after an error: Linux 6.12 and newer do not set SB_RDONLY then (commit d3476f3dad4a).
	// This costs one round trip, and only health checks do it.
	switch err := unix.Removexattr(path, absentAttribute()); err {
	case unix.EROFS:
		a.ReadOnly = true
		return nil
	case unix.EIO:
		return err
	case unix.ENODATA:
		return nil
	}
	// NFS before 4.2 has no extended attributes, and not every server supports them.
	if unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil {
		return nil
	}
	// ACCESS does not distinguish a read-only export from a squashed root (RFC 8881, section 18.1). So
	// set a time to its current value: a read-only export returns EROFS, and a squashed root gets
	// another error; nothing changes in both cases. Setting the mode could clear the set-group-ID bit
	// (chmod(2)). If the squashed user is the owner, this changes the ctime; but then the mode denies the
	// owner to write, and the next check returns.
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil || s.Mode&unix.S_IWUSR == 0 {
		return err
	}
	a.ReadOnly = unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{s.Atim, {Nsec: unix.UTIME_OMIT}}, 0) == unix.EROFS
	return nil
}

// absentAttribute returns the name of an extended attribute that no file has.
func absentAttribute() string { return "user.mooring." + rand.Text() }
