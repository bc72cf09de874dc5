// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

func remove(t *testing.T, ctx context.Context, dir, name string) (*Removal, error) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &Removal{Workers: 8}
	return r, r.Remove(ctx, int(f.Fd()), name)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemoveTree(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) { testRemoveTree(t, g.Dir) })
}

// TestRemoveContent empties a deep directory, and keeps the directory itself.
func TestRemoveContent(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(append([]string{dir, "tree"}, strings.Split(strings.Repeat("d", 3*maxOpenDepth), "")...)...)
	must(t, os.MkdirAll(deep, 0o755))
	for _, name := range []string{"tree/file", "tree/d/file", "beside"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	must(t, os.WriteFile(filepath.Join(deep, "file"), nil, 0o644))
	for _, want := range []int64{3 + 3*maxOpenDepth, 0} {
		r, err := remove(t, context.Background(), filepath.Join(dir, "tree"), ".")
		must(t, err)
		if got := r.Entries.Load(); got != want {
			t.Errorf("%d entries were removed, want %d", got, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*/*"))
	must(t, err)
	names, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 0 || len(names) != 2 {
		t.Errorf("the remaining entries are %q and %v", left, names)
	}
}

func testRemoveTree(t *testing.T, dir string) {
	keep := filepath.Join(dir, "keep")
	must(t, os.MkdirAll(filepath.Join(keep, "inside"), 0o755))
	must(t, os.WriteFile(filepath.Join(keep, "file"), []byte("precious"), 0o644))
	tree := filepath.Join(dir, "tree")
	for i := range 20 {
		sub := filepath.Join(tree, fmt.Sprint("d", i), "e")
		must(t, os.MkdirAll(sub, 0o755))
		for j := range 100 {
			must(t, os.WriteFile(filepath.Join(sub, fmt.Sprint("f", j)), nil, 0))
		}
		must(t, os.Symlink(keep, filepath.Join(sub, "link to a directory")))
		must(t, os.Symlink(filepath.Join(keep, "file"), filepath.Join(sub, "link to a file")))
		must(t, os.Link(filepath.Join(keep, "file"), filepath.Join(sub, "hard link")))
		must(t, unix.Mkfifo(filepath.Join(sub, "fifo\n\xff"), 0o600))
	}
	if os.Getuid() == 0 { // root ignores the mode
		must(t, os.Chmod(filepath.Join(tree, "d0"), 0o000))
	}

	r, err := remove(t, context.Background(), dir, "tree")
	must(t, err)
	if got, want := r.Entries.Load(), int64(1+20*(2+100+4)); got != want {
		t.Errorf("%d entries were removed, want %d", got, want)
	}
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(keep, "file")); err != nil || string(data) != "precious" {
		t.Errorf("the target of a link was changed: %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(keep, "inside")); err != nil {
		t.Error(err)
	}
}

func TestRemoveOtherKinds(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "target"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "target", "f"), nil, 0o600))
	must(t, os.Symlink("target", filepath.Join(dir, "link")))
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, name := range []string{"link", "file", "absent"} {
		if _, err := remove(t, context.Background(), dir, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "target", "f")); err != nil {
		t.Errorf("the link was followed: %v", err)
	}
}

func TestRemoveDeepTree(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) { testRemoveDeepTree(t, g.Dir) })
}

func testRemoveDeepTree(t *testing.T, dir string) {
	at, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	must(t, err)
	name := "tree"
	for range 20 * maxOpenDepth { // far more than a path can have
		must(t, unix.Mkdirat(at, name, 0o755))
		down, err := unix.Openat(at, name, unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(at))
		at, name = down, strings.Repeat("d", 20)
	}
	must(t, unix.Close(at))
	_, err = remove(t, context.Background(), dir, "tree")
	must(t, err)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRemoveStops(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "tree", "a"), 0o755))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := remove(t, ctx, dir, "tree"); err == nil {
		t.Error("a stopped removal reports success")
	}
	if _, err := os.Stat(filepath.Join(dir, "tree", "a")); err != nil {
		t.Error("a stopped removal went on")
	}
}

// TestRemoveReportsFailure removes from procfs, where every removal fails.
func TestRemoveReportsFailure(t *testing.T) {
	r, err := remove(t, context.Background(), "/proc/self", "fdinfo")
	if err == nil || !strings.Contains(err.Error(), "remove") || !errors.Is(err, unix.EPERM) {
		t.Errorf("the error is %v", err)
	}
	if n := r.Entries.Load(); n != 0 {
		t.Errorf("%d entries are counted as removed", n)
	}
}

// TestRemoveChecksServer makes the first call report that the tree, or an entry in it, does not
// exist, as from the client's cache: Remove succeeds only after the tree is gone.
func TestRemoveChecksServer(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		for _, name := range []string{"tree", "dir", "file"} {
			must(t, os.MkdirAll(filepath.Join(g.Dir, "tree/dir"), 0o755))
			must(t, os.WriteFile(filepath.Join(g.Dir, "tree/dir/file"), nil, 0o600))
			f, err := os.Open(g.Dir)
			must(t, err)
			r := &Removal{Workers: 4, source: source{failing(callRemove, name, 1, unix.ENOENT)}}
			if err := r.Remove(t.Context(), int(f.Fd()), "tree"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := os.Lstat(filepath.Join(g.Server, "tree")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the tree is reported as removed: %v", name, err)
			}
			must(t, f.Close())
		}
		must(t, os.MkdirAll(filepath.Join(g.Dir, "tree"), 0o755))
		f, err := os.Open(g.Dir)
		must(t, err)
		defer f.Close()
		never := func(call, name string) error {
			if call == callRemove {
				return unix.ENOENT
			}
			return nil
		}
		noAnswer := func(call, name string) error {
			if call == callRecheck {
				return unix.EIO
			}
			return never(call, name)
		}
		for want, fault := range map[error]func(call, name string) error{unix.ESTALE: never, unix.EIO: noAnswer} {
			r := &Removal{Workers: 4, source: source{fault}}
			if err := r.Remove(t.Context(), int(f.Fd()), "tree"); !errors.Is(err, want) {
				t.Errorf("the error is %v, want %v", err, want)
			}
		}
	})
}

// TestRemoveDeepTreeInPlace removes a deep tree whose directories cannot be moved up.
func TestRemoveDeepTreeInPlace(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
	makeDeepDirs(t, filepath.Join(dir, "tree"), 5*maxOpenDepth, "d")
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	r := &Removal{Workers: 4, source: source{func(call, _ string) error {
		if call == callMove {
			return unix.EXDEV
		}
		return nil
	}}}
	must(t, r.Remove(t.Context(), int(f.Fd()), "tree"))
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
