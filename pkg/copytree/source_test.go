// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// failing returns a fault that makes the first calls of a kind for a name fail.
func failing(call, name string, times int64, err error) func(call, name string) error {
	var n atomic.Int64
	return func(c, at string) error {
		if c == call && at == name && n.Add(1) <= times {
			return err
		}
		return nil
	}
}

// makeSmallTree makes a tree with an entry of each kind.
func makeSmallTree(t *testing.T, root string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(root, "dir/sub"), 0o755))
	must(t, unix.Chmod(filepath.Join(root, "dir"), 0o2750))
	for _, name := range []string{"file", "hard", "dir/a", "dir/b", "dir/sub/c", "dir/sub/d"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(name), 0o640))
	}
	must(t, os.Link(filepath.Join(root, "hard"), filepath.Join(root, "dir/hard too")))
	must(t, os.Link(filepath.Join(root, "hard"), filepath.Join(root, "dir/sub/hard three")))
	must(t, os.Symlink("nowhere", filepath.Join(root, "link")))
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o620))
}

// faultCases are calls that fail, with their names.
var faultCases = []struct{ call, name string }{
	{callOpen, "dir"}, {callStat, "dir"}, {callList, "dir"}, {callList, "sub"}, {callListRest, "dir"}, {callListRest, "sub"},
	{callOpen, "file"}, {callStat, "file"}, {callRead, "file"}, {callRead, "hard"}, {callOpen, "c"},
	{callLstat, "link"}, {callLstat, "fifo"}, {callOpen, "fifo"}, {callAttributes, ""},
}

// TestCopyRechecks makes one call report that its entry is gone. The entry exists, and must be
// in the copy.
func TestCopyRechecks(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		makeSmallTree(t, filepath.Join(g.Dir, "tree"))
		describe(t, filepath.Join(g.Dir, "tree")) // reads it
		want := describe(t, filepath.Join(g.Dir, "tree"))
		for i, f := range faultCases {
			for _, err := range []error{unix.ESTALE, unix.ENOENT} {
				for _, workers := range []int{1, 8} {
					target := filepath.Join(g.Dir, fmt.Sprintf("copy-%d-%v-%d", i, err, workers))
					must(t, os.Mkdir(target, 0o700))
					c := &Copy{Workers: workers, source: source{failing(f.call, f.name, 1, err)}}
					if err := copyInto(t, t.Context(), filepath.Join(g.Dir, "tree"), target, c); err != nil {
						t.Errorf("%v of %s %q: %v", err, f.call, f.name, err)
						continue
					}
					compare(t, want, describe(t, target))
					if c.Vanished.Load() != 0 || c.Files.Load() != 6 || c.Links.Load() != 2 || c.Dirs.Load() != 2 {
						t.Errorf("%v of %s %q: %d files, %d links, %d directories, %d vanished", err, f.call, f.name, c.Files.Load(), c.Links.Load(), c.Dirs.Load(), c.Vanished.Load())
					}
				}
			}
		}
	})
}

// TestCopyStaysStale makes every call report that an existing entry is gone: that is an error,
// because a copy without the entry is incomplete. For the tree itself one call is enough.
func TestCopyStaysStale(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		makeSmallTree(t, filepath.Join(g.Dir, "tree"))
		for i, f := range append(slices.Clone(faultCases), struct{ call, name string }{callList, "."}, struct{ call, name string }{callListRest, "."}, struct{ call, name string }{callStat, "."}) {
			if f.name == "hard" { // it may become a link to the copy of its other name
				continue
			}
			for _, want := range []error{unix.ESTALE, unix.ENOENT} {
				target := filepath.Join(g.Dir, fmt.Sprintf("copy-%d-%v", i, want))
				must(t, os.Mkdir(target, 0o700))
				times := int64(100)
				if f.name == "." {
					times = 1
				}
				c := &Copy{Workers: 4, source: source{failing(f.call, f.name, times, want)}}
				err := copyInto(t, t.Context(), filepath.Join(g.Dir, "tree"), target, c)
				var e *SourceError
				if !errors.Is(err, want) || !errors.As(err, &e) {
					t.Errorf("%v of %s %q: the error is %v", want, f.call, f.name, err)
				} else if f.name != "." && !strings.Contains(err.Error(), f.name) {
					t.Errorf("%v of %s %q: the error does not name it: %v", want, f.call, f.name, err)
				}
			}
		}
	})
}

// TestCopyRemovedOnServer removes an entry on the server before a call. That is not an error, and
// a directory that was copied in part has the mode of its source.
func TestCopyRemovedOnServer(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		for i, f := range []struct {
			call, name, removed string
			err                 error
		}{
			{callOpen, "file", "file", unix.ESTALE},
			{callRead, "file", "file", unix.ESTALE},
			{callLstat, "link", "link", unix.ENOENT},
			{callList, "dir", "dir", unix.ESTALE},
			{callListRest, "dir", "dir", unix.ESTALE},
			{callOpen, "dir", "dir", unix.ESTALE},
			{callOpen, "c", "dir", unix.ESTALE}, // with its parents
			{callOpen, "c", "dir/sub", unix.ENOENT},
		} {
			dir := fmt.Sprint("case-", i)
			must(t, os.Mkdir(filepath.Join(g.Dir, dir), 0o755))
			makeSmallTree(t, filepath.Join(g.Dir, dir, "tree"))
			server := filepath.Join(g.Server, dir, "tree", f.removed)
			fail := failing(f.call, f.name, 1, f.err)
			c := &Copy{Workers: 1, source: source{func(call, name string) error {
				err := fail(call, name)
				if err != nil {
					must(t, os.RemoveAll(server))
				}
				return err
			}}}
			if err := copyTree(t, context.Background(), filepath.Join(g.Dir, dir), c); err != nil {
				t.Errorf("%s %q: %v", f.call, f.name, err)
			}
			if c.Vanished.Load() == 0 {
				t.Errorf("%s %q: nothing is counted as vanished", f.call, f.name)
			}
			if info, err := os.Stat(filepath.Join(g.Dir, dir, "copy/dir")); err == nil && info.Mode() != os.ModeDir|os.ModeSetgid|0o750 {
				t.Errorf("%s %q: the directory has mode %v", f.call, f.name, info.Mode())
			}
			if data, err := os.ReadFile(filepath.Join(g.Dir, dir, "copy/hard")); err != nil || string(data) != "hard" {
				t.Errorf("%s %q: an existing file is not in the copy: %q, %v", f.call, f.name, data, err)
			}
		}
	})
}

// TestCopyRemovedTree removes the tree itself: that is always an error.
func TestCopyRemovedTree(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		for when, name := range map[string]string{callList: ".", callListRest: ".", callRead: "file"} {
			dir := filepath.Join(g.Dir, when)
			must(t, os.Mkdir(dir, 0o755))
			makeSmallTree(t, filepath.Join(dir, "tree"))
			c := &Copy{Workers: 1, source: source{func(call, at string) error {
				if call == when && at == name {
					must(t, os.RemoveAll(filepath.Join(g.Server, when, "tree")))
				}
				return nil
			}}}
			err := copyTree(t, context.Background(), dir, c)
			var e *SourceError
			if !isGone(err) || !errors.As(err, &e) {
				t.Errorf("the tree was removed at %s: the error is %v", when, err)
			}
		}
	})
}

// measure measures the directory "tree" in dir.
func measure(t *testing.T, dir string, m *Measurement) error {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "tree"))
	must(t, err)
	defer f.Close()
	return m.Run(t.Context(), int(f.Fd()))
}

// TestMeasureRechecks makes a call report that an existing entry is gone: it is counted or an
// error, but never skipped.
func TestMeasureRechecks(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		makeSmallTree(t, filepath.Join(g.Dir, "tree"))
		for _, f := range []struct {
			call, name string
			again      bool // a retry is possible
		}{
			{callOpen, "dir", true}, {callLstat, "file", true}, {callLstat, "dir", true},
			{callStat, "sub", false}, {callList, "dir", false}, {callListRest, "sub", false},
			{callStat, ".", false}, {callList, ".", false},
		} {
			m := &Measurement{Workers: 4, source: source{failing(f.call, f.name, 1, unix.ESTALE)}}
			err := measure(t, g.Dir, m)
			if f.again && (err != nil || m.Files.Load() != 8 || m.Dirs.Load() != 3 || m.Others.Load() != 2) {
				t.Errorf("%s %q: %v, %d files, %d directories, %d others", f.call, f.name, err, m.Files.Load(), m.Dirs.Load(), m.Others.Load())
			}
			if !f.again && !errors.Is(err, unix.ESTALE) {
				t.Errorf("%s %q: the error is %v", f.call, f.name, err)
			}
			m = &Measurement{Workers: 4, source: source{failing(f.call, f.name, 100, unix.ENOENT)}}
			if err := measure(t, g.Dir, m); !errors.Is(err, unix.ENOENT) {
				t.Errorf("%s %q, always: the error is %v", f.call, f.name, err)
			}
		}
		fail := failing(callList, "sub", 1, unix.ESTALE)
		m := &Measurement{Workers: 1, source: source{func(call, name string) error {
			err := fail(call, name)
			if err != nil {
				must(t, os.RemoveAll(filepath.Join(g.Server, "tree/dir")))
			}
			return err
		}}}
		if err := measure(t, g.Dir, m); err != nil {
			t.Errorf("a directory that is removed meanwhile: %v", err)
		}
	})
}
