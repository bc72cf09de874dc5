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

// aclsOf describes the access control lists of a file without opening it for reading.
func aclsOf(t *testing.T, path string) (text string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	names, err := listAttributes(fd)
	if isUnsupported(err) {
		return ""
	}
	must(t, err)
	for name := range strings.SplitSeq(names, "\x00") {
		if strings.HasPrefix(name, "system.") {
			value, err := getAttribute(fd, name)
			must(t, err)
			text += fmt.Sprintf(" %s=%x", name, value)
		}
	}
	return text
}

// TestCopySpecialFiles copies links and FIFOs with several names, and a FIFO and a device with
// access control lists.
func TestCopySpecialFiles(t *testing.T) {
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
			setACL(t, filepath.Join(g.Server, "tree", name))
		}
		c := &Copy{Workers: 4}
		must(t, copyTree(t, context.Background(), g.Dir, c))
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
					t.Errorf("the names of %s are two files", name)
				}
			}
		}
		for _, name := range listed {
			if want, got := aclsOf(t, filepath.Join(g.Server, "tree", name)), aclsOf(t, filepath.Join(g.Server, "copy", name)); got != want {
				t.Errorf("%s has%s, and should have%s", name, got, want)
			}
		}
		if lists := aclsOf(t, filepath.Join(g.Server, "tree/fifo")); lists != "" && c.IsPlain() {
			t.Error("a tree with an access control list is reported as plain")
		}
	})
}

// TestTargetWithoutACLs copies to a target that answers as NFS-Ganesha 4.3 does over NFSv3: EIO if a list
// is set or a missing one is removed; and success for a list that it does not store.
func TestTargetWithoutACLs(t *testing.T) {
	forgets := func(string, string, string) error { return nil }
	for name, c := range map[string]struct {
		set func(path, name, value string) error
		err error
	}{
		"refuses":      {func(string, string, string) error { return unix.EIO }, nil},
		"does not fit": {func(string, string, string) error { return unix.E2BIG }, nil},
		"forgets":      {forgets, nil},
		"full":         {func(string, string, string) error { return unix.ENOSPC }, unix.ENOSPC},
		"gone":         {func(string, string, string) error { return unix.ETIMEDOUT }, unix.ETIMEDOUT},
	} {
		dir := t.TempDir()
		at := filepath.Join(dir, "tree", "file")
		must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
		must(t, os.WriteFile(at, []byte("some"), 0o644))
		if setACL(t, at); aclsOf(t, at) == "" {
			t.Skip("this file system has no access control lists")
		}
		m := &Methods{}
		m.calls = attributeCalls{c.set, func(string, string) error { return unix.EIO }}
		cp := &Copy{Workers: 1, Methods: m}
		err := copyTree(t, t.Context(), dir, cp)
		if !errors.Is(err, c.err) || err == nil && (cp.Lost.Load() != 1 || cp.Files.Load() != 1) {
			t.Errorf("%s: %d lists are counted as lost for %d files: %v", name, cp.Lost.Load(), cp.Files.Load(), err)
		}
	}
}

// TestDefaultACLIsRemoved copies to a directory with a default access control list: the list is removed, and
// if that fails, the copy fails.
func TestDefaultACLIsRemoved(t *testing.T) {
	for _, want := range []error{nil, unix.EIO} {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "tree/file"), []byte("some"), 0o644))
		target := filepath.Join(dir, "copy")
		must(t, os.Mkdir(target, 0o755))
		if setACL(t, target); aclsOf(t, target) == "" {
			t.Skip("no access control lists here")
		}
		list, err := getAttributeAt(target, posixACL+"access")
		must(t, err)
		must(t, unix.Setxattr(target, defaultACL, []byte(list), 0))
		must(t, unix.Removexattr(target, posixACL+"access"))
		m := &Methods{}
		if want != nil {
			m.calls.remove = func(string, string) error { return want }
		}
		err = copyInto(t, t.Context(), filepath.Join(dir, "tree"), target, &Copy{Workers: 1, Methods: m})
		if !errors.Is(err, want) {
			t.Errorf("the copy ended with %v, want %v", err, want)
		}
		if want != nil {
			continue
		}
		if got := aclsOf(t, filepath.Join(target, "file")); got != "" {
			t.Errorf("a copied file has%s", got)
		}
	}
}

// TestModeIsNotSetAgain makes a directory that inherits the setgid bit.
func TestModeIsNotSetAgain(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Chmod(dir, 0o2755))
	must(t, unix.Mkdir(filepath.Join(dir, "sub"), 0o755))
	fd, made, err := openCopied(unix.AT_FDCWD, filepath.Join(dir, "sub"))
	must(t, err)
	defer unix.Close(fd)
	st := made
	if st.Mode&unix.S_ISGID == 0 {
		t.Skip("a new directory gets no setgid bit here")
	}
	c := &Copy{Methods: &Methods{}}
	if err := c.attributes().copyOwnerAndMode(target{fd: fd, path: "/nowhere"}, &st, &made); err != nil {
		t.Errorf("the mode was set again: %v", err)
	}
}
