// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory, as an O_PATH descriptor. It keeps referring to the same directory
// when that is renamed. Opening it asks the server for no permission to read.
//
// Its methods are single steps; what takes several, such as to list it, is a function.
//
// A Dir is a plain descriptor: convert it to int for system calls that are not here. Whoever
// opened it closes it.
type Dir int

// None is a directory that does not exist. What is looked up in it does not exist either
// (ENOENT), and it has no entries. It stands for an optional directory that was not found.
const None Dir = -1

// OpenRoot opens the directory at path, an absolute path that is trusted, such as a mount
// point. Symbolic links in it are followed. The caller closes the Dir.
func OpenRoot(path string) (Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return Dir(fd), pathError("open", path, err)
}

// Close closes the descriptor.
func (d Dir) Close() { _ = unix.Close(int(d)) }

// Resolve opens the directory at path, which may have several components, beneath d. "" is d
// itself. The caller closes what it gets.
//
// The path may be text from a user. Resolve fails with EXDEV where it leaves d or its file
// system, with ELOOP where it goes through a symbolic link, and with ENOTDIR where it ends at
// one, or at or in a file. With an error comes [None].
func (d Dir) Resolve(path string) (Dir, error) {
	path = cmp.Or(path, ".")
	if d == None {
		return None, pathError("open", path, unix.ENOENT)
	}
	fd, err := Openat(int(d), path, unix.O_PATH|unix.O_DIRECTORY)
	return Dir(fd), pathError("open", path, err)
}

// Refresh has the client ask the server for the attributes of d, instead of answering from
// its cache. If they have changed, the client also stops trusting the names in d that it
// remembers. ESTALE: d does not exist any more.
//
// d may also be the descriptor of a file.
func (d Dir) Refresh() error {
	if d == None {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(d), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Nlink == 0 {
		err = unix.ESTALE
	}
	return pathError("stat", ".", err)
}

// Open opens the file name in d, with the flags of open(2); O_NOFOLLOW and O_CLOEXEC are
// added. A file that it creates has the mode 0600. A FIFO blocks it, unless O_NONBLOCK is
// among the flags.
func (d Dir) Open(name string, flags int) (*os.File, error) {
	fd, err := d.openWithoutDelegation(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d Dir) openFD(name string, flags int) (int, error) {
	for d != None {
		fd, err := unix.Openat(int(d), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			return -1, pathError("open", name, err)
		}
	}
	return -1, pathError("open", name, unix.ENOENT)
}

// Write creates the file name in d, or opens it with O_EXCL or O_TRUNC among the flags as they say,
// writes data to it and calls fsync(2). The file is returned open for reading and writing, so
// that one more change can be made in place. After an error there is no such file: Write
// removes what it could not finish.
func Write(d Dir, name string, flags int, data []byte) (*os.File, error) {
	f, err := d.Open(name, flags|unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // NFS reports a full disk here
	}
	if err != nil {
		_ = f.Close()
		_ = d.Unlink(name)
		return nil, err
	}
	return f, nil
}

// openUndelegated opens a file so that an NFSv4 server delegates nothing of it. With a delegation the
// client would go on showing the file under a name that another mount of this machine has
// renamed: to the server both are one client, from which it recalls nothing. And the file would get
// another mtime when another client reads it, and the delegation is recalled. The Linux client asks
// for none where a file is opened with O_DIRECT (RFC 8881, section 18.16,
// OPEN4_SHARE_ACCESS_WANT_NO_DELEG); reading and writing are not to be direct.
func (d Dir) openWithoutDelegation(name string, flags int) (int, error) {
	if flags&(unix.O_DIRECTORY|unix.O_PATH) != 0 {
		return d.openFD(name, flags)
	}
	fd, err := d.openFD(name, flags|unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) { // a file system, or a directory, that has no such reading
		fd, err := d.openFD(name, flags&^(unix.O_CREAT|unix.O_EXCL)) // it may have made the file all the same
		if flags&unix.O_CREAT != 0 && errors.Is(err, unix.ENOENT) {
			return d.openFD(name, flags)
		}
		return fd, err
	}
	if err != nil {
		return -1, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&unix.O_NONBLOCK); err != nil {
		_ = unix.Close(fd)
		return -1, pathError("fcntl", name, err)
	}
	return fd, nil
}

// Read returns the content and attributes of the file name, of which it reads no more than
// limit bytes: a file that somebody else has made may be of any size.
//
// ESTALE: another client has removed the file, and this client still has it because of a
// delegation (RFC 8881, section 10.4).
func (d Dir) Read(name string, limit int64) ([]byte, unix.Stat_t, error) {
	// No os.File, which makes further system calls, and no second read where the first has
	// returned everything: lists of volumes read thousands of files.
	var stat unix.Stat_t
	fd, err := d.openWithoutDelegation(name, unix.O_RDONLY)
	if err != nil {
		return nil, stat, err
	}
	defer unix.Close(fd)
	// Attributes first: they came with the open. Reading changes the access time, after which
	// the client would have to ask for them again.
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, stat, pathError("stat", name, err)
	}
	if stat.Nlink == 0 {
		return nil, stat, pathError("stat", name, unix.ESTALE)
	}
	data := make([]byte, min(cmp.Or(stat.Size, limit), limit))
	n := 0
	for n < len(data) {
		got, err := unix.Read(fd, data[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return data[:n], stat, pathError("read", name, err)
		}
		if got == 0 {
			break
		}
		n += got
	}
	return data[:n], stat, nil
}

// Mkdir makes the directory name in d. EEXIST: the name is taken, by whatever it is.
func (d Dir) Mkdir(name string, mode uint32) error {
	return pathError("mkdir", name, unix.Mkdirat(int(d), name, mode))
}

// Rmdir removes the empty directory name from d. Over NFSv4 it may remove a file that has the name
// by now: see [RmdirCurrent].
func (d Dir) Rmdir(name string) error {
	return pathError("rmdir", name, unix.Unlinkat(int(d), name, unix.AT_REMOVEDIR))
}

// Unlink removes the file or symbolic link name from d.
func (d Dir) Unlink(name string) error {
	return pathError("unlink", name, unix.Unlinkat(int(d), name, 0))
}

// Link gives the file name in d a second name, as, in the directory to. A symbolic link is not
// followed. EEXIST: the second name is taken. Of several callers exactly one succeeds.
func (d Dir) Link(name string, to Dir, as string) error {
	return pathError("link", as, unix.Linkat(int(d), name, int(to), as, 0))
}

// Rename moves name from d into the directory to, where it is called as. It replaces a file
// that has that name already, or an empty directory.
func (d Dir) Rename(name string, to Dir, as string) error {
	err := unix.Renameat(int(d), name, int(to), as)
	if err == unix.ESTALE {
		// The client remembers the directory in another place, from where another client has
		// moved it here. rename(2) holds locks with which the kernel cannot correct that (Linux:
		// d_splice_alias). A lookup before it can.
		if _, e := d.Stat(name); e == nil {
			err = unix.Renameat(int(d), name, int(to), as)
		}
	}
	return pathError("rename", name, err)
}

// Stat returns the attributes of name in d. A symbolic link is not followed.
//
// Do not decide by them how to open the name: it may be replaced in between. Open it, and
// look at the descriptor.
func (d Dir) Stat(name string) (unix.Stat_t, error) {
	var s unix.Stat_t
	err := unix.Fstatat(int(d), name, &s, unix.AT_SYMLINK_NOFOLLOW)
	return s, pathError("stat", name, err)
}

// StatSelf returns the attributes of d itself.
func (d Dir) StatSelf() (unix.Stat_t, error) {
	var s unix.Stat_t
	err := unix.Fstatat(int(d), "", &s, unix.AT_EMPTY_PATH)
	return s, pathError("stat", ".", err)
}

// IsReadOnly reports whether the file system of d is read-only on the server, or mounted
// read-only here. It is not where this process merely lacks the permission to write.
//
// The client does not know how the server exports. Where access(2) is denied, IsReadOnly asks by
// setting the time of the last access to what it is, which fails with EROFS or with something else. To
// set the mode would do, too, but a server may take the set-group-ID bit away then (chmod(2)).
func IsReadOnly(d Dir) (bool, error) {
	if unix.Faccessat(int(d), ".", unix.W_OK, unix.AT_EACCESS) == nil {
		return false, nil
	}
	st, err := d.Stat(".")
	if err != nil {
		return false, err
	}
	return unix.UtimesNanoAt(int(d), ".", []unix.Timespec{st.Atim, {Nsec: unix.UTIME_OMIT}}, 0) == unix.EROFS, nil
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}
