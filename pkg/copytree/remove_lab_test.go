// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestRemoveStaysOnItsFileSystem has another file system mounted in the tree.
func TestRemoveStaysOnItsFileSystem(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		mounted := filepath.Join(g.Dir, "tree", "mounted")
		must(t, os.MkdirAll(mounted, 0o755))
		must(t, os.WriteFile(filepath.Join(g.Dir, "tree", "file"), nil, 0o600))
		must(t, unix.Mount("none", mounted, "tmpfs", 0, ""))
		defer unix.Unmount(mounted, unix.MNT_DETACH)
		must(t, os.WriteFile(filepath.Join(mounted, "precious"), nil, 0o600))
		if _, err := remove(t, context.Background(), g.Dir, "tree"); err == nil {
			t.Error("a tree with a mount in it is called removed")
		}
		if _, err := os.Stat(filepath.Join(mounted, "precious")); err != nil {
			t.Errorf("another file system was entered: %v", err)
		}
		if _, err := os.Stat(filepath.Join(g.Dir, "tree", "file")); err == nil {
			t.Error("what could be removed stayed")
		}
	})
}
