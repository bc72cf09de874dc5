// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// copyTree copies the directory "tree" in dir to "copy" there, with c.
func copyTree(t *testing.T, ctx context.Context, dir string, c *Copy) error {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, "copy"), 0o700))
	return copyInto(t, ctx, filepath.Join(dir, "tree"), filepath.Join(dir, "copy"), c)
}

func copyInto(t *testing.T, ctx context.Context, source, target string, c *Copy) error {
	t.Helper()
	from, err := os.Open(source)
	must(t, err)
	defer from.Close()
	to, err := os.Open(target)
	must(t, err)
	defer to.Close()
	return c.Run(ctx, int(from.Fd()), int(to.Fd()))
}

// describe returns a description of every entry of a tree, by its path. Times are those before the
// entry is read.
func describe(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	inodes := map[uint64]string{}
	must(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		kind := st.Mode & unix.S_IFMT
		if kind == unix.S_IFSOCK {
			return nil // never copied
		}
		text := fmt.Sprintf("mode %o owner %d:%d modified %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if kind != unix.S_IFDIR {
			if _, met := inodes[st.Ino]; !met {
				inodes[st.Ino] = name
			}
			text += fmt.Sprintf(" size %d links %d file %q", st.Size, st.Nlink, inodes[st.Ino])
			if st.Nlink == 1 { // else it was already read by its other name
				text += fmt.Sprintf(" accessed %d.%09d", st.Atim.Sec, st.Atim.Nsec)
			}
		}
		switch kind {
		case unix.S_IFLNK:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" to %q", link)
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" content %x", sha256.Sum256(data))
		}
		if kind == unix.S_IFREG || kind == unix.S_IFDIR {
			text += attributesOf(t, path)
		}
		all[name] = text
		return nil
	}))
	return all
}

// attributesOf describes the extended attributes and access control lists of a file.
func attributesOf(t *testing.T, path string) (text string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	names, err := listAttributes(int(f.Fd()))
	if isUnsupported(err) {
		return ""
	}
	must(t, err)
	for _, name := range slices.Sorted(strings.SplitSeq(names, "\x00")) {
		if strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.") {
			value, err := getAttribute(int(f.Fd()), name)
			must(t, err)
			text += fmt.Sprintf(" %s=%x", name, value)
		}
	}
	return text
}

// compare fails the test for each entry that differs.
func compare(t *testing.T, want, got map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%.80q is\n\t%s\nand should be\n\t%s", name, got[name], want[name])
		}
	}
	for name := range got {
		if want[name] == "" {
			t.Errorf("%q should not exist", name)
		}
	}
}

// makeFullTree makes a tree with everything that a tree can contain.
func makeFullTree(t *testing.T, root string) {
	t.Helper()
	must(t, os.Mkdir(root, 0o755))
	at := func(name string) string { return filepath.Join(root, name) }
	for name, mode := range map[string]uint32{"plain": 0o644, "none": 0, "suid": 0o6755, "sticky": 0o1777, "empty": 0o600, "new\nline": 0o640, "bad\xff\xfeutf8": 0o604, strings.Repeat("x", 255): 0o666} {
		data := []byte(strings.Repeat(name+"\n", 700))
		if name == "empty" {
			data = nil
		}
		must(t, os.WriteFile(at(name), data, 0o600))
		must(t, unix.Chmod(at(name), mode))
	}
	for name, mode := range map[string]uint32{"dir": 0o755, "empty dir": 0o700, "setgid": 0o2775, "open": 0o1777, "closed": 0, "read only": 0o555} {
		must(t, os.Mkdir(at(name), 0o755))
		if name == "read only" || name == "closed" {
			must(t, os.WriteFile(at(name+"/inside"), []byte(name), 0o600))
		}
		must(t, unix.Chmod(at(name), mode))
	}
	makeDeepDirs(t, at("dir"), 300, "level")

	must(t, os.Link(at("plain"), at("setgid/hard")))
	must(t, os.Link(at("plain"), at("open/hard too")))
	must(t, os.Symlink("/etc/passwd", at("absolute")))
	must(t, os.Symlink("no/such/thing", at("dangling")))
	must(t, os.Symlink("../../..", at("upwards")))
	must(t, os.Symlink(strings.Repeat("long/", 200), at("long link")))
	must(t, unix.Mkfifo(at("fifo"), 0o620))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	must(t, os.Chdir(root)) // for a short path of the socket
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "socket"}))
	must(t, unix.Close(fd))

	sparse, err := os.Create(at("sparse"))
	must(t, err)
	must(t, sparse.Truncate(16<<20))
	for _, offset := range []int64{0, 5 << 20, 12 << 20} {
		_, err = sparse.WriteAt(bytes.Repeat([]byte("data"), 16<<10), offset)
		must(t, err)
	}
	must(t, sparse.Close())
	hole, err := os.Create(at("hole"))
	must(t, err)
	must(t, hole.Truncate(32<<20))
	must(t, hole.Close())

	must(t, os.WriteFile(at("attributes"), []byte("x"), 0o644))
	for _, name := range []string{"attributes", "dir"} {
		if err := unix.Setxattr(at(name), "user.mooring", []byte("kept \x00 whole"), 0); err != nil && !isUnsupported(err) {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		must(t, os.Lchown(at("plain"), 1234, 5678))
		must(t, os.Lchown(at("dangling"), 42, 43))
		must(t, os.Lchown(at("fifo"), 44, 45))
		must(t, os.Lchown(at("setgid"), 99, 100))
		must(t, unix.Chmod(at("setgid"), 0o2775))
		must(t, os.Lchown(at("suid"), 7, 8))
		must(t, unix.Chmod(at("suid"), 0o6755))
		setACL(t, at("attributes"))
	}
	old := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 123_456_789}, {Sec: 1_100_000_000, Nsec: 987_654_321}}
	for _, name := range []string{"plain", "dangling", "fifo", "sparse", "setgid", "closed", "empty dir", "."} {
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), old, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// makeDeepDirs makes nested directories, and in the last one a file with two names. It uses
// descriptors, because the path may be too long for any call.
func makeDeepDirs(t *testing.T, dir string, levels int, name string) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	for i := range levels {
		each := fmt.Sprint(name, i)
		must(t, unix.Mkdirat(at, each, 0o755))
		next, err := unix.Openat(at, each, unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(at))
		at = next
	}
	bottom, err := unix.Openat(at, "bottom", unix.O_CREAT|unix.O_WRONLY, 0o600)
	must(t, err)
	_, err = unix.Write(bottom, []byte("deep"))
	must(t, err)
	must(t, unix.Close(bottom))
	must(t, unix.Linkat(at, "bottom", at, "bottom too", 0))
	must(t, unix.Close(at))
}

// TestCopyDeepTree copies a tree whose paths are too long for a system call.
func TestCopyDeepTree(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		const levels = 300
		name := "a directory with a long name "
		must(t, os.Mkdir(filepath.Join(g.Dir, "tree"), 0o755))
		makeDeepDirs(t, filepath.Join(g.Dir, "tree"), levels, name)
		c := &Copy{Workers: 4}
		must(t, copyTree(t, context.Background(), g.Dir, c))
		at, err := unix.Open(filepath.Join(g.Dir, "copy"), unix.O_PATH|unix.O_DIRECTORY, 0)
		must(t, err)
		for i := range levels {
			next, err := unix.Openat(at, fmt.Sprint(name, i), unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			must(t, unix.Close(at))
			at = next
		}
		var st [2]unix.Stat_t
		for i, name := range []string{"bottom", "bottom too"} {
			must(t, unix.Fstatat(at, name, &st[i], 0))
		}
		must(t, unix.Close(at))
		if st[0].Ino != st[1].Ino || st[0].Size != 4 {
			t.Errorf("the files in the last directory are %+v", st)
		}
		for _, tree := range []string{"tree", "copy"} { // os.RemoveAll is slow
			if _, err := remove(t, context.Background(), g.Dir, tree); err != nil {
				t.Error(err)
			}
		}
	})
}

// setACL lets user 4321 read a file, if the file system supports access control lists.
func setACL(t *testing.T, path string) {
	t.Helper()
	// struct posix_acl_xattr: version 2; entries of tag, permissions, id (acl(5)).
	posix := []byte{2, 0, 0, 0}
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 4, 4321}, {4, 4, ^uint32(0)}, {16, 4, ^uint32(0)}, {32, 4, ^uint32(0)}} {
		posix = append(posix, byte(e[0]), 0, byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
	}
	if err := unix.Setxattr(path, "system.posix_acl_access", posix, 0); err != nil && !isUnsupported(err) {
		t.Fatal(err)
	}
}

// withoutDelegations runs do while the lab's server grants no delegations. Over NFS 4.2 the server of Linux 7.2
// gives a file whose times were set under a delegation the time at which that ends, seconds later.
func withoutDelegations(t *testing.T, do func()) {
	t.Helper()
	must(t, leases("0"))
	defer func() { must(t, leases("1")) }()
	do()
}

// leases makes the lab's server grant delegations ("1") or none ("0"): in knfsd they are leases (fcntl(2)).
func leases(enable string) error {
	return os.WriteFile("/proc/sys/fs/leases-enable", []byte(enable), 0)
}

// TestCopyEqualsSource compares source and copy, entry by entry.
func TestCopyEqualsSource(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		for _, workers := range []int{1, 16} {
			t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
				dir, err := os.MkdirTemp(g.Dir, "fidelity")
				must(t, err)
				defer os.Chdir("/")
				if g.Server == g.Dir {
					makeFullTree(t, filepath.Join(dir, "tree"))
				} else {
					withoutDelegations(t, func() { makeFullTree(t, filepath.Join(dir, "tree")) })
				}
				if os.Getuid() == 0 && g.Server != g.Dir { // NFSv4 shows it as nfs4_acl
					setACL(t, filepath.Join(g.Server, filepath.Base(dir), "tree/attributes"))
				}
				describe(t, filepath.Join(dir, "tree")) // reads it once
				must(t, os.Chtimes(filepath.Join(dir, "tree"), time.Unix(1_000_000_000, 5), time.Unix(1_100_000_000, 6)))
				want := describe(t, filepath.Join(dir, "tree"))
				c := &Copy{Workers: workers}
				must(t, copyTree(t, context.Background(), dir, c))
				compare(t, want, describe(t, filepath.Join(dir, "copy")))
				if n := c.Skipped.Load(); n != 1 {
					t.Errorf("%d entries were skipped, want 1: the socket", n)
				}
				if c.Vanished.Load() != 0 {
					t.Errorf("%d entries vanished", c.Vanished.Load())
				}
				for _, name := range []string{"sparse", "hole"} { // as the server sees them
					var st unix.Stat_t
					must(t, unix.Stat(filepath.Join(g.Server, filepath.Base(dir), "copy", name), &st))
					if st.Blocks*512 > 4<<20 {
						t.Errorf("the copy of %s, a file with holes, occupies %d bytes", name, st.Blocks*512)
					}
				}
			})
		}
	})
}

// TestCopyChangingTree lets tenants change everything during the copy. The copy has all stable
// files and nothing from outside the tree, and it does not hang.
func TestCopyChangingTree(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		outside := filepath.Join(g.Dir, "outside")
		must(t, os.Mkdir(outside, 0o755))
		must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
		tree := filepath.Join(g.Dir, "tree")
		must(t, os.MkdirAll(filepath.Join(tree, "busy"), 0o755))
		for i := range 50 {
			must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint("stable-", i)), fmt.Append(nil, "stable ", i), 0o644))
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				at := filepath.Join(tree, "busy", fmt.Sprint(i%7))
				_ = os.RemoveAll(at)
				switch i % 6 {
				case 0:
					_ = os.WriteFile(at, []byte(strings.Repeat("x", i%5000)), 0o644)
				case 1:
					_ = os.Symlink(outside, at)
				case 2:
					_ = os.Symlink(filepath.Join(outside, "secret"), at)
				case 3:
					_ = unix.Mkfifo(at, 0o644)
				case 4:
					_ = os.MkdirAll(filepath.Join(at, "deeper"), 0o755)
				case 5:
					_ = os.Rename(filepath.Join(tree, "busy", fmt.Sprint((i+1)%7)), at)
				}
			}
		}()
		for i := range 5 {
			target := filepath.Join(g.Dir, fmt.Sprint("copy-", i))
			must(t, os.Mkdir(target, 0o700))
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			c := &Copy{Workers: 8}
			if err := copyInto(t, ctx, tree, target, c); err != nil {
				t.Errorf("copy %d: %v", i, err)
			}
			cancel()
			for j := range 50 {
				if data, err := os.ReadFile(filepath.Join(target, fmt.Sprint("stable-", j))); err != nil || string(data) != fmt.Sprint("stable ", j) {
					t.Errorf("copy %d, file %d: %q, %v", i, j, data, err)
				}
			}
			must(t, filepath.WalkDir(target, func(path string, e fs.DirEntry, err error) error {
				if err == nil && e.Name() == "secret" {
					t.Errorf("copy %d contains %s, which is from outside the tree", i, path)
				}
				return err
			}))
		}
		close(stop)
		<-done
	})
}

// TestCopyStops ends the context of a copy: the copy ends soon after that.
func TestCopyStops(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		tree := filepath.Join(g.Dir, "tree")
		must(t, os.Mkdir(tree, 0o755))
		for i := range 500 {
			must(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), []byte("some"), 0o644))
		}
		ctx, cancel := context.WithCancel(context.Background())
		n := 0
		c := &Copy{Workers: 1, Step: func(string) {
			if n++; n == 100 {
				cancel()
			}
		}}
		if err := copyTree(t, ctx, g.Dir, c); !errors.Is(err, context.Canceled) {
			t.Errorf("the copy ended with %v", err)
		}
		if got := c.Files.Load(); got == 0 || got > 100 {
			t.Errorf("%d files were copied", got)
		}
	})
}

// TestMeasure counts a tree.
func TestMeasure(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		tree := filepath.Join(g.Dir, "tree")
		must(t, os.MkdirAll(filepath.Join(tree, "a/b"), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, "a/file"), make([]byte, 10_000), 0o644))
		must(t, os.Link(filepath.Join(tree, "a/file"), filepath.Join(tree, "a/b/again")))
		must(t, os.Symlink("x", filepath.Join(tree, "12345")))
		f, err := os.Open(tree)
		must(t, err)
		defer f.Close()
		m := &Measurement{Workers: 4}
		must(t, m.Run(context.Background(), int(f.Fd())))
		if m.Files.Load() != 2 || m.Dirs.Load() != 3 || m.Others.Load() != 1 || m.Bytes.Load() != 10_001 || m.Allocated.Load() < 10_000 {
			t.Errorf("%d files, %d directories, %d others, %d bytes, %d allocated", m.Files.Load(), m.Dirs.Load(), m.Others.Load(), m.Bytes.Load(), m.Allocated.Load())
		}
	})
}
