// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKernelCopies copies over NFS 4.1, where the kernel implements copy_file_range(2) by reading
// and writing, as it does over 4.2 with a server without COPY: the copy detects that.
func TestKernelCopies(t *testing.T) {
	for version, want := range map[string][2]int64{"4.1": {0, 2}, "4.2": {2, 0}} {
		client, server := mountExport(t, "ext4", version)
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		for _, name := range []string{"one", "two"} {
			must(t, os.WriteFile(filepath.Join(server, "tree", name), bytes.Repeat([]byte("mooring!"), 64<<10), 0o644))
		}
		c := &Copy{Workers: 1, Methods: &Methods{}}
		c.Methods.once.Do(func() { c.Methods.noDelegationFlag = unix.O_DIRECT }) // the version is unknown
		must(t, copyTree(t, context.Background(), client, c))
		if got := [2]int64{c.Copied.Files.Load(), c.Written.Files.Load()}; got != want {
			t.Errorf("%s: %d files were copied by the server, %d written, want %v", version, got[0], got[1], want)
		}
		if got, want := [2]int64{c.Copied.Bytes.Load(), c.Written.Bytes.Load()}, [2]int64{want[0] << 19, want[1] << 19}; got != want {
			t.Errorf("%s: %d bytes were copied by the server, %d written, want %v", version, got[0], got[1], want)
		}
	}
}

// TestTargetWithoutAttributes copies from a file system with extended attributes to one without:
// NFS 3, which has only access control lists.
func TestTargetWithoutAttributes(t *testing.T) {
	client, server := mountExport(t, "exports", "3")
	source := filepath.Join(server, "tree")
	must(t, os.MkdirAll(filepath.Join(server, "copy"), 0o700))
	must(t, os.Mkdir(source, 0o755))
	for i := range 3 {
		at := filepath.Join(source, fmt.Sprint(i))
		must(t, os.WriteFile(at, []byte("some"), 0o644))
		must(t, unix.Setxattr(at, "user.mooring", []byte("x"), 0))
		setACL(t, at)
	}
	c := &Copy{Workers: 1}
	must(t, copyInto(t, context.Background(), source, filepath.Join(client, "copy"), c))
	if c.Lost.Load() != 3 || c.IsPlain() {
		t.Errorf("%d attributes are counted as lost, want 3; plain: %v", c.Lost.Load(), c.IsPlain())
	}
	for i := range 3 {
		if got := attributesOf(t, filepath.Join(server, "copy", fmt.Sprint(i))); !strings.HasPrefix(got, " system.posix_acl_access=") {
			t.Errorf("the copy has: %s", got)
		}
	}
}

// TestDefaultACLOfTarget copies to a directory with a default access control list, which the files of
// the source do not have. Over NFS 4 it cannot be removed from a directory, but it counts as lost.
func TestDefaultACLOfTarget(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mountExport(t, "exports", version)
		must(t, os.MkdirAll(filepath.Join(server, "tree/dir"), 0o755))
		must(t, os.WriteFile(filepath.Join(server, "tree/dir/file"), []byte("some"), 0o640))
		must(t, os.Mkdir(filepath.Join(server, "copy"), 0o700))
		setACL(t, filepath.Join(server, "copy"))
		list, err := getAttributeAt(filepath.Join(server, "copy"), posixACL+"access")
		must(t, err)
		must(t, unix.Setxattr(filepath.Join(server, "copy"), defaultACL, []byte(list), 0))
		want := describe(t, filepath.Join(server, "tree"))
		must(t, unix.Removexattr(filepath.Join(server, "copy"), posixACL+"access"))
		c := &Copy{Workers: 2}
		must(t, copyInto(t, context.Background(), filepath.Join(client, "tree"), filepath.Join(client, "copy"), c))
		got := describe(t, filepath.Join(server, "copy"))
		for _, name := range []string{"dir", "dir/file"} {
			if c.Lost.Load() == 0 && strings.Contains(got[name], "posix_acl") || strings.Contains(got[name], "posix_acl_access") || got[name][:12] != want[name][:12] {
				t.Errorf("%s: %s is\n\t%s\nand should be\n\t%s", version, name, got[name], want[name])
			}
		}
		if version == "3" && c.Lost.Load() != 0 {
			t.Errorf("over NFS 3 %d lists were lost", c.Lost.Load())
		}
	}
}

// TestCopyStaysOnItsFileSystem mounts another file system in the tree.
func TestCopyStaysOnItsFileSystem(t *testing.T) {
	client, _ := mountExport(t, "exports", "4.2")
	at := filepath.Join(client, "tree/mounted")
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount("none", at, "tmpfs", 0, ""))
	defer unix.Unmount(at, unix.MNT_DETACH)
	err := copyTree(t, context.Background(), client, &Copy{Workers: 2})
	if !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), `"mounted"`) {
		t.Errorf("the error is %v", err)
	}
}

// TestCopyIntoProject copies to a directory with a project (directory quota) that new entries
// inherit. Only the server can set it, and only before the copy: then the whole copy has it.
func TestCopyIntoProject(t *testing.T) {
	for _, version := range []string{"3", "4.1", "4.2"} {
		client, server := mountExport(t, "exports", version)
		makeSmallTree(t, filepath.Join(server, "tree"))
		want := describe(t, filepath.Join(server, "tree"))
		must(t, os.Mkdir(filepath.Join(server, "copy"), 0o700))
		setProject(t, filepath.Join(server, "copy"), 42)
		c := &Copy{Workers: 4}
		must(t, copyInto(t, context.Background(), filepath.Join(client, "tree"), filepath.Join(client, "copy"), c))
		got := describe(t, filepath.Join(server, "copy"))
		for name := range want {
			if got[name] == "" {
				t.Errorf("%s: %s is not in the copy", version, name)
			}
			if name == "link" || name == "fifo" { // their project cannot be read
				continue
			}
			if p := project(t, filepath.Join(server, "copy", name), 0, 0).project; p != 42 {
				t.Errorf("%s: %s has project %d", version, name, p)
			}
		}
		if c.Links.Load() != 2 || c.Lost.Load() != 0 {
			t.Errorf("%s: %d links, %d lost", version, c.Links.Load(), c.Lost.Load())
		}
	}
}
