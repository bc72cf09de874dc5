// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// ReturnDelegation makes the client return its delegation of d. A server recalls no delegation from an
// NFSv4 client for the client's own changes, and all mounts of a machine are one client (RFC 8881, section
// 10.2). Linux also keeps using a delegation after its lease has expired. Both hide changes in d from every
// request. A change of d's attributes makes the client return the delegation, so ReturnDelegation sets the
// time of the last access to its cached value; an outdated value does no harm. That costs one round trip.
// The client returns the delegation even if the change is not permitted, but not on a file system that is
// mounted read-only.
func ReturnDelegation(d Dir) error {
	st, err := d.StatSelf()
	if err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, {Nsec: unix.UTIME_OMIT}}
	err = unix.UtimesNanoAt(int(d), "", times, unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return pathError("set the time of", ".", err)
}

// ResolveCurrent opens the directory at path under d, as [Dir.Resolve] does. Each directory on the way is
// the one that has that name on the server now. That costs a GETATTR, a SETATTR and a LOOKUP for each.
//
// Resolve may open another one for as long as the client has a delegation of it: for the rename of a
// directory a server recalls the delegations of the old and the new parent, but not that of the directory
// itself (Linux: vfs_rename), and Linux does not look up the name of a directory that is delegated to it
// (nfs_do_lookup_revalidate).
func ResolveCurrent(d Dir, path string) (Dir, error) {
	at, err := d.Resolve("")
	if err != nil || path == "" {
		return at, err
	}
	err = ReturnDelegation(at)
	for name := range strings.SplitSeq(path, "/") {
		if err != nil {
			break
		}
		var next Dir
		next, err = resolveCurrentName(at, name)
		at.Close()
		at = next
	}
	if err != nil && at != None {
		at.Close()
		at = None
	}
	return at, err
}

// resolveCurrentName is ResolveCurrent for one name, in a directory that is not delegated.
func resolveCurrentName(at Dir, name string) (Dir, error) {
	if err := at.Refresh(); err != nil {
		return None, err
	}
	if err := askForName(at, name); err != nil {
		return None, err
	}
	return at.Resolve(name)
}

// RmdirCurrent removes the empty directory name from at, if it is a directory on the server. ENOTDIR: it is
// something else, and is kept.
//
// Rmdir does not tell the server which of them it means. NFSv4 has one operation to remove a file and a
// directory, without a field for the type (REMOVE: RFC 7530, section 16.26; RFC 8881, section 18.25). The
// client checks the type first, but its cache may show a directory although the name is a file by now: then
// the file is removed. So for a name that may have become a file, RmdirCurrent asks the server first. No
// other process may give the name to a file at the same time: the file could be removed between the check
// and the call.
func RmdirCurrent(at Dir, name string) error {
	if err := ReturnDelegation(at); err != nil {
		return err
	}
	d, err := resolveCurrentName(at, name)
	if err != nil {
		return err
	}
	d.Close()
	return at.Rmdir(name)
}

// askForName makes the client look up a name on the server, although it may have a delegation of the directory
// that it has cached under that name. ENOENT: there is nothing of that name.
func askForName(at Dir, name string) error {
	fd, err := openat(int(at), name, unix.O_PATH|unix.O_DIRECTORY)
	switch cached := Dir(fd); err {
	case nil:
		defer cached.Close()
		if err := ReturnDelegation(cached); err != nil && !errors.Is(err, unix.ESTALE) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	case unix.ENOTDIR, unix.ELOOP, unix.ESTALE: // for ESTALE see lookUp
	default:
		return pathError("open", name, err)
	}
	return lookupOnServer(at, name)
}

// lookupOnServer makes the client look up a name on the server. The client does that before it creates
// something that must not exist yet (LOOKUP_EXCL), and a hard link to a directory is never created: see
// link(2), EPERM. Any error except those of such a link means that the server was not asked or did not answer.
func lookupOnServer(at Dir, name string) error {
	err := at.Link(".", at, name)
	for _, answered := range []error{unix.EEXIST, unix.EPERM, unix.EACCES, unix.EROFS} {
		if errors.Is(err, answered) {
			return nil
		}
	}
	return err
}
