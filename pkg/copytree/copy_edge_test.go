// SPDX-License-Identifier: Apache-2.0

//go:build !lab

package copytree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// methodsWithout returns Methods that leave out some methods to copy data.
func methodsWithout(clone, copy bool) *Methods {
	m := &Methods{}
	m.clone.unusable.Store(clone)
	m.copy.unusable.Store(copy)
	return m
}

// forEachMethod runs test with each method. If one is not supported, the copy uses the next.
func forEachMethod(t *testing.T, test func(t *testing.T, m *Methods)) {
	t.Helper()
	t.Run("clone", func(t *testing.T) { test(t, &Methods{}) })
	t.Run("copy", func(t *testing.T) { test(t, methodsWithout(true, false)) })
	t.Run("write", func(t *testing.T) { test(t, methodsWithout(true, true)) })
}

// openPair opens the directories "tree" and "copy" in dir for calls of unexported methods.
func openPair(t *testing.T, dir string) *directory {
	t.Helper()
	d := &directory{}
	var err error
	d.source, err = os.Open(filepath.Join(dir, "tree"))
	must(t, err)
	t.Cleanup(func() { _ = d.source.Close() })
	target, err := os.Open(filepath.Join(dir, "copy"))
	must(t, err)
	t.Cleanup(func() { _ = target.Close() })
	d.target = int(target.Fd())
	return d
}

// kinds create a file of each kind.
var kinds = map[uint8]func(path string) error{
	unix.DT_REG:  func(path string) error { return os.WriteFile(path, []byte("some"), 0o644) },
	unix.DT_DIR:  func(path string) error { return os.Mkdir(path, 0o755) },
	unix.DT_LNK:  func(path string) error { return os.Symlink("/etc/passwd", path) },
	unix.DT_FIFO: func(path string) error { return unix.Mkfifo(path, 0o644) },
}

// TestCopyChangedKind gives each entry another kind than the directory reports, as if it were
// replaced in between: it is copied as what it is.
func TestCopyChangedKind(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		must(t, os.Mkdir(filepath.Join(g.Dir, "tree"), 0o755))
		must(t, os.Mkdir(filepath.Join(g.Dir, "copy"), 0o755))
		d := openPair(t, g.Dir)
		for reported := range kinds {
			for is, make := range kinds {
				name := fmt.Sprint(reported, " is ", is)
				must(t, make(filepath.Join(g.Dir, "tree", name)))
				c := &Copy{Workers: 1, Methods: &Methods{}, root: d.target}
				(&entry{copy: c, dir: d, name: name}).run(t.Context(), reported)
				must(t, c.firstFailure())
				var st unix.Stat_t
				must(t, unix.Lstat(filepath.Join(g.Dir, "copy", name), &st))
				if uint8(st.Mode&unix.S_IFMT>>12) != is || c.Vanished.Load() != 0 {
					t.Errorf("%s: the copy has mode %o, and %d entries vanished", name, st.Mode, c.Vanished.Load())
				}
			}
		}
		c := &Copy{Workers: 1, Methods: &Methods{}, root: d.target}
		for reported := range kinds {
			(&entry{copy: c, dir: d, name: "not there"}).run(t.Context(), reported)
		}
		must(t, c.firstFailure())
		if int(c.Vanished.Load()) != len(kinds) {
			t.Errorf("%d entries vanished", c.Vanished.Load())
		}
	})
}

// TestCopyDuplicateNames lets a directory return each name twice, the second time of another kind,
// which is possible if it changes while it is read. The first copy is kept; nothing hangs.
func TestCopyDuplicateNames(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		must(t, os.Mkdir(filepath.Join(g.Dir, "tree"), 0o755))
		must(t, os.Mkdir(filepath.Join(g.Dir, "copy"), 0o755))
		d := openPair(t, g.Dir)
		c := &Copy{Workers: 1, Methods: &Methods{}, root: d.target}
		for first, make := range kinds {
			for second, again := range kinds {
				name := fmt.Sprint(first, " then ", second)
				path := filepath.Join(g.Dir, "tree", name)
				must(t, make(path))
				(&entry{copy: c, dir: d, name: name}).run(t.Context(), first)
				must(t, os.Remove(path))
				must(t, again(path))
				if second == unix.DT_REG {
					must(t, os.WriteFile(path, []byte("other"), 0o600))
				}
				(&entry{copy: c, dir: d, name: name}).run(t.Context(), second)
				must(t, c.firstFailure())
				var st unix.Stat_t
				copied := filepath.Join(g.Dir, "copy", name)
				must(t, unix.Lstat(copied, &st))
				if uint8(st.Mode&unix.S_IFMT>>12) != first {
					t.Errorf("%s: the copy has mode %o", name, st.Mode)
				}
				if first != unix.DT_REG { // a read of a FIFO would wait
					continue
				}
				if data, _ := os.ReadFile(copied); string(data) != "some" {
					t.Errorf("%s: the copy holds %q", name, data)
				}
			}
		}
		must(t, os.WriteFile(filepath.Join(g.Dir, "tree/hard"), []byte("some"), 0o644))
		for _, name := range []string{"too", "three"} { // the last one is not copied
			must(t, os.Link(filepath.Join(g.Dir, "tree/hard"), filepath.Join(g.Dir, "tree", name)))
		}
		for _, name := range []string{"hard", "too", "too", "hard"} {
			(&entry{copy: c, dir: d, name: name}).run(t.Context(), unix.DT_REG)
		}
		must(t, c.firstFailure())
		if c.Links.Load() != 1 {
			t.Errorf("%d links were made", c.Links.Load())
		}
	})
}

// TestDirectoryBegin lets only one worker make a name at a time.
func TestDirectoryBegin(t *testing.T) {
	d := &directory{}
	if !d.begin("a") || d.begin("a") || !d.begin("b") {
		t.Error("begin allows a name twice, or refuses another one")
	}
	if d.end("a"); !d.begin("a") {
		t.Error("a name is busy after end")
	}
}

// TestCopyTruncatedFile truncates a file after it was opened: the copy has the new size.
func TestCopyTruncatedFile(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		forEachMethod(t, func(t *testing.T, m *Methods) {
			dir, err := os.MkdirTemp(g.Dir, "cut")
			must(t, err)
			must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
			content := bytes.Repeat([]byte("mooring!"), 256<<10)
			for _, name := range []string{"full", "with holes"} {
				path := filepath.Join(dir, "tree", name)
				must(t, os.WriteFile(path, content, 0o644))
				if name == "with holes" {
					must(t, os.Truncate(path, 64<<20))
				}
			}
			c := &Copy{Workers: 1, Methods: m, Step: func(what string) {
				if what == "copy a file's data" {
					for _, name := range []string{"full", "with holes"} {
						must(t, os.Truncate(filepath.Join(dir, "tree", name), 1<<20))
					}
				}
			}}
			must(t, copyTree(t, context.Background(), dir, c))
			for _, name := range []string{"full", "with holes"} {
				if data, err := os.ReadFile(filepath.Join(dir, "copy", name)); err != nil || !bytes.Equal(data, content[:1<<20]) {
					t.Errorf("%s: %d bytes, %v", name, len(data), err)
				}
			}
		})
	})
}

// TestCopyRemovedFile removes a file, on the server, after it was opened.
func TestCopyRemovedFile(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		must(t, os.Mkdir(filepath.Join(g.Dir, "tree"), 0o755))
		for _, name := range []string{"gone", "stays"} {
			must(t, os.WriteFile(filepath.Join(g.Dir, "tree", name), bytes.Repeat([]byte("mooring!"), 1000), 0o644))
		}
		must(t, os.Link(filepath.Join(g.Dir, "tree/gone"), filepath.Join(g.Dir, "tree/gone too")))
		c := &Copy{Workers: 1, Step: func(what string) {
			if what == "make a file" {
				_ = os.Remove(filepath.Join(g.Server, "tree/gone"))
				_ = os.Remove(filepath.Join(g.Server, "tree/gone too"))
			}
		}}
		must(t, copyTree(t, context.Background(), g.Dir, c))
		copied, err := os.ReadDir(filepath.Join(g.Dir, "copy"))
		must(t, err)
		for _, e := range copied { // complete, or missing
			if info, err := e.Info(); err != nil || info.Size() != 8000 {
				t.Errorf("%s: %v, %v", e.Name(), info, err)
			}
		}
		if _, err := os.Stat(filepath.Join(g.Dir, "copy/stays")); err != nil {
			t.Error(err)
		}
		if n := c.Files.Load() + c.Links.Load() + c.Vanished.Load(); n != 3 {
			t.Errorf("%d of 3 files were counted", n)
		}
	})
}

// TestMethodRecord checks when a method to copy is given up.
func TestMethodRecord(t *testing.T) {
	many := func(err error, n int) []error { return slices.Repeat([]error{err}, n) }
	for _, c := range []struct {
		errs []error
		want bool
	}{
		{many(unix.EOPNOTSUPP, 1), false},
		{many(unix.EXDEV, 1), false},
		{many(unix.ENOTTY, 1), false},
		{many(unix.EINVAL, maxInvalid-1), true},
		{many(unix.EINVAL, maxInvalid), false},
		{append([]error{nil}, many(unix.EINVAL, 10*maxInvalid)...), true},
		{many(unix.ENOSPC, 10*maxInvalid), true},
		{many(unix.EDQUOT, 10*maxInvalid), true},
		{many(unix.EIO, 10*maxInvalid), true},
	} {
		var m method
		for _, err := range c.errs {
			if got := m.record(err); got != err {
				t.Errorf("record(%v) returns %v", err, got)
			}
		}
		if m.usable() != c.want {
			t.Errorf("after %d results, the last one %v: usable is %v", len(c.errs), c.errs[len(c.errs)-1], m.usable())
		}
	}
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT, unix.EIO, context.Canceled} {
		if isRefused(err) {
			t.Errorf("after %v another method is tried", err)
		}
	}
}

// TestCopyMaxDepth copies as many nested directories as a path can have, and fails for more than
// maxTreeDepth.
func TestCopyMaxDepth(t *testing.T) {
	for _, c := range []struct {
		levels int
		fine   bool
	}{{2000, true}, {maxTreeDepth + 1, false}} {
		dir, err := os.MkdirTemp("/dev/shm", "deep")
		must(t, err)
		for _, name := range []string{"tree", "copy"} {
			must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			defer remove(t, context.Background(), "/dev/shm", filepath.Base(dir))
		}
		makeDeepDirs(t, filepath.Join(dir, "tree"), c.levels, "d")
		cp := &Copy{Workers: 2}
		err = copyInto(t, context.Background(), filepath.Join(dir, "tree"), filepath.Join(dir, "copy"), cp)
		switch {
		case c.fine && (err != nil || cp.Dirs.Load() != int64(c.levels) || cp.Links.Load() != 1):
			t.Errorf("%d levels: %d directories, %d links, %v", c.levels, cp.Dirs.Load(), cp.Links.Load(), err)
		case !c.fine && !errors.Is(err, unix.ENAMETOOLONG) && !errors.Is(err, unix.EMFILE):
			t.Errorf("%d levels: %v", c.levels, err)
		case err != nil && len(err.Error()) > 600:
			t.Errorf("%d levels: the error has %d bytes", c.levels, len(err.Error()))
		}
	}
}

// TestMemoryDoesNotGrow copies a directory ten times as large as another. It compares the median
// of the live heap after garbage collections: on a busy machine a single collection may take so
// long that many new objects count as live.
func TestMemoryDoesNotGrow(t *testing.T) {
	var usual [2]uint64
	for i, entries := range []int{10_000, 100_000} {
		dir, err := os.MkdirTemp("/dev/shm", "memory")
		must(t, err)
		defer os.RemoveAll(dir)
		must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
		for j := range entries {
			must(t, unix.Mknod(filepath.Join(dir, "tree", fmt.Sprint(j)), unix.S_IFREG|0o644, 0))
		}
		c := &Copy{Workers: 16}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
			var found []uint64
			for {
				runtime.GC()
				metrics.Read(live)
				found = append(found, live[0].Value.Uint64())
				select {
				case <-stop:
					slices.Sort(found)
					usual[i] = found[len(found)/2]
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
		must(t, copyTree(t, context.Background(), dir, c))
		close(stop)
		<-done
		f, err := os.Open(filepath.Join(dir, "copy"))
		must(t, err)
		names, err := f.Readdirnames(-1)
		must(t, errors.Join(err, f.Close()))
		if len(names) != entries {
			t.Errorf("the copy has %d of %d entries", len(names), entries)
		}
	}
	t.Logf("%d KiB with 10,000 entries, %d KiB with 100,000", usual[0]>>10, usual[1]>>10)
	if usual[1] > usual[0]+1<<20 {
		t.Errorf("%d bytes with 10,000 entries, %d with 100,000", usual[0], usual[1])
	}
}
