// SPDX-License-Identifier: Apache-2.0

package share

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

func TestInline(t *testing.T) {
	g := newGround(t)
	v, err := OpenInline(g.dir, nas1)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for range 2 { // a retry
		fd, err := v.Make("csi-1")
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Close(fd); err != nil {
			t.Error(err)
		}
	}
	own := filepath.Join(g.dir, volume.StateDir, volume.InlineDir, "csi-1")
	if err := os.WriteFile(filepath.Join(own, "data"), nil, 0o600); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := v.Trash("csi-1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(own); !os.IsNotExist(err) {
		t.Errorf("the directory stays: %v", err)
	}
	trash, _ := filepath.Glob(filepath.Join(g.dir, volume.StateDir, "trash", "csi-1.*"+inlineSuffix))
	if len(trash) != 1 {
		t.Errorf("in the trash are %q", trash)
	}
}

// TestInlineOpen opens directories that are there, and none that is somebody's.
func TestInlineOpen(t *testing.T) {
	g := newGround(t)
	g.create("pvc-1", "team/one")
	for _, dir := range []string{"data/set", "outside"} {
		if err := os.MkdirAll(filepath.Join(g.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"data/up": "../outside", "data/out": "/etc"} {
		if err := os.Symlink(to, filepath.Join(g.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(g.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := OpenInline(g.dir, nas1)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	fd, err := v.Open("data/set")
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	for dir, c := range map[string]struct {
		kind error
		says string
	}{
		"team/one":      {volume.ErrRefused, "belongs to volume pvc-1"},
		"team/one/deep": {volume.ErrRefused, "belongs to volume pvc-1"},
		"team":          {volume.ErrRefused, "holds those of volumes"},
		"none":          {volume.ErrConflict, "is not there"},
		"file":          {volume.ErrConflict, "file"},
		"data/up":       {volume.ErrConflict, "symbolic link"},
		"data/out":      {volume.ErrConflict, "symbolic link"},
		"data/out/ssl":  {volume.ErrConflict, "symbolic link"},
	} {
		_, err := v.Open(dir)
		if volume.Kind(err) != c.kind || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "nas1") {
			t.Errorf("%s: the error is %v", dir, err)
		}
	}
}
