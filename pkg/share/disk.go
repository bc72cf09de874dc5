// SPDX-License-Identifier: Apache-2.0

package share

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// maxRecord is the maximum size of a record, in bytes. It is far more than a record needs.
const maxRecord = 64 << 10

// retries is how often a step that lost a race is tried again: for example, a directory was removed between
// opening it and working in it.
const retries = 5

// disk is what all parts of an open share have in common: its root, its options, and how it reports errors.
type disk struct {
	def           volume.Share
	opt           Options
	opened        time.Time
	lost          atomic.Bool // the mount is not the share any more
	countsSubdirs bool        // the link count of a directory includes its subdirectories
	// Interrupted is set before calls on the share are ended with EIO: its server is away, and its disk
	// has not failed.
	Interrupted atomic.Bool
	// noLinks: the server has no hard links, as a link has shown.
	noLinks atomic.Bool

	root    beneath.Dir // of the share
	state   beneath.Dir // .mooring
	staging beneath.Dir

	handles   handles
	formatted bool // the share has been laid out
	id        atomic.Pointer[string]
}

// handles are the open directories of a share. Its Share uses them, and each Pending: that may outlive the mount, and
// a closed descriptor's number may be another share's by then.
type handles struct {
	users atomic.Int32
	close func() // called after the last user
}

func (h *handles) retain() { h.users.Add(1) }

func (h *handles) release() {
	if h.users.Add(-1) == 0 {
		h.close()
	}
}

// step is called before each change on the share.
func (d *disk) step(what string) {
	if d.opt.Step != nil {
		d.opt.Step(what)
	}
}

// isEarlierRun reports whether an earlier run of this instance wrote a record: nobody works any more on
// what it began.
func (d *disk) isEarlierRun(maker, run string) bool {
	return maker == d.opt.Maker && run != d.opt.Run
}

// stagingName returns a name in staging that nobody else uses. It contains this instance and its run.
func (d *disk) stagingName() string {
	return strings.Join([]string{d.opt.Maker, d.opt.Run, volume.NewNonce()}, ".")
}

// isFromEarlierRun reports whether an earlier run of this instance made a name in staging.
func (d *disk) isFromEarlierRun(name string) bool {
	isOwn := strings.HasPrefix(name, d.opt.Maker+".")
	return isOwn && !strings.HasPrefix(name, d.opt.Maker+"."+d.opt.Run+".")
}

// now returns the time by the server's clock. On a share that is open read-only it returns the local time,
// because nothing is decided by it there.
func (d *disk) now() (time.Time, error) {
	if d.opt.ReadOnly {
		return time.Now(), nil
	}
	aside := d.stagingName()
	f, err := beneath.Write(d.staging, aside, unix.O_EXCL, nil)
	if err != nil {
		return time.Time{}, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	_ = f.Close()
	_ = d.staging.Unlink(aside)
	return time.Unix(st.Ctim.Unix()), err
}

// linkOrCreate gives the file name in from another name, create-once. If the server has no hard links, it
// makes an empty file, and before it a second one beside it, named owner, that identifies the owner.
func (d *disk) linkOrCreate(from beneath.Dir, name string, to beneath.Dir, newName, owner string) error {
	err := hardLink(d, from, name, to, newName)
	if !errors.Is(err, errNoLinks) {
		return err
	}
	if owner != "" {
		if err := touch(to, owner, 0); err != nil {
			return err
		}
	}
	return touch(to, newName, unix.O_EXCL)
}

// touch makes an empty file. With O_EXCL in flags the file must not exist.
func touch(d beneath.Dir, name string, flags int) error {
	f, err := d.Open(name, unix.O_CREAT|unix.O_WRONLY|flags)
	if err != nil {
		return err
	}
	return f.Close()
}

// createFile writes a new file, synced. EEXIST: the file exists.
func createFile(d beneath.Dir, name string, data []byte) error {
	f, err := beneath.Write(d, name, unix.O_EXCL, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeFile writes a new file under a name, or in a directory, that nobody else uses. It works without
// O_EXCL, which costs one more round trip (RFC 8881, section 18.16.3).
func writeFile(d beneath.Dir, name string, data []byte) error {
	f, err := beneath.Write(d, name, 0, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// remountInterval is the minimum time between remounts that requestRemount asks for.
const remountInterval = 5 * time.Second

// requestRemount lets the share be mounted again, because this client's cache may be stale: a new mount has
// no cache. Linux 7 shows a directory that another client has renamed for as long as it has a delegation of
// it (RFC 8881, section 10.9), whatever it is asked.
func (d *disk) requestRemount() {
	if time.Since(d.opened) > remountInterval {
		d.lost.Store(true)
	}
}

// list calls each for every name in a directory of .mooring, as the server has it now: another controller
// may work on this machine, too.
func (d *disk) list(dir beneath.Dir, each func(name string) error) error {
	if err := d.undelegate(dir); err != nil {
		return err
	}
	return beneath.Names(dir, each)
}

// undelegate is [beneath.ReturnDelegation], unless the share is open read-only.
func (d *disk) undelegate(dir beneath.Dir) error {
	if d.opt.ReadOnly || dir == beneath.None {
		return nil
	}
	return beneath.ReturnDelegation(dir)
}

// refreshPath lets the client ask the server for each name of a path. Its cache may have another directory.
func refreshPath(dir beneath.Dir, path string) error {
	d, err := beneath.ResolveCurrent(dir, path)
	if err != nil {
		return err
	}
	d.Close()
	return nil
}

// isStale reports whether the share itself is stale, and not only a file on it that another controller has
// removed.
func (d *disk) isStale() bool { return is(d.state.Refresh(), unix.ESTALE) }

// isAccessRefused reports whether the server refuses even the attributes of the share's own directory,
// which it gives to every client that it accepts.
func (d *disk) isAccessRefused() bool { return IsRefused(d.state.Refresh()) }

// shareError is an error that already names its share.
type shareError struct{ error }

func (e shareError) Unwrap() error { return e.error }

// wrapError adds the share and the operation to *err. It gives a system call's error its kind and, if there
// is one, its remedy. An error that has a kind keeps it and its text. Every exported method defers it.
func (d *disk) wrapError(err *error, format string, args ...any) {
	var named shareError
	if *err == nil || errors.As(*err, &named) {
		return
	}
	if volume.Kind(*err) != nil {
		*err = shareError{fmt.Errorf("share %s: %w", d.def, *err)}
		return
	}
	if d.Interrupted.Load() && is(*err, unix.EIO) {
		*err = unix.ETIMEDOUT
	}
	what := fmt.Sprintf(format, args...)
	advice, kind := classify(*err)
	if is(*err, unix.EACCES, unix.EPERM) && d.isAccessRefused() {
		advice = ": " + volume.AccessDeniedReason(d.def.MountOptions)
	}
	if is(*err, unix.ELOOP, unix.ENOTDIR, unix.EAGAIN) {
		d.requestRemount() // that file or link may have been replaced since, or this client's cache is outdated
	}
	if isMissing(*err) {
		if !d.isStale() {
			d.requestRemount()
			*err = shareError{volume.Errorf(volume.ErrBusy, "share %s: %s: %w: another client changed it at the same time: try again", d.def, what, *err)}
			return
		}
		d.lost.Store(true)
		advice, kind = classify(unix.ESTALE)
	}
	if kind == nil {
		*err = shareError{fmt.Errorf("share %s: %s: %w", d.def, what, *err)}
		return
	}
	*err = shareError{volume.Errorf(kind, "share %s: %s: %w%s", d.def, what, *err, advice)}
}

// IsTransient reports whether an operation that failed with err may succeed at the next try: the server or
// the network failed, a deadline passed, another process works on the same, or the cause is not known. What
// was begun is then left for a retry.
func IsTransient(err error) bool {
	switch volume.Kind(err) {
	case volume.ErrUnavailable, volume.ErrTimeout, volume.ErrBusy, nil:
		return true
	}
	return false
}

// classify returns the kind of a system call's error on a share, and the advice for it.
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
		return ": the server refuses access: most likely it maps root to nobody (root_squash) and the directory does not belong to nobody: export with no_root_squash, or make the export's directory writable for the one root is mapped to", volume.ErrRefused
	case unix.EKEYEXPIRED:
		return ": the Kerberos ticket has expired: get a new one; rpc.gssd gets that of this machine, with the key in /etc/krb5.keytab", volume.ErrRefused
	case unix.EROFS:
		return ": the share is read-only on the server: export it rw, or check with dmesg there whether its file system became read-only after a disk error", volume.ErrRefused
	case unix.ENOSPC:
		return ": no space or no inodes are left on the server: free some, or empty the trash", volume.ErrFull
	case unix.EDQUOT:
		return ": a quota on the server is used up: raise it, or free some", volume.ErrFull
	case unix.ESTALE:
		return ": the export was created again, or its disk is not mounted on the server or has errors: check dmesg there; the next attempt mounts the share again", volume.ErrUnavailable
	case unix.EIO: // with softerr a silent server is ETIMEDOUT (nfs(5))
		return ": the server reports an input/output error: its disk or file system has failed: check dmesg there", volume.ErrUnavailable
	case unix.EREMOTEIO: // Linux returns it for an NFSv4 error that it does not know (nfs4_stat_to_errno)
		return ": the server answers with an error that this NFS client does not know: most likely it is NFS-Ganesha before 9.11, mounted by NFS 4.1 or 4.2 from Linux 6.19 or newer (nfs-ganesha#1385): set nfsvers=4.0 for the share, or the kernel's nfsv4.directory_delegations=N on the nodes and the controller's machine, or run a newer Ganesha", volume.ErrUnavailable
	case unix.ETIMEDOUT, unix.ECONNREFUSED, unix.ECONNRESET, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return ": the server does not answer: check that it runs and that port 2049 is reachable from here", volume.ErrUnavailable
	case unix.EAGAIN: // see beneath.Dir.Resolve
		return ": another client has moved it, and this one is too busy to find it: try again", volume.ErrBusy
	case unix.ELOOP, unix.ENOTDIR:
		return ": a symbolic link or a file is where a directory must be: remove it on the server", volume.ErrPrecondition
	case unix.EXDEV:
		return ": another file system is mounted there on the server, or a project quota forbids the move: register that file system as a share of its own; for project quotas see docs/operate.md", volume.ErrPrecondition
	case unix.ENAMETOOLONG, unix.EINVAL:
		return ": the server does not accept that name: choose another", volume.ErrInvalid
	}
	return "", nil
}

// is reports whether err is one of the errnos.
func is(err error, numbers ...unix.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// ignore returns nil if err is one of the errnos: the caller treats it as success.
func ignore(err error, numbers ...unix.Errno) error {
	if is(err, numbers...) {
		return nil
	}
	return err
}

// isMissing reports whether a name, or the directory that should contain it, does not exist, or not any
// more: a directory that another client has removed is stale here.
func isMissing(err error) bool { return is(err, unix.ENOENT, unix.ESTALE) }

// isNameTaken reports whether a rename or link failed because something else has the name. The errno
// differs between files and directories, and between servers (RFC 8881, section 18.26.3 has NFS4ERR_EXIST
// for all).
func isNameTaken(err error) bool {
	return is(err, unix.EEXIST, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR)
}

// busy returns ErrBusy for a step that another process has overtaken.
func busy(format string, args ...any) error {
	return volume.Errorf(volume.ErrBusy, format+": try again", args...)
}

// firstError returns the first of two errors that is not nil.
func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
