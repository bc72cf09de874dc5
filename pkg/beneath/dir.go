// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"cmp"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory, as an O_PATH descriptor. It refers to the same directory after a
// rename. Opening it needs no permission to read on the server.
//
// Its methods are single steps; operations with several steps, such as a list, are functions.
//
// A Dir is a plain descriptor: convert it to int for system calls that are not here. The caller
// that opened it closes it.
type Dir int

// None is a directory that does not exist. Nothing in it exists either (ENOENT), and it has no
// entries. It represents an optional directory that was not found.
const None Dir = -1

// OpenRoot opens the directory at path, an absolute path that is trusted, such as a mount
// point. Symbolic links in it are followed. The caller closes the Dir.
func OpenRoot(path string) (Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return Dir(fd), pathError("open", path, err)
}

// Close closes the descriptor.
func (d Dir) Close() { _ = unix.Close(int(d)) }

// Resolve opens the directory at path, which may have several components, under d. "" is d
// itself. The caller closes the result.
//
// The path may be text from a user. Resolve fails with EXDEV if the path leaves d or its file
// system, with ELOOP if it goes through a symbolic link, and with ENOTDIR if it ends at one, or
// at or in a file. With an error it returns [None].
//
// ESTALE: d does not exist any more. EAGAIN: another client has moved the directory at path, and this one
// is too busy to find that out; it may be there.
func (d Dir) Resolve(path string) (Dir, error) {
	path = cmp.Or(path, ".")
	if d == None {
		return None, pathError("open", path, unix.ENOENT)
	}
	fd, err := Openat(int(d), path, unix.O_PATH|unix.O_DIRECTORY)
	return Dir(fd), pathError("open", path, err)
}

// Refresh makes the client ask the server for the attributes of d, instead of using its cache.
// If they have changed, the client also drops its cached names of d. ESTALE: d does not exist any
// more.
//
// d may also be the descriptor of a file.
func (d Dir) Refresh() error {
	if d == None {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(d), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err != nil {
		return pathError("stat", ".", err)
	}
	if st.Nlink == 0 {
		return pathError("stat", ".", unix.ESTALE)
	}
	return nil
}

// Open opens the file name in d, with the flags of open(2); O_NOFOLLOW and O_CLOEXEC are
// added. A file that it creates has the mode 0600. It waits for the other end of a FIFO, unless
// the flags contain O_NONBLOCK.
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
		if err != unix.EINTR {
			return fd, pathError("open", name, err)
		}
	}
	return -1, pathError("open", name, unix.ENOENT)
}

// Write creates or opens the file name in d, as O_EXCL or O_TRUNC in flags say, writes data to it and
// calls fsync(2). It returns the file open for reading and writing, so that the caller can make one
// more change in place. After an error the file does not exist: Write removes an incomplete file.
func Write(d Dir, name string, flags int, data []byte) (*os.File, error) {
	f, err := d.Open(name, flags|unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	if err := writeSync(f, data); err != nil {
		_ = f.Close()
		_ = d.Unlink(name)
		return nil, err
	}
	return f, nil
}

func writeSync(f *os.File, data []byte) error {
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync() // NFS reports a full disk here
}

// openWithoutDelegation opens a file for which an NFSv4 server gives no delegation. With a delegation
// the client would continue to show the file under its old name after another mount of this machine has
// renamed it: for the server both are one client, from which it recalls nothing. And the mtime of the
// file would change when another client reads it and the server recalls the delegation. The Linux client
// asks for no delegation if a file is opened with O_DIRECT (RFC 8881, section 18.16,
// OPEN4_SHARE_ACCESS_WANT_NO_DELEG); the flag is removed again, because reads and writes are not direct.
func (d Dir) openWithoutDelegation(name string, flags int) (int, error) {
	if flags&(unix.O_DIRECTORY|unix.O_PATH) != 0 {
		return d.openFD(name, flags)
	}
	fd, err := d.openFD(name, flags|unix.O_DIRECT)
	if errors.Is(err, unix.EINVAL) { // a file system or a directory without direct reads
		fd, err := d.openFD(name, flags&^(unix.O_CREAT|unix.O_EXCL)) // the call may have created the file
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

// Read returns the content and attributes of the file name. It reads no more than limit bytes: a
// file of another writer may have any size.
//
// ESTALE: another client has removed the file, and this client still shows it because of a
// delegation (RFC 8881, section 10.4).
func (d Dir) Read(name string, limit int64) ([]byte, unix.Stat_t, error) {
	// No os.File, which makes further system calls, and no second read if the first has returned
	// everything: lists of volumes read thousands of files.
	var stat unix.Stat_t
	fd, err := d.openWithoutDelegation(name, unix.O_RDONLY)
	if err != nil {
		return nil, stat, err
	}
	defer unix.Close(fd)
	// Attributes first: the server sent them with the open. A read changes the access time, and
	// the client would have to request them again.
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

// Mkdir makes the directory name in d. EEXIST: the name exists, as anything.
func (d Dir) Mkdir(name string, mode uint32) error {
	return pathError("mkdir", name, unix.Mkdirat(int(d), name, mode))
}

// Rmdir removes the empty directory name from d. Over NFSv4 it may remove a file that has that name
// now: see [RmdirCurrent].
func (d Dir) Rmdir(name string) error {
	return pathError("rmdir", name, d.lookUp(name, func() error { return unix.Unlinkat(int(d), name, unix.AT_REMOVEDIR) }))
}

// Unlink removes the file or symbolic link name from d.
func (d Dir) Unlink(name string) error {
	return pathError("unlink", name, unix.Unlinkat(int(d), name, 0))
}

// Link makes newName in the directory to a hard link to the file name in d. It does not follow a
// symbolic link. EEXIST: newName exists. If several callers try, exactly one succeeds.
func (d Dir) Link(name string, to Dir, newName string) error {
	return pathError("link", newName, unix.Linkat(int(d), name, int(to), newName, 0))
}

// Rename moves name from d to newName in the directory to. It replaces an existing file or an empty
// directory. ESTALE: d or to does not exist any more. EAGAIN: see [Dir.Resolve].
func (d Dir) Rename(name string, to Dir, newName string) error {
	err := unix.Renameat(int(d), name, int(to), newName)
	if err == unix.ESTALE {
		// The client caches the directory at its old place, and another client has moved it here.
		// The kernel cannot correct that under the locks of rename(2): see lookUp. A lookup before it can.
		if _, err := d.Stat(name); err != nil {
			return err
		}
		err = unix.Renameat(int(d), name, int(to), newName)
		if err == unix.ESTALE && d.checkExists() == nil && to.checkExists() == nil {
			err = unix.EAGAIN // it was moved once more
		}
	}
	return pathError("rename", name, err)
}

// Stat returns the attributes of name in d. It does not follow a symbolic link.
//
// Do not use them to decide how to open the name: it may be replaced in between. Open it, and
// check the descriptor.
func (d Dir) Stat(name string) (unix.Stat_t, error) {
	var s unix.Stat_t
	err := d.lookUp(name, func() error { return unix.Fstatat(int(d), name, &s, unix.AT_SYMLINK_NOFOLLOW) })
	return s, pathError("stat", name, err)
}

// StatSelf returns the attributes of d itself.
func (d Dir) StatSelf() (unix.Stat_t, error) {
	var s unix.Stat_t
	err := unix.Fstatat(int(d), "", &s, unix.AT_EMPTY_PATH)
	return s, pathError("stat", ".", err)
}

// IsReadOnly reports whether the file system of d is read-only on the server, or mounted read-only
// here. A missing permission to write does not make it read-only.
//
// The client does not know the server's export options. If access(2) is denied, IsReadOnly sets the time
// of the last access to its current value, which fails with EROFS or with another error. Setting the
// mode would work, too, but a server may clear the set-group-ID bit then (chmod(2)).
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
