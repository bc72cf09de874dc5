// SPDX-License-Identifier: Apache-2.0

//go:build !lab

package copytree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// heapInUse returns the size of the heap.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// linkedTree makes a directory with files that have further names in another directory.
func linkedTree(t *testing.T, files int, inside bool) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "links")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	others := filepath.Join(dir, "others")
	if inside {
		others = filepath.Join(dir, "tree/others")
	}
	must(t, os.MkdirAll(filepath.Join(dir, "tree/files"), 0o755))
	must(t, os.MkdirAll(others, 0o755))
	for i := range files {
		file := filepath.Join(dir, "tree/files", fmt.Sprintf("%08d", i))
		must(t, unix.Mknod(file, unix.S_IFREG|0o644, 0))
		must(t, os.Link(file, filepath.Join(others, fmt.Sprintf("%08d", i))))
	}
	return dir
}

// TestMemoryOfHardLinks limits the memory for a file with several names until all of them were seen,
// besides the name of 8 bytes, and checks that nothing is kept afterwards.
func TestMemoryOfHardLinks(t *testing.T) {
	const files = 7_500 // a map of this size has just grown, and is half empty
	for _, c := range []struct {
		inside bool
		most   int64
	}{{false, 100 + 10}, {true, 2}} {
		dir := linkedTree(t, files, c.inside)
		before := heapInUse()
		cp := &Copy{Workers: 1}
		must(t, copyTree(t, context.Background(), dir, cp))
		each := (heapInUse() - before) / files
		t.Logf("other names in the tree: %v: %d bytes for each file", c.inside, each)
		if each > c.most {
			t.Errorf("other names in the tree: %v: %d bytes for each file", c.inside, each)
		}
		if n := cp.Files.Load(); n != files {
			t.Errorf("%d of %d files were copied", n, files)
		}
		runtime.KeepAlive(cp)
	}
}

// TestLinksForget checks which files with several names are kept.
func TestLinksForget(t *testing.T) {
	var l links
	d := &directory{}
	enter := func(st *unix.Stat_t, birth uint32) (path string, first *firstCopy) {
		_, path, first = l.enter(st, birth)
		return path, first
	}
	a := &unix.Stat_t{Ino: 5, Nlink: 2}
	_, first := enter(a, 100)
	if first == nil {
		t.Fatal("the first name is reported as a further one")
	}
	if first.finish(d, "a", true); len(l.copying) != 0 {
		t.Error("a finished copy is still in progress")
	}
	if path, first := enter(a, 0); first != nil || path != "a" {
		t.Errorf("the second name is reported as the first, or the first is %q", path)
	}
	if l.countName(a); len(l.copied) != 0 {
		t.Error("the file is kept after all its names were seen")
	}
	_, first = enter(a, 100)
	first.finish(d, "old", true)
	old, _, _ := l.enter(a, 100)
	// That file is removed, with its other name, and a new file gets its inode number.
	if _, first = enter(a, 200); first == nil {
		t.Fatal("a new file is taken for the previous one with its inode number")
	}
	first.finish(d, "new", true)
	if l.forget(a, old); len(l.copied) != 1 {
		t.Error("the wrong file was removed")
	}
	if path, _ := enter(a, 200); path != "new" {
		t.Errorf("the first name is %q", path)
	}
	_, first = enter(&unix.Stat_t{Ino: 6, Nlink: 2}, 100)
	first.finish(d, "six", false)
	if _, first = enter(&unix.Stat_t{Ino: 6, Nlink: 2}, 100); first == nil {
		t.Error("a name is a link to a copy that was not made")
	}
}

// TestLinksCount gives a file names, and removes some, during the copy: the file is kept until as
// many names were seen as it had at most.
func TestLinksCount(t *testing.T) {
	for _, c := range []struct {
		nlinks []uint64 // link count at each name
		known  []bool   // after each name
	}{
		{[]uint64{3, 3, 3}, []bool{true, true, false}},
		{[]uint64{2, 3, 3}, []bool{true, true, false}},
		{[]uint64{3, 2, 2}, []bool{true, true, false}},
		{[]uint64{5, 2}, []bool{true, true}},
	} {
		var l links
		for i, n := range c.nlinks {
			if again := l.seenBefore(&unix.Stat_t{Ino: 5, Nlink: n}); again != (i > 0) {
				t.Errorf("%v: name %d is a further one: %v", c.nlinks, i, again)
			}
			if known := len(l.copied) != 0; known != c.known[i] {
				t.Errorf("%v: after name %d it is known: %v", c.nlinks, i, known)
			}
		}
	}
}

// TestNameTable uses more names in a directory than one table holds, and long ones.
func TestNameTable(t *testing.T) {
	var l links
	d := &directory{location: &location{&location{name: "a"}, "b"}}
	name := func(i uint64) string { return fmt.Sprint(strings.Repeat("x", int(i)%256), i) }
	const files = 3000
	for i := range uint64(files) {
		_, _, first := l.enter(&unix.Stat_t{Ino: i, Nlink: 2}, 1)
		first.finish(d, name(i), true)
	}
	for i := range uint64(files) {
		if _, path, _ := l.enter(&unix.Stat_t{Ino: i, Nlink: 2}, 1); path != "a/b/"+name(i) {
			t.Fatalf("the path of %d is %q", i, path)
		}
	}
}
