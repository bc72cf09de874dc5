// SPDX-License-Identifier: Apache-2.0

package share

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// beneath is how text from users is resolved: inside the directory, without symbolic links,
// without another file system on the way (openat2(2)).
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// maxRecord is far more than a record can be, and little to read by accident.
const maxRecord = 64 << 10

// dir is an open directory, as an O_PATH descriptor: it pins the directory and asks the server nothing.
type dir int

// none is a directory that is not there: what is looked for in it is not there either. A share
// that is opened to be read only is not laid out.
const none dir = -1

func openDir(path string) (dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return dir(fd), err
}

func (d dir) close() { _ = unix.Close(int(d)) }

// resolve opens the directory at path, which may have several components, beneath d.
// "" is d itself. The caller closes what it gets.
func (d dir) resolve(path string) (dir, error) {
	if path == "" {
		path = "."
	}
	if d == none {
		return none, pathError("open", path, unix.ENOENT)
	}
	for {
		fd, err := unix.Openat2(int(d), path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
			Resolve: beneath,
		})
		// EAGAIN: a rename anywhere kept the kernel from being sure (openat2(2)).
		if err != unix.EINTR && err != unix.EAGAIN {
			return dir(fd), err
		}
	}
}

// refresh has the client ask the server for d's attributes. If they have changed, it also
// stops trusting the names in d that it remembers. ESTALE: d is not there any more.
func (d dir) refresh() error {
	if d == none {
		return nil
	}
	var st unix.Statx_t
	err := unix.Statx(int(d), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err == nil && st.Nlink == 0 {
		err = unix.ESTALE
	}
	return pathError("stat", ".", err)
}

// open opens the file name in d; O_NOFOLLOW and O_CLOEXEC are added.
func (d dir) open(name string, flags int) (*os.File, error) {
	fd, err := d.openFD(name, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d dir) openFD(name string, flags int) (int, error) {
	for d != none {
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

// write makes the file name hold data, synced. It is left open for one more change in place.
func (d dir) write(name string, flags int, data []byte) (*os.File, error) {
	f, err := d.open(name, flags|unix.O_CREAT|unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync() // where NFS says that the disk is full
	}
	if err != nil {
		_ = f.Close()
		_ = d.unlink(name)
		return nil, err
	}
	return f, nil
}

// read reads a small file. Lists read thousands: hence no os.File, which asks the kernel for
// more, and no second read where the first has brought all that there is. ESTALE: it was
// removed by another, and the client shows it for as long as it has a delegation of it.
func (d dir) read(name string) ([]byte, unix.Stat_t, error) {
	var stat unix.Stat_t
	fd, err := d.openFD(name, unix.O_RDONLY)
	if err != nil {
		return nil, stat, err
	}
	defer unix.Close(fd)
	// First the attributes, which came with the open: reading changes one, and makes them old.
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, stat, pathError("stat", name, err)
	}
	if stat.Nlink == 0 {
		return nil, stat, pathError("stat", name, unix.ESTALE)
	}
	data := make([]byte, min(cmp.Or(stat.Size, maxRecord), maxRecord))
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

func (d dir) mkdir(name string, mode uint32) error {
	return pathError("mkdir", name, unix.Mkdirat(int(d), name, mode))
}

func (d dir) rmdir(name string) error {
	return pathError("rmdir", name, unix.Unlinkat(int(d), name, unix.AT_REMOVEDIR))
}

func (d dir) unlink(name string) error {
	return pathError("unlink", name, unix.Unlinkat(int(d), name, 0))
}

func (d dir) link(name string, to dir, as string) error {
	return pathError("link", as, unix.Linkat(int(d), name, int(to), as, 0))
}

func (d dir) rename(name string, to dir, as string) error {
	err := unix.Renameat(int(d), name, int(to), as)
	if err == unix.ESTALE {
		// A directory that this client remembers elsewhere, from where another has moved it here,
		// cannot be found while the rename holds its locks (Linux: d_splice_alias); before, it can.
		if _, e := d.stat(name); e == nil {
			err = unix.Renameat(int(d), name, int(to), as)
		}
	}
	return pathError("rename", name, err)
}

// stat looks at name itself, not through it.
func (d dir) stat(name string) (unix.Stat_t, error) {
	var s unix.Stat_t
	err := unix.Fstatat(int(d), name, &s, unix.AT_SYMLINK_NOFOLLOW)
	return s, pathError("stat", name, err)
}

// self looks at d.
func (d dir) self() (unix.Stat_t, error) {
	var s unix.Stat_t
	err := unix.Fstatat(int(d), "", &s, unix.AT_EMPTY_PATH)
	return s, pathError("stat", ".", err)
}

// names calls each for all names in d as they are now, in the server's order, in batches.
func (d dir) names(each func(name string) error) error {
	if d == none {
		return nil
	}
	if err := d.refresh(); err != nil {
		return err
	}
	f, err := d.open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		batch, err := f.Readdirnames(1024)
		for _, name := range batch {
			if err := each(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readOnly reports whether the server lets nobody write in d, other than one who may not write there.
func (d dir) readOnly() (bool, error) {
	if unix.Faccessat(int(d), ".", unix.W_OK, unix.AT_EACCESS) == nil {
		return false, nil
	}
	st, err := d.stat(".")
	if err != nil {
		return false, err
	}
	return unix.Fchmodat(int(d), ".", st.Mode&0o7777, 0) == unix.EROFS, nil
}

// isEmpty reports whether d has no entries.
func (d dir) isEmpty() (bool, error) {
	err := d.names(func(string) error { return fs.ErrExist })
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: name, Err: err}
}

// prefixes returns the parents of a directory and it itself, the outermost first: "a", "a/b".
func prefixes(path string) []string {
	var all []string
	for i, c := range path {
		if c == '/' {
			all = append(all, path[:i])
		}
	}
	if path != "" {
		all = append(all, path)
	}
	return all
}

// gone reports whether a name, or the directory that it was looked for in, is not there (any
// more): a directory that another client removed is stale here.
func gone(err error) bool { return is(err, unix.ENOENT) || is(err, unix.ESTALE) }

// unclaimed reports whether an error of reading a claim says that there is none: nothing, or
// a volume above, or volumes below.
func unclaimed(err error) bool { return gone(err) || is(err, unix.ENOTDIR) || is(err, unix.EISDIR) }

func is(err error, errno unix.Errno) bool { return errors.Is(err, errno) }

func jsonName(key string) string { return key + ".json" }

func keyOf(name string) (string, bool) { return strings.CutSuffix(name, ".json") }
