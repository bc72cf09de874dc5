// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// ReturnDelegation has the client give back what the server has delegated of d. A server recalls nothing from
// an NFSv4 client for what that client does itself, and all mounts of a machine are one client (RFC 8881,
// section 10.2); and Linux goes on believing in what was delegated before its lease expired. That hides
// what is changed in d, whatever is asked. A change of d's attributes has the client give it back; so the
// time of d's last access is set to what it is, as far as the client knows, which does no harm where the
// client knows an old one. That costs one round trip. Where it is not permitted, all is given back the
// same; on a file system that is mounted read-only it is not.
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

// ResolveCurrent opens the directory at path beneath d, as [Dir.Resolve] does, and each directory on the way is
// the one that the server has by that name now. That costs a GETATTR, a SETATTR and a LOOKUP for each.
//
// Resolve may open another one, for as long as the client has a delegation of that: to rename a directory
// has a server recall those of the directories it is renamed from and to, and not its own (Linux:
// vfs_rename), and Linux looks up no name of what it has a delegation of (nfs_do_lookup_revalidate).
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

// current is ResolveCurrent for one name, in a directory of which nothing is delegated.
func resolveCurrentName(at Dir, name string) (Dir, error) {
	if err := at.Refresh(); err != nil {
		return None, err
	}
	remembered, err := at.Resolve(name)
	switch {
	case err == nil:
		defer remembered.Close()
		if err := ReturnDelegation(remembered); err != nil && !errors.Is(err, unix.ESTALE) && !errors.Is(err, unix.ENOENT) {
			return None, err
		}
	case !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP):
		return None, err
	}
	if err := lookupOnServer(at, name); err != nil {
		return None, err
	}
	return at.Resolve(name)
}

// RmdirCurrent removes the empty directory name from at, if the server says that it is one. ENOTDIR: it is
// something else, and stays.
//
// Rmdir does not say so to the server. NFSv4 has one operation to remove a file and a directory, and no
// word in it of which is meant (REMOVE: RFC 7530, section 16.26; RFC 8881, section 18.25). The client looks
// first, and may remember a directory where there is a file by now: that is removed. So where a name may
// have become a file's, it is asked for. Nobody else may be about to give it to a file: it would be removed
// between the question and the call.
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

// askForName has the client ask the server what has a name. It does so before it makes something that
// is not to be there yet (LOOKUP_EXCL); and a hard link to a directory is never made: see link(2), EPERM.
// Any error but those that a link has then says that the server was not asked, or has not answered.
func lookupOnServer(at Dir, name string) error {
	err := at.Link(".", at, name)
	for _, answered := range []error{unix.EEXIST, unix.EPERM, unix.EACCES, unix.EROFS} {
		if errors.Is(err, answered) {
			return nil
		}
	}
	return err
}
