// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// A probeFile tests the features of a mounted share with its own files, in .mooring or, if .mooring
// does not exist, in the share's root: it does not lay the share out. The names and the contents of
// the files identify them. The trial removes them at its end; a later one removes leftovers.
//
//	.mooring-doctor-<random>         the probe file
//	.mooring-doctor-<random>.copy    the target of CLONE and COPY
//	.mooring-doctor-<random>.link    a second name, removed at once
//	.mooring-doctor-<random>.renames the directory for renames
//	.mooring-doctor-<random>.times   a file whose time is set
type probeFile struct {
	root, dir    beneath.Dir
	name         string
	dirPath      string // of dir, relative to root
	mayExist     bool   // the server may have created the probe file
	source, copy *os.File
}

const (
	probePrefix = ".mooring-doctor-"
	copySuffix  = ".copy"
	linkSuffix  = ".link"
	// probeMark is how a probe file begins.
	probeMark = "A probe file of mooringctl doctor, which removes it.\n"
	// staleAfter is the age after which a probe file is a leftover.
	staleAfter = time.Hour
	// holeEnd is the offset of the end of the hole in the probe file, and dataSize the size of the data
	// before and after it.
	holeEnd  = 1 << 20
	dataSize = 64 << 10
)

var probeName = regexp.MustCompile(`^` + regexp.QuoteMeta(probePrefix) + `[0-9a-f]{16}(\.copy|\.link|\.renames|\.times)?$`)

// openProbeFile opens the share that is mounted at path. It changes nothing on the share.
func openProbeFile(path string) (*probeFile, error) {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	t := &probeFile{root: beneath.None, dir: beneath.None, name: probePrefix + hex.EncodeToString(random)}
	var err error
	t.root, err = beneath.OpenRoot(path)
	return t, err
}

// space returns the total and the free space of the share.
func (t *probeFile) space() (volume.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(t.root), &st); err != nil {
		return volume.Space{}, err
	}
	return volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree), nil
}

// latency returns the median time of several queries for the attributes of the share's root. It makes
// the given number of them, or fewer if the timeout expires. AT_STATX_FORCE_SYNC bypasses the client's
// cache and its delegations.
func (t *probeFile) latency(times int, timeout time.Duration) (time.Duration, error) {
	var took []time.Duration
	for begin := time.Now(); len(took) < times && time.Since(begin) < timeout; {
		start := time.Now()
		if err := t.root.Refresh(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// write creates the probe file, with data, a hole, and data. skew is the offset of the server's clock
// from now, which write calls before and after; it is 0 for a time between the two.
//
// The mtime of the directory shows the server's clock. The mtime of the file may come from this
// client, which need not send it to the server while it holds a delegation of the file (RFC 9754).
func (t *probeFile) write(now func() time.Time) (skew time.Duration, err error) {
	t.dirPath = volume.StateDir
	if t.dir, err = t.root.Resolve(t.dirPath); errors.Is(err, unix.ENOENT) {
		t.dirPath = ""
		t.dir, err = t.root.Resolve(t.dirPath)
	}
	if err != nil {
		return 0, err
	}
	before := now()
	t.mayExist = true
	if t.source, err = t.dir.Open(t.name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR); err != nil {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			if readOnly, _ := beneath.IsReadOnly(t.root); readOnly {
				err = unix.EROFS
			}
		}
		t.mayExist = errors.Is(err, unix.EIO) || errors.Is(err, unix.ETIMEDOUT) // other errors are a refusal
		return 0, err
	}
	var st unix.Statx_t
	if err := unix.Statx(int(t.dir), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_MTIME, &st); err != nil {
		return 0, err
	}
	after := now()
	data := bytes.Repeat([]byte(probeMark), dataSize/len(probeMark)+1)[:dataSize]
	for _, at := range []int64{0, holeEnd} {
		if _, err := t.source.WriteAt(data, at); err != nil {
			return 0, err
		}
	}
	return clockSkew(time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)), before, after), t.source.Sync()
}

// clockSkew returns the offset of a clock that showed at, at some moment between before and after.
func clockSkew(at, before, after time.Time) time.Duration {
	switch {
	case at.Before(before):
		return at.Sub(before)
	case at.After(after):
		return at.Sub(after)
	}
	return 0
}

// owner returns the owner of the probe file as the server reports it.
func (t *probeFile) owner() (uid, gid uint32, err error) {
	var st unix.Statx_t
	err = unix.Statx(int(t.source.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_UID|unix.STATX_GID, &st)
	return st.Uid, st.Gid, err
}

// chown gives the probe file another owner.
func (t *probeFile) chown(uid, gid int) error { return unix.Fchown(int(t.source.Fd()), uid, gid) }

// openCopy returns the descriptors of the probe file and of an empty file to copy its data to.
func (t *probeFile) openCopy() (source, copy int, err error) {
	if t.copy == nil {
		if t.copy, err = t.dir.Open(t.name+copySuffix, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR); err != nil {
			return -1, -1, err
		}
	}
	return int(t.source.Fd()), int(t.copy.Fd()), nil
}

// xattr gives the probe file an extended attribute and reads it back.
func (t *probeFile) xattr() error {
	const name, value = "user.mooring.doctor", "probe"
	fd := int(t.source.Fd())
	if err := unix.Fsetxattr(fd, name, []byte(value), 0); err != nil {
		return err
	}
	got := make([]byte, 2*len(value))
	n, err := unix.Fgetxattr(fd, name, got)
	if err != nil {
		return err
	}
	if string(got[:n]) != value {
		return fmt.Errorf("the server returned %q for %q", got[:n], value)
	}
	return nil
}

// acl returns the name of the attribute that has the probe file's access control list.
func (t *probeFile) acl() (name string, err error) {
	for _, name = range []string{"system.nfs4_acl", "system.posix_acl_access"} {
		_, err = unix.Fgetxattr(int(t.source.Fd()), name, nil)
		if err == nil || errors.Is(err, unix.ENODATA) { // ENODATA: supported, but not set
			return name, nil
		}
	}
	return "", err
}

// link gives the probe file a second name, and removes that again.
func (t *probeFile) link() error {
	if err := t.dir.Link(t.name, t.dir, t.name+linkSuffix); err != nil {
		return err
	}
	return errors.Join(t.hasTwoNames(), t.dir.Unlink(t.name+linkSuffix))
}

func (t *probeFile) hasTwoNames() error {
	var st unix.Statx_t
	if err := unix.Statx(int(t.source.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_NLINK, &st); err != nil {
		return err
	}
	if st.Nlink != 2 {
		return fmt.Errorf("the file has %d names, want 2", st.Nlink)
	}
	return nil
}

// hole reports whether the server reports the hole in the probe file.
func (t *probeFile) hole() (bool, error) {
	offset, err := unix.Seek(int(t.source.Fd()), 0, unix.SEEK_HOLE)
	if err != nil {
		return false, err
	}
	return offset < holeEnd, nil
}

// lock takes an open file description lock on the probe file, and releases it.
func (t *probeFile) lock() error {
	for _, kind := range []int16{unix.F_WRLCK, unix.F_UNLCK} {
		if err := unix.FcntlFlock(t.source.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind}); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes the leftovers of killed trials: old files that their names and contents identify.
// It computes the age with the server's clock: the creation of the probe file has just set the
// directory's time.
func (t *probeFile) sweep() (removed int, err error) {
	if err := t.dir.Refresh(); err != nil {
		return 0, err
	}
	now, err := t.dir.StatSelf()
	if err != nil {
		return 0, err
	}
	dirs := []beneath.Dir{t.dir}
	switch root, err := t.root.StatSelf(); {
	case err != nil, root.Ino == now.Ino:
	default:
		dirs = append(dirs, t.root) // leftovers from the time before .mooring existed
	}
	for _, d := range dirs {
		var stale []string
		if err := beneath.Names(d, func(name string) error {
			if probeName.MatchString(name) && isLeftover(d, name, now) {
				stale = append(stale, name)
			}
			return nil
		}); err != nil {
			return removed, err
		}
		for _, name := range stale {
			removed++
			if err := removeLeftover(d, name); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
}

// isLeftover reports whether a file, or a directory of renames, is a leftover of a trial.
func isLeftover(d beneath.Dir, name string, now unix.Stat_t) bool {
	st, err := d.Stat(name)
	if err != nil || time.Duration(now.Mtim.Nano()-st.Mtim.Nano()) < staleAfter {
		return false
	}
	if strings.HasSuffix(name, renamesSuffix) {
		return isRenamesDir(d, name)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	if st.Size == 0 { // its trial was killed before it wrote
		return true
	}
	f, err := d.Open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer f.Close()
	mark := make([]byte, len(probeMark))
	n, _ := f.ReadAt(mark, 0)
	return string(mark[:n]) == probeMark
}

// removeLeftover removes a leftover.
func removeLeftover(d beneath.Dir, name string) error {
	if !strings.HasSuffix(name, renamesSuffix) {
		return unlink(d, name)
	}
	in, err := d.Resolve(name)
	if err != nil {
		return err
	}
	defer in.Close()
	clearRenames(in)
	return d.Rmdir(name)
}

// close removes the probe files, including those that may exist, and closes the share's root. It does
// not unmount the share.
func (t *probeFile) close() error {
	var errs []error
	for _, f := range []*os.File{t.copy, t.source} {
		if f != nil {
			// Close before the removal, because NFS renames an open file that is removed. An error
			// of close means a full disk, which another step reports.
			_ = f.Close()
		}
	}
	if t.mayExist {
		for _, suffix := range []string{linkSuffix, copySuffix, timesSuffix, ""} {
			errs = append(errs, unlink(t.dir, t.name+suffix))
		}
	}
	if t.dir >= 0 {
		t.dir.Close()
	}
	t.root.Close()
	return errors.Join(errs...)
}

// unlink removes a file if it exists.
func unlink(d beneath.Dir, name string) error {
	if err := d.Unlink(name); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
