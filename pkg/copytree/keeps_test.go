// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// extrasOf is extras for what is not to be opened.
func extrasOf(t *testing.T, path string) (text string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	names, err := list(fd)
	if unsupported(err) {
		return ""
	}
	must(t, err)
	for name := range strings.SplitSeq(names, "\x00") {
		if strings.HasPrefix(name, "system.") {
			value, err := get(fd, name)
			must(t, err)
			text += fmt.Sprintf(" %s=%x", name, value)
		}
	}
	return text
}

// TestCopyOfSpecialFiles has links and FIFOs with several names, and a FIFO and a device with
// access control lists.
func TestCopyOfSpecialFiles(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		at := func(name string) string { return filepath.Join(g.Dir, "tree", name) }
		must(t, os.MkdirAll(at("dir"), 0o755))
		must(t, os.Symlink("/etc/passwd", at("link")))
		must(t, os.Link(at("link"), at("dir/link")))
		must(t, unix.Mkfifo(at("fifo"), 0o640))
		must(t, os.Link(at("fifo"), at("dir/fifo")))
		listed := []string{"fifo"}
		if os.Getuid() == 0 {
			must(t, unix.Mknod(at("device"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
			must(t, os.Lchown(at("device"), 12, 34))
			listed = append(listed, "device")
		}
		for _, name := range listed {
			accessList(t, filepath.Join(g.Server, "tree", name))
		}
		c := &Copy{Workers: 4}
		must(t, copyOf(t, context.Background(), g.Dir, c))
		if c.Links.Load() != 2 || c.Symlinks.Load() != 1 || int(c.Special.Load()) != len(listed) {
			t.Errorf("%d links, %d symbolic links, %d special files", c.Links.Load(), c.Symlinks.Load(), c.Special.Load())
		}
		for _, name := range append(listed, "link") {
			var want, got, also unix.Stat_t
			must(t, unix.Lstat(at(name), &want))
			must(t, unix.Lstat(filepath.Join(g.Dir, "copy", name), &got))
			if want.Mode != got.Mode || want.Rdev != got.Rdev || want.Uid != got.Uid || want.Nlink != got.Nlink || want.Mtim != got.Mtim {
				t.Errorf("%s is\n\t%+v\nand should be\n\t%+v", name, got, want)
			}
			if name != "device" {
				must(t, unix.Lstat(filepath.Join(g.Dir, "copy/dir", name), &also))
				if also.Ino != got.Ino {
					t.Errorf("the names of %s are of two", name)
				}
			}
		}
		for _, name := range listed {
			if want, got := extrasOf(t, filepath.Join(g.Server, "tree", name)), extrasOf(t, filepath.Join(g.Server, "copy", name)); got != want {
				t.Errorf("%s has%s, and should have%s", name, got, want)
			}
		}
		if lists := extrasOf(t, filepath.Join(g.Server, "tree/fifo")); lists != "" && c.Plain() {
			t.Error("a tree with a list in it is called plain")
		}
	})
}
