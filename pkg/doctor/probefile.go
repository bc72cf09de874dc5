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

// A probeFile tries out what a mounted share can do, on files of its own in .mooring, or in the
// share's root where there is no .mooring: nothing is laid out. Their names, and what is in
// them, tell whose they are. They are removed at the end, or by a later trial.
//
//	.mooring-doctor-<random>         the probe file
//	.mooring-doctor-<random>.copy    what its data is copied to
//	.mooring-doctor-<random>.link    its second name, for a moment
//	.mooring-doctor-<random>.renames where renames are tried
//	.mooring-doctor-<random>.times   one that is given another time
type probeFile struct {
	root, dir    beneath.Dir
	name         string
	dirPath      string // that in is, beneath root
	mayExist     bool   // the probe file was asked for, and not refused
	source, copy *os.File
}

const (
	probePrefix = ".mooring-doctor-"
	copySuffix  = ".copy"
	linkSuffix  = ".link"
	// probeMark begins a probe file.
	probeMark = "A probe file of mooringctl doctor, which removes it.\n"
	// staleAfter is the age past which a probe file is nobody's any more.
	staleAfter = time.Hour
	// holeEnd is where a hole ends in the probe file, and trialData how much data is around it.
	holeEnd  = 1 << 20
	dataSize = 64 << 10
)

var probeName = regexp.MustCompile(`^` + regexp.QuoteMeta(probePrefix) + `[0-9a-f]{16}(\.copy|\.link|\.renames|\.times)?$`)

// openProbeFile opens the share that is mounted at path, and changes nothing there.
func openProbeFile(path string) (*probeFile, error) {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails (crypto/rand)
	t := &probeFile{root: beneath.None, dir: beneath.None, name: probePrefix + hex.EncodeToString(random)}
	var err error
	t.root, err = beneath.OpenRoot(path)
	return t, err
}

// space asks how much there is and how much of it is free.
func (t *probeFile) space() (volume.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(t.root), &st); err != nil {
		return volume.Space{}, err
	}
	return volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree), nil
}

// latency asks for the attributes of the share's root so many times, or as often as can be in a
// while, and returns the median of what the answers took. Each question goes to the server: what
// the client remembers, or was delegated, does not count for AT_STATX_FORCE_SYNC.
func (t *probeFile) latency(times int, while time.Duration) (time.Duration, error) {
	var took []time.Duration
	for begin := time.Now(); len(took) < times && time.Since(begin) < while; {
		start := time.Now()
		if err := t.root.Refresh(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// write makes the probe file, with data, a hole, and data. skew is how far the server's clock
// is from now, which is called before and after: 0 for one between the two.
//
// The server's clock is what the directory has for its mtime. That of the file may be this
// client's, which keeps it to itself as long as the file is delegated to it (RFC 9754).
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
		t.mayExist = errors.Is(err, unix.EIO) || errors.Is(err, unix.ETIMEDOUT) // else it was refused
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

// clockSkew returns how far a clock that said at was off, at some moment between the two.
func clockSkew(at, before, after time.Time) time.Duration {
	switch {
	case at.Before(before):
		return at.Sub(before)
	case at.After(after):
		return at.Sub(after)
	}
	return 0
}

// owner returns who the server says the probe file belongs to.
func (t *probeFile) owner() (uid, gid uint32, err error) {
	var st unix.Statx_t
	err = unix.Statx(int(t.source.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_UID|unix.STATX_GID, &st)
	return st.Uid, st.Gid, err
}

// chown gives the probe file another owner.
func (t *probeFile) chown(uid, gid int) error { return unix.Fchown(int(t.source.Fd()), uid, gid) }

// openCopy returns the probe file, and an empty one that its data may be copied to.
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
	back := make([]byte, 2*len(value))
	n, err := unix.Fgetxattr(fd, name, back)
	if err == nil && string(back[:n]) != value {
		err = fmt.Errorf("%q came back for %q", back[:n], value)
	}
	return err
}

// acl returns by which name the probe file's access control list is to be had.
func (t *probeFile) acl() (name string, err error) {
	for _, name = range []string{"system.nfs4_acl", "system.posix_acl_access"} {
		_, err = unix.Fgetxattr(int(t.source.Fd()), name, nil)
		if err == nil || errors.Is(err, unix.ENODATA) { // there could be one
			return name, nil
		}
	}
	return "", err
}

// link gives the probe file a second name, and takes that away again.
func (t *probeFile) link() error {
	if err := t.dir.Link(t.name, t.dir, t.name+linkSuffix); err != nil {
		return err
	}
	var st unix.Statx_t
	err := unix.Statx(int(t.source.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_NLINK, &st)
	if err == nil && st.Nlink != 2 {
		err = fmt.Errorf("the file has %d names, and not 2", st.Nlink)
	}
	return errors.Join(err, t.dir.Unlink(t.name+linkSuffix))
}

// hole reports whether the server tells where the probe file has its hole.
func (t *probeFile) hole() (bool, error) {
	at, err := unix.Seek(int(t.source.Fd()), 0, unix.SEEK_HOLE)
	return err == nil && at < holeEnd, err
}

// lock takes an open file description's lock on the probe file, and gives it back.
func (t *probeFile) lock() error {
	for _, kind := range []int16{unix.F_WRLCK, unix.F_UNLCK} {
		if err := unix.FcntlFlock(t.source.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind}); err != nil {
			return err
		}
	}
	return nil
}

// sweep removes what trials that were killed have left: files whose name and content say so,
// and that are old. The age is told by the server's clock, by which the probe file has just set
// its directory's time.
func (t *probeFile) sweep() (removed int, err error) {
	if err := t.dir.Refresh(); err != nil {
		return 0, err
	}
	now, err := t.dir.StatSelf()
	if err != nil {
		return 0, err
	}
	dirs := []beneath.Dir{t.dir}
	if root, err := t.root.StatSelf(); err == nil && root.Ino != now.Ino {
		dirs = append(dirs, t.root) // from before there was a .mooring
	}
	for _, d := range dirs {
		var stale []string
		err := beneath.Names(d, func(name string) error {
			if probeName.MatchString(name) && isLeftover(d, name, now) {
				stale = append(stale, name)
			}
			return nil
		})
		for _, name := range stale {
			if err == nil {
				err = removeLeftover(d, name)
				removed++
			}
		}
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// isLeftover reports whether a file, or the directory of renames, is an old one of a trial's.
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
	if st.Size == 0 { // one that was killed before it could write
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

// removeLeftover removes what leftTrial has found.
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

// close removes the probe files, also those of which it is not known whether they were made, and
// lets go of the share. It does not unmount it.
func (t *probeFile) close() error {
	var errs []error
	for _, f := range []*os.File{t.copy, t.source} {
		if f != nil {
			// Before it is removed: NFS renames an open file. What closing says, full disks say,
			// and is known.
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

// unlink removes a file, or finds that it is not there.
func unlink(d beneath.Dir, name string) error {
	if err := d.Unlink(name); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
