// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestRemoveStaysOnItsFileSystem mounts another file system in the tree.
func TestRemoveStaysOnItsFileSystem(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		mounted := filepath.Join(g.Dir, "tree", "mounted")
		must(t, os.MkdirAll(mounted, 0o755))
		must(t, os.WriteFile(filepath.Join(g.Dir, "tree", "file"), nil, 0o600))
		must(t, unix.Mount("none", mounted, "tmpfs", 0, ""))
		defer unix.Unmount(mounted, unix.MNT_DETACH)
		must(t, os.WriteFile(filepath.Join(mounted, "precious"), nil, 0o600))
		if _, err := remove(t, context.Background(), g.Dir, "tree"); err == nil {
			t.Error("a tree with a mount in it is reported as removed")
		}
		if _, err := os.Stat(filepath.Join(mounted, "precious")); err != nil {
			t.Errorf("another file system was entered: %v", err)
		}
		if _, err := os.Stat(filepath.Join(g.Dir, "tree", "file")); err == nil {
			t.Error("a removable file was kept")
		}
	})
}

// TestRemoveAcrossProjects gives the root of the tree a project that new entries inherit. The deep
// directories are older, and cannot be moved up.
func TestRemoveAcrossProjects(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mountExport(t, "exports", version)
		tree := filepath.Join(server, "tree")
		must(t, os.Mkdir(tree, 0o755))
		makeDeepDirs(t, tree, 3*maxOpenDepth, "level")
		setProject(t, tree, 42)
		if _, err := remove(t, context.Background(), client, "tree"); err != nil {
			t.Errorf("%s: %v", version, err)
		}
		if _, err := os.Lstat(tree); !os.IsNotExist(err) {
			t.Errorf("%s: the tree is still there: %v", version, err)
		}
	}
}

// fsxattr is struct fsxattr (ioctl_fsgetxattr(2)).
type fsxattr struct {
	flags, extentSize, extents, project, cowExtentSize uint32
	_                                                  [8]byte
}

// project returns the attributes of a directory or file, after setting project and flags unless
// project is 0.
func project(t *testing.T, path string, project, flags uint32) (attr fsxattr) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	const get, set = 0x801c581f, 0x401c5820
	call := func(request uintptr) {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(&attr))); errno != 0 {
			t.Fatal(errno)
		}
	}
	if call(get); project != 0 {
		attr.project, attr.flags = project, attr.flags|flags
		call(set)
	}
	return attr
}

// setProject gives a directory a project that new entries inherit.
func setProject(t *testing.T, dir string, number uint32) {
	t.Helper()
	const inherit = 0x200 // FS_XFLAG_PROJINHERIT
	project(t, dir, number, inherit)
}
