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

// maxRecord is far more than a record can be, in bytes.
const maxRecord = 64 << 10

// retries is how often a step is tried again that lost a race: a directory was removed
// between opening it and working in it.
const retries = 5

// disk is what all parts of an open share have in common: where it is, how it was opened, and
// how its errors are told.
type disk struct {
	def           volume.Share
	opt           Options
	opened        time.Time
	lost          atomic.Bool // what is mounted is not the share any more
	countsSubdirs bool        // a directory's number of links tells how many others are in it
	// noLinks: the server was found to have no hard links.
	noLinks atomic.Bool

	root    beneath.Dir // of the share
	state   beneath.Dir // .mooring
	staging beneath.Dir

	formatted bool // it has been laid out
	id        atomic.Pointer[string]
}

// step is called before each change on the share.
func (d *disk) step(what string) {
	if d.opt.Step != nil {
		d.opt.Step(what)
	}
}

// isEarlierRun reports whether a record was written by an earlier run of this instance: nobody
// works on what it began.
func (d *disk) isEarlierRun(maker, run string) bool {
	return maker == d.opt.Maker && run != d.opt.Run
}

// stagingName returns a name in staging that nobody else uses. It tells whose it is.
func (d *disk) stagingName() string {
	return strings.Join([]string{d.opt.Maker, d.opt.Run, volume.NewNonce()}, ".")
}

// isFromEarlierRun reports whether a name in staging is an aside of an earlier run of this instance.
func (d *disk) isFromEarlierRun(name string) bool {
	ours := strings.HasPrefix(name, d.opt.Maker+".")
	return ours && !strings.HasPrefix(name, d.opt.Maker+"."+d.opt.Run+".")
}

// now returns the time by the server's clock. A share that is open for reading only decides
// nothing by it, and takes the local clock.
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

// linkOrCreate gives the file name in from another name, create-once. Where the server has no hard
// links an empty file is made, and before it one beside it that tells whose it is.
func (d *disk) linkOrCreate(from beneath.Dir, name string, to beneath.Dir, as, owner string) error {
	err := hardLink(d, from, name, to, as)
	if !errors.Is(err, errNoLinks) {
		return err
	}
	if owner != "" {
		if err := touch(to, owner, 0); err != nil {
			return err
		}
	}
	return touch(to, as, unix.O_EXCL)
}

// touch makes an empty file. O_EXCL in flags: it must not exist.
func touch(d beneath.Dir, name string, flags int) error {
	f, err := d.Open(name, unix.O_CREAT|unix.O_WRONLY|flags)
	if err != nil {
		return err
	}
	return f.Close()
}

// createFile writes a new file, synced. EEXIST: it exists.
func createFile(d beneath.Dir, name string, data []byte) error {
	f, err := beneath.Write(d, name, unix.O_EXCL, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// writeFile writes a new file under a name, or in a directory, that nobody else uses: without
// O_EXCL, which costs a round trip more (RFC 8881, section 18.16.3).
func writeFile(d beneath.Dir, name string, data []byte) error {
	f, err := beneath.Write(d, name, 0, data)
	if err != nil {
		return err
	}
	return f.Close()
}

// remountInterval is how often a share is mounted anew only because of a doubt.
const remountInterval = 5 * time.Second

// requestRemount has the share mounted anew, because what it shows may be no more than what this
// client remembers: a new mount remembers nothing. Linux 7 goes on showing a directory that
// another client has renamed for as long as it has a delegation of it (RFC 8881, section
// 10.9), whatever it is asked.
func (d *disk) requestRemount() {
	if time.Since(d.opened) > remountInterval {
		d.lost.Store(true)
	}
}

// list calls each for every name in a directory of .mooring, as the server has it now: another
// controller may be at work on this machine, too.
func (d *disk) list(dir beneath.Dir, each func(name string) error) error {
	if err := d.undelegate(dir); err != nil {
		return err
	}
	return beneath.Names(dir, each)
}

// undelegate is [beneath.ReturnDelegation], unless the share is open for reading only.
func (d *disk) undelegate(dir beneath.Dir) error {
	if d.opt.ReadOnly || dir == beneath.None {
		return nil
	}
	return beneath.ReturnDelegation(dir)
}

// refreshPath has the client ask the server for each name of a path, of which it may remember another directory.
func refreshPath(dir beneath.Dir, path string) error {
	d, err := beneath.ResolveCurrent(dir, path)
	if err == nil {
		d.Close()
	}
	return err
}

// isStale reports whether it is the share itself that is stale, and not one file on it that
// another controller has removed.
func (d *disk) isStale() bool { return is(d.state.Refresh(), unix.ESTALE) }

// isAccessRefused reports whether the server does not even tell us what the share's own directory is, as it
// does to everybody whom it believes.
func (d *disk) isAccessRefused() bool { return IsRefused(d.state.Refresh()) }

// shareError is an error that names its share already.
type shareError struct{ error }

func (e shareError) Unwrap() error { return e.error }

// wrapError says of *err on which share it happened and what was being done, and gives what the
// system said its kind and, where there is one, its remedy. An error that has a kind keeps it
// and its words. It is deferred at the top of each exported step.
func (d *disk) wrapError(err *error, format string, args ...any) {
	var told shareError
	if *err == nil || errors.As(*err, &told) {
		return
	}
	if volume.Kind(*err) != nil {
		*err = shareError{fmt.Errorf("share %s: %w", d.def, *err)}
		return
	}
	what := fmt.Sprintf(format, args...)
	advice, kind := classify(*err)
	if is(*err, unix.EACCES, unix.EPERM) && d.isAccessRefused() {
		advice = ": " + volume.AccessDeniedReason(d.def.MountOptions)
	}
	if is(*err, unix.ELOOP, unix.ENOTDIR) {
		d.requestRemount() // what stands in the way may have been replaced since
	}
	if isMissing(*err) {
		if !d.isStale() {
			d.requestRemount()
			*err = shareError{volume.Errorf(volume.ErrBusy, "share %s: %s: %w: it was changed from elsewhere at the same time: try again", d.def, what, *err)}
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

// IsTransient reports whether an error may not be there at the next try: the server or the
// network failed, time was up, another process was at it, or the cause is not known. What was
// begun is then left for a retry.
func IsTransient(err error) bool {
	switch volume.Kind(err) {
	case volume.ErrUnavailable, volume.ErrTimeout, volume.ErrBusy, nil:
		return true
	}
	return false
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
	case unix.EKEYEXPIRED:
		return ": the Kerberos ticket has ended: get a new one; for this machine rpc.gssd does, with the key in /etc/krb5.keytab", volume.ErrRefused
	case unix.EROFS:
		return ": the share is read-only on the server: export it rw, or look there with dmesg whether its file system went read-only after an error of its disk", volume.ErrRefused
	case unix.ENOSPC:
		return ": no space or no inodes are left on the server: free some, or empty the trash", volume.ErrFull
	case unix.EDQUOT:
		return ": a quota on the server is used up: raise it, or free some", volume.ErrFull
	case unix.ESTALE:
		return ": the export was made anew, or its disk is not mounted on the server or gives errors: look there with dmesg; the share is mounted again at the next try", volume.ErrUnavailable
	case unix.EIO: // softerr has ETIMEDOUT for a server that is silent (nfs(5))
		return ": the server reports an input/output error: its disk or file system has failed: look there with dmesg", volume.ErrUnavailable
	case unix.EREMOTEIO: // Linux has it for an NFSv4 error that it does not know (nfs4_stat_to_errno)
		return ": the server answers with an error that this NFS client does not know: most likely it is NFS-Ganesha before 9.11, mounted by NFS 4.1 or 4.2 from Linux 6.19 or newer (nfs-ganesha#1385): set nfsvers=4.0 for the share, or the kernel's nfsv4.directory_delegations=N on the nodes and the controller's machine, or run a newer Ganesha", volume.ErrUnavailable
	case unix.ETIMEDOUT, unix.ECONNREFUSED, unix.ECONNRESET, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return ": the server does not answer: check that it runs and that port 2049 is reachable from here", volume.ErrUnavailable
	case unix.ELOOP, unix.ENOTDIR:
		return ": a symbolic link or a file stands where a directory is to be: remove it on the server", volume.ErrPrecondition
	case unix.EXDEV:
		return ": another file system is mounted there on the server, or a project quota forbids to move it: register that file system as a share of its own; docs/operate.md tells of project quotas", volume.ErrPrecondition
	case unix.ENAMETOOLONG, unix.EINVAL:
		return ": the server does not take that name: choose another", volume.ErrInvalid
	}
	return "", nil
}

// is reports whether err is one of the numbers.
func is(err error, numbers ...unix.Errno) bool {
	for _, n := range numbers {
		if errors.Is(err, n) {
			return true
		}
	}
	return false
}

// ignore returns nil for an error that is as good as success.
func ignore(err error, numbers ...unix.Errno) error {
	if is(err, numbers...) {
		return nil
	}
	return err
}

// isMissing reports whether a name, or the directory that it was looked for in, does not exist
// (any more): a directory that another client removed is stale here.
func isMissing(err error) bool { return is(err, unix.ENOENT, unix.ESTALE) }

// isNameTaken reports whether a rename or link failed because something else has the name. Which
// number says so differs between a file and a directory, and between servers (RFC 8881,
// section 18.26.3 has NFS4ERR_EXIST for all).
func isNameTaken(err error) bool {
	return is(err, unix.EEXIST, unix.ENOTEMPTY, unix.EISDIR, unix.ENOTDIR)
}

// busy is the error of a step that another process has overtaken.
func busy(format string, args ...any) error {
	return volume.Errorf(volume.ErrBusy, format+": try again", args...)
}

// firstError returns the first of two errors that there is.
func firstError(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
