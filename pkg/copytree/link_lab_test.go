// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServerRefusesLink makes the server refuse a hard link to the copy of a file: the name gets a file
// of its own.
func TestServerRefusesLink(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mountExport(t, "exports", version)
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		must(t, os.WriteFile(filepath.Join(server, "tree", "a"), []byte("of both"), 0o600))
		must(t, os.Link(filepath.Join(server, "tree", "a"), filepath.Join(server, "tree", "b")))
		names := []string{filepath.Join(server, "copy", "a"), filepath.Join(server, "copy", "b")}
		c := &Copy{Workers: 1, Step: func(what string) {
			for _, name := range names {
				if what == "make a hard link" {
					_ = immutable(name, true) // one of them exists
				}
			}
		}}
		err := copyTree(t, t.Context(), client, c)
		for _, name := range names {
			_ = immutable(name, false)
		}
		if err != nil || c.Lost.Load() != 1 || c.Links.Load() != 0 {
			t.Errorf("%s: %v; %d links, %d lost", version, err, c.Links.Load(), c.Lost.Load())
		}
		for _, name := range names {
			var st unix.Stat_t
			must(t, unix.Lstat(name, &st))
			if text, err := os.ReadFile(name); err != nil || string(text) != "of both" || st.Nlink != 1 {
				t.Errorf("%s: %s has %q, %v, and %d names", version, filepath.Base(name), text, err, st.Nlink)
			}
		}
	}
}

// immutable makes link(2) of a file fail with EPERM (FS_IOC_SETFLAGS: ioctl_iflags(2)), or succeed again.
func immutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if on {
		flags = 0x10 // FS_IMMUTABLE_FL
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags)
}
