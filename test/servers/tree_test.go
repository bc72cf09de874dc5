// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// filler makes a tree, and notes what the server refuses.
type filler struct {
	root    string
	refused []string
}

// fill makes a tree with entries of all kinds. It returns the refused operations with their errors.
func fill(root string) []string {
	f := &filler{root: root, refused: []string{}}
	f.files()
	f.sparse()
	f.links()
	f.special()
	f.names()
	f.times()
	f.attributes()
	f.directories()
	slices.Sort(f.refused)
	return slices.Compact(f.refused)
}

func (f *filler) at(name string) string { return filepath.Join(f.root, name) }

// try notes a refusal by the operation, and not by the entry.
func (f *filler) try(what string, err error) {
	if err != nil {
		var errno unix.Errno
		if errors.As(err, &errno) {
			err = errno
		}
		f.refused = append(f.refused, fmt.Sprintf("%s: %v", what, err))
	}
}

func (f *filler) file(name string, data []byte, mode uint32, uid, gid int) {
	f.try("write", os.WriteFile(f.at(name), data, 0o644))
	if uid != 0 || gid != 0 {
		f.try("chown", os.Lchown(f.at(name), uid, gid))
	}
	f.try("chmod", unix.Chmod(f.at(name), mode)) // after it: chown(2) removes setuid and setgid
	f.time(name, 1500000000, 123456789)
}

func (f *filler) time(name string, seconds, nanoseconds int64) {
	f.odd("a time", name, seconds, nanoseconds)
}

// odd sets a time that a server may accept but not keep.
func (f *filler) odd(what, name string, seconds, nanoseconds int64) {
	times := []unix.Timespec{{Sec: 1600000000, Nsec: 1}, {Sec: seconds, Nsec: nanoseconds}}
	err := unix.UtimesNanoAt(unix.AT_FDCWD, f.at(name), times, unix.AT_SYMLINK_NOFOLLOW)
	var st unix.Stat_t
	if err == nil {
		err = unix.Lstat(f.at(name), &st)
	}
	switch {
	case err != nil:
		f.try(what, err)
	case st.Mtim.Sec != seconds:
		f.try(what, errors.New("it is another then"))
	case st.Mtim.Nsec != nanoseconds:
		f.try(what, errors.New("its nanoseconds are others then"))
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	rand.New(rand.NewSource(1)).Read(data)
	return data
}

func (f *filler) files() {
	f.try("mkdir", os.MkdirAll(f.at("deep/"+strings.Repeat("d/", 30)+"end"), 0o755))
	f.file("deep/file", []byte("deep"), 0o444, 65534, 65534)
	f.file("plain", []byte("plain\n"), 0o644, 0, 0)
	f.file("empty", nil, 0o600, 7, 8)
	f.file("setuid", []byte("setuid\n"), 0o4755, 999, 0)
	f.file("setgid", []byte("setgid\n"), 0o2755, 0, 999)
	f.file("closed", []byte("closed\n"), 0, 1234, 5678)
	f.file("big", noise(5<<20+1), 0o640, 26, 26)
	f.file("large ids", []byte("x"), 0o644, 3000000000, 3000000001)
	f.try("mkdir", os.Mkdir(f.at("many"), 0o755))
	for i := range 60 {
		f.file(fmt.Sprintf("many/%02d", i), bytes.Repeat([]byte{byte(i)}, i*137), 0o644, 0, 0)
	}
}

// sparse makes files with holes: in the middle, at the end, and nothing else.
func (f *filler) sparse() {
	for name, offsets := range map[string][]int64{"sparse": {0, 8 << 20}, "hole": nil} {
		file, err := os.Create(f.at(name))
		if err != nil {
			f.try("write", err)
			continue
		}
		for _, offset := range offsets {
			_, err := file.WriteAt(noise(65536), offset)
			f.try("write", err)
		}
		f.try("truncate", file.Truncate(16<<20))
		f.try("write", file.Close())
	}
}

func (f *filler) links() {
	f.file("name 1", []byte("of three"), 0o644, 100, 100)
	f.try("link", os.Link(f.at("name 1"), f.at("deep/name 2")))
	f.try("link", os.Link(f.at("name 1"), f.at("name 3")))
	for name, target := range map[string]string{
		"symlink": "plain", "absolute": "/etc/passwd", "dangling": "no/where", "long": strings.Repeat("x/", 500) + "y", "odd": "new\nline \xff",
	} {
		f.try("symlink", os.Symlink(target, f.at(name)))
	}
	f.try("chown of a symlink", os.Lchown(f.at("dangling"), 11, 12))
	f.odd("a time of a symbolic link", "dangling", 1400000000, 5)
}

func (f *filler) special() {
	f.try("mkfifo", unix.Mkfifo(f.at("fifo"), 0o640))
	f.try("chown", os.Lchown(f.at("fifo"), 5, 6))
	f.try("mknod", unix.Mknod(f.at("character"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	f.try("mknod", unix.Mknod(f.at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	f.try("mknod of a socket", unix.Mknod(f.at("socket"), unix.S_IFSOCK|0o600, 0))
}

func (f *filler) names() {
	for what, names := range map[string][]string{
		"a name of 255 bytes":      {strings.Repeat("n", 255)},
		"a name that is not UTF-8": {"bad\xff\xfeutf8"},
		"a name":                   {"ümlaut-日本", "new\nline", "back\\slash", "-dash", " spaces ", "dot.", "a:b*?\"<>|", "e\u0301", "é", "CASE", "case", ".hidden"},
	} {
		for _, name := range names {
			f.try(what, os.WriteFile(f.at(name), []byte(name), 0o644))
		}
	}
}

func (f *filler) times() {
	for name, seconds := range map[string]int64{"before 1970": -1000, "after 2038": 3000000000, "after 2106": 5000000000} {
		f.file(name, []byte("x"), 0o644, 0, 0)
		f.odd("a time "+name, name, seconds, 5)
	}
}

func (f *filler) attributes() {
	f.file("attributes", []byte("x"), 0o644, 0, 0)
	f.try("user attributes", unix.Setxattr(f.at("attributes"), "user.one", []byte("value\x00binary"), 0))
	f.try("user attributes", unix.Setxattr(f.at("attributes"), "user.large", noise(3000), 0))
	f.try("user attributes", unix.Setxattr(f.at("deep"), "user.directory", []byte("d"), 0))
	f.file("list", []byte("x"), 0o640, 0, 0)
	if err := unix.Setxattr(f.at("list"), "system.posix_acl_access", posixACL(4242), 0); err != nil {
		f.try("an ACL", nfsACL(f.at("list"), 4242))
	}
	f.time("list", 1500000000, 9)
	f.time("attributes", 1500000000, 9)
}

// posixACL is that of 0640 and one more user with read permission (acl(5)), as an xattr of the kernel.
func posixACL(uid uint32) []byte {
	const none = 0xffffffff
	acl := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, none}, {2, 4, uid}, {4, 4, none}, {0x10, 4, none}, {0x20, 0, none}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	return acl
}

// nfsACL lets one more user read a file by an entry before those that its NFSv4 ACL has (RFC 7530, 6.2.1).
func nfsACL(path string, uid int) error {
	had := make([]byte, 65536)
	n, err := unix.Getxattr(path, "system.nfs4_acl", had)
	if err != nil {
		return err
	}
	if n < 4 {
		return unix.ENODATA
	}
	who := fmt.Sprintf("%d", uid)
	acl := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(had)+1)
	for _, word := range []uint32{0, 0, 0x120081, uint32(len(who))} { // allow; read
		acl = binary.BigEndian.AppendUint32(acl, word)
	}
	acl = append(append(acl, who...), had[4:n]...)
	return unix.Setxattr(path, "system.nfs4_acl", acl, 0)
}

// directories come last: what is made in them changes their times.
func (f *filler) directories() {
	f.try("mkdir", os.Mkdir(f.at("empty directory"), 0o700))
	f.try("chown", os.Lchown(f.at("empty directory"), 33, 44))
	f.try("mkdir", os.Mkdir(f.at("sticky"), 0o755))
	f.try("chmod", unix.Chmod(f.at("sticky"), 0o1777))
	f.try("chown", os.Lchown(f.at("deep"), 1000, 2000))
	f.try("chmod", unix.Chmod(f.at("deep"), 0o2775))
	for i, name := range []string{"empty directory", "sticky", "deep", "many"} {
		f.time(name, 1200000000+int64(i), 77)
	}
}

// describe describes all entries of a tree, by name: fields with " | " between them, each of which begins
// with its kind.
func describe(root string) map[string]string {
	all := map[string]string{}
	names := map[uint64][]string{} // of files with several
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(root, path)
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		if err != nil {
			all[name] = "error " + err.Error()
			return nil
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			names[st.Ino] = append(names[st.Ino], name)
		}
		all[name] = strings.Join(fields(path, st, path == root), " | ")
		return nil
	})
	for _, of := range names {
		slices.Sort(of)
		for _, name := range of {
			all[name] += " | names " + strings.Join(of, ",")
		}
	}
	return all
}

func fields(path string, st unix.Stat_t, root bool) []string {
	all := []string{fmt.Sprintf("mode %o", st.Mode), fmt.Sprintf("owner %d:%d", st.Uid, st.Gid)}
	if !root {
		all = append(all, fmt.Sprintf("mtime %d.%09d", st.Mtim.Sec, st.Mtim.Nsec))
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		all = append(all, fmt.Sprintf("data %d bytes %.8x %v", st.Size, sha256.Sum256(data), err))
		if st.Size >= 8<<20 {
			all = append(all, fmt.Sprint("holes ", st.Blocks*512 < st.Size/2))
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return append(all, fmt.Sprintf("target %q %v", target, err))
	case unix.S_IFCHR, unix.S_IFBLK:
		return append(all, fmt.Sprint("device ", st.Rdev))
	case unix.S_IFIFO, unix.S_IFSOCK:
		return all
	}
	return append(all, attributes(path)...)
}

// attributes returns the xattrs that users set, and the ACLs, which not every server lists.
func attributes(path string) (all []string) {
	list := make([]byte, 65536)
	n, _ := unix.Listxattr(path, list)
	names := strings.Split(string(list[:max(n, 0)]), "\x00")
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "user.") })
	names = append(names, "system.nfs4_acl", "system.posix_acl_access", "system.posix_acl_default")
	for _, name := range names {
		value := make([]byte, 65536)
		if n, err := unix.Getxattr(path, name, value); err == nil {
			all = append(all, fmt.Sprintf("%s %.8x", name, sha256.Sum256(value[:n])))
		}
	}
	return all
}
