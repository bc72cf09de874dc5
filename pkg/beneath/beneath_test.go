// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree makes a directory with an entry of each kind, and opens it.
func tree(t *testing.T) (string, Dir) {
	t.Helper()
	root := t.TempDir()
	outside := t.TempDir()
	err := errors.Join(
		os.MkdirAll(filepath.Join(root, "a/b"), 0o755),
		os.WriteFile(filepath.Join(root, "file"), []byte("content"), 0o644),
		os.Symlink("a", filepath.Join(root, "inside")),
		os.Symlink(outside, filepath.Join(root, "outside")),
		os.Symlink("../..", filepath.Join(root, "a/up")),
		unix.Mkfifo(filepath.Join(root, "fifo"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return root, d
}

// check fails the test unless err is a PathError with this name and errno; 0: no error.
func check(t *testing.T, what string, err error, name string, want unix.Errno) {
	t.Helper()
	if want == 0 {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	e, ok := errors.AsType[*os.PathError](err)
	if !ok || e.Path != name || e.Err != want {
		t.Errorf("%s: the error is %#v, want one for %q: %v", what, err, name, want)
	}
}

func TestResolve(t *testing.T) {
	_, d := tree(t)
	for path, want := range map[string]unix.Errno{
		"": 0, "a": 0, "a/b": 0, "a/../a/b": 0,
		"..": unix.EXDEV, "a/../..": unix.EXDEV, "/": unix.EXDEV, "/etc": unix.EXDEV,
		"inside": unix.ENOTDIR, "inside/b": unix.ELOOP, "outside": unix.ENOTDIR, "outside/x": unix.ELOOP, "a/up/x": unix.ELOOP,
		"file": unix.ENOTDIR, "file/x": unix.ENOTDIR, "fifo": unix.ENOTDIR, "x": unix.ENOENT,
	} {
		got, err := d.Resolve(path)
		check(t, path, err, path, want)
		if (got == None) != (want != 0) {
			t.Errorf("%q is %d", path, got)
		}
		got.Close()
	}
	root, err := OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, err = root.Resolve("proc")
	check(t, "a mount point", err, "proc", unix.EXDEV)
	self, err := OpenRoot("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	_, err = self.Resolve("cwd/x")
	check(t, "a magic link", err, "cwd/x", unix.ELOOP)
}

// TestDirFollowsRename renames an open directory, and replaces it by a link to another one.
func TestDirFollowsRename(t *testing.T) {
	root, d := tree(t)
	a, err := d.Resolve("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := errors.Join(d.Rename("a", d, "moved"), os.Symlink("outside", filepath.Join(root, "a")), a.Mkdir("new", 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "moved/new")); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	_, d := tree(t)
	for limit, want := range map[int64]string{100: "content", 7: "content", 3: "con"} {
		if got, st, err := d.Read("file", limit); err != nil || string(got) != want || st.Size != 7 {
			t.Errorf("with the limit %d: %q of %d bytes, %v", limit, got, st.Size, err)
		}
	}
	_, _, err := d.Read("inside", 100)
	check(t, "read a link", err, "inside", unix.ELOOP)
	f, err := Write(d, "new", unix.O_EXCL, []byte("of it"))
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	_, err = Write(d, "file", unix.O_EXCL, nil)
	check(t, "write it again", err, "file", unix.EEXIST)
	check(t, "link it again", d.Link("new", d, "file"), "file", unix.EEXIST)
	check(t, "link", d.Link("new", d, "second"), "", 0)
	if st, err := d.Stat("new"); err != nil || st.Nlink != 2 {
		t.Errorf("it has %d names, %v", st.Nlink, err)
	}
	check(t, "unlink", d.Unlink("second"), "", 0)
	check(t, "rmdir", d.Rmdir("a"), "a", unix.ENOTEMPTY)
	if readOnly, err := IsReadOnly(d); readOnly || err != nil {
		t.Errorf("it is read-only: %v, %v", readOnly, err)
	}
}

func TestNamesAndEntries(t *testing.T) {
	_, d := tree(t)
	var names, entries []string
	err := errors.Join(
		Names(d, func(name string) error { names = append(names, name); return nil }),
		Entries(d, func(name string, isDir bool) error {
			if isDir {
				name += "/"
			}
			entries = append(entries, name)
			return nil
		}))
	slices.Sort(names)
	slices.Sort(entries)
	if err != nil || strings.Join(names, " ") != "a fifo file inside outside" || strings.Join(entries, " ") != "a/ fifo file inside outside" {
		t.Errorf("%q, %q, %v", names, entries, err)
	}
	var now []string
	before, err1 := d.Stat(".")
	err = errors.Join(ReturnDelegation(d), Names(d, func(name string) error { now = append(now, name); return nil }))
	after, err2 := d.Stat(".")
	slices.Sort(now)
	if err := errors.Join(err, err1, err2); err != nil || !slices.Equal(now, names) || before.Mode != after.Mode {
		t.Errorf("now it lists %q (%v), and the mode is %o, not %o", now, err, after.Mode, before.Mode)
	}
	check(t, "names of nothing", Names(None, nil), "", 0)
	stop := errors.New("stop")
	n := 0
	err = Entries(d, func(string, bool) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("after %d entries: %v", n, err)
	}
	b, err := d.Resolve("a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for dir, want := range map[Dir]bool{d: false, b: true, None: true} {
		if empty, err := IsEmpty(dir); empty != want || err != nil {
			t.Errorf("empty: %v, %v", empty, err)
		}
	}
	check(t, "without path", withoutPath(&os.PathError{Op: "lstat", Path: "/proc/self/fd/7/x", Err: unix.EIO}, "/proc/self/fd/7"), "x", unix.EIO)
	check(t, "without path", withoutPath(&os.PathError{Op: "readdirent", Path: "/proc/self/fd/7", Err: unix.EIO}, "/proc/self/fd/7"), ".", unix.EIO)
}

// TestRemovedDirectory uses a directory that was removed after it was opened, and None.
func TestRemovedDirectory(t *testing.T) {
	_, d := tree(t)
	b, err := d.Resolve("a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := d.Resolve("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	check(t, "rmdir", a.Rmdir("b"), "", 0)
	check(t, "refresh", b.Refresh(), ".", unix.ESTALE)
	check(t, "names", Names(b, func(string) error { return nil }), ".", unix.ESTALE)
	check(t, "refresh none", None.Refresh(), "", 0)
	_, err = None.Resolve("a/b")
	check(t, "resolve in none", err, "a/b", unix.ENOENT)
	_, _, err = None.Read("a", 1)
	check(t, "read in none", err, "a", unix.ENOENT)
	check(t, "entries of none", Entries(None, nil), "", 0)
}
