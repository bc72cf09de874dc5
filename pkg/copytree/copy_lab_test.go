// SPDX-License-Identifier: Apache-2.0

//go:build lab

package copytree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// mounted makes a directory on one of the lab's exports and mounts it.
func mounted(t *testing.T, export, version string) (client, server string) {
	t.Helper()
	if export != "exports" {
		must(t, lab.Do("export", export))
	}
	name := fmt.Sprintf("copies-%d", time.Now().UnixNano())
	server, client = filepath.Join("/run/export", export, name), t.TempDir()
	must(t, os.Mkdir(server, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(server) })
	options := "nfsvers=" + version + ",nosharecache,softerr,timeo=50,retrans=2,lookupcache=positive"
	out, err := exec.Command("mount", "-t", "nfs", "-o", options, fmt.Sprintf("%s:/%s/%s", lab.Server, export, name), client).CombinedOutput()
	if err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(client, unix.MNT_DETACH) })
	return client, server
}

// withoutLeases has the server grant no delegations, which would make counts vary.
func withoutLeases(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/fs/leases-enable", []byte("0"), 0))
	t.Cleanup(func() { _ = os.WriteFile("/proc/sys/fs/leases-enable", []byte("1"), 0) })
}

// counted copies the tree and returns what that asked of the server.
func counted(t *testing.T, client string, c *Copy) lab.Counts {
	t.Helper()
	mine := func(_, target string) bool { return target == client }
	before, err := lab.Count(os.Getpid(), mine)
	must(t, err)
	must(t, copyOf(t, context.Background(), client, c))
	time.Sleep(200 * time.Millisecond) // CLOSE is not waited for
	after, err := lab.Count(os.Getpid(), mine)
	must(t, err)
	return after.Since(before)
}

// TestWays has the data go the way that server and protocol allow, and the rest not be tried
// for each file.
func TestWays(t *testing.T) {
	withoutLeases(t)
	const files, size = 50, 64 << 10
	for _, c := range []struct {
		export, version, way string
		perFile              float64 // round trips, at most
	}{
		{"exports", "4.2", "cloned", 8.6},
		{"ext4", "4.2", "copied", 10.6},
		{"exports", "4.1", "written", 9.6},
		{"exports", "4.0", "written", 9.6},
		{"exports", "3", "written", 13},
	} {
		t.Run(c.export+" "+c.version, func(t *testing.T) {
			client, server := mounted(t, c.export, c.version)
			must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
			for i := range files {
				must(t, os.WriteFile(filepath.Join(server, "tree", fmt.Sprint(i)), bytes.Repeat([]byte("mooring!"), size/8), 0o644))
			}
			describe(t, filepath.Join(server, "tree")) // which reads it
			want := describe(t, filepath.Join(server, "tree"))
			cp := &Copy{Workers: 8}
			asked := counted(t, client, cp)
			for way, m := range map[string]*Moved{"cloned": &cp.Cloned, "copied": &cp.Copied, "written": &cp.Written} {
				want := int64(0)
				if way == c.way {
					want = files
				}
				if m.Files.Load() != want || m.Bytes.Load() != want*size {
					t.Errorf("%s: %d files with %d bytes", way, m.Files.Load(), m.Bytes.Load())
				}
			}
			if c.way != "written" && asked.Bytes != 0 {
				t.Errorf("%d bytes went through the client", asked.Bytes)
			}
			if each := float64(asked.Total()) / files; each > c.perFile {
				t.Errorf("%.2f round trips for each file: %s", each, asked)
			} else {
				t.Logf("%.2f round trips for each file: %s", each, asked)
			}
			compare(t, want, describe(t, filepath.Join(server, "copy")))
		})
	}
}

// TestPlainIsCheaper does not ask for attributes where there are known to be none.
func TestPlainIsCheaper(t *testing.T) {
	withoutLeases(t)
	client, server := mounted(t, "exports", "4.2")
	must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
	for i := range 100 {
		must(t, os.WriteFile(filepath.Join(server, "tree", fmt.Sprint(i)), []byte("some"), 0o644))
	}
	asked := counted(t, client, &Copy{Workers: 8, SourceIsPlain: true})
	if each := float64(asked.Total()) / 100; each > 6.3 {
		t.Errorf("%.2f round trips for each file: %s", each, asked)
	}
}

// TestSparseIsQuick copies 64 GiB with 4 MiB of data, by sharing blocks and by copying.
func TestSparseIsQuick(t *testing.T) {
	withoutLeases(t)
	for _, export := range []string{"exports", "ext4"} {
		client, server := mounted(t, export, "4.2")
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		f, err := os.Create(filepath.Join(server, "tree", "sparse"))
		must(t, err)
		must(t, f.Truncate(64<<30))
		for i := range int64(4) {
			_, err = f.WriteAt(bytes.Repeat([]byte("mooring!"), 128<<10), i*15<<30)
			must(t, err)
		}
		must(t, f.Sync())
		must(t, f.Close())
		c := &Copy{Workers: 8}
		asked := counted(t, client, c)
		if asked.Total() > 40 || asked.Bytes != 0 {
			t.Errorf("%s: %d bytes through the client: %s", export, asked.Bytes, asked)
		}
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(server, "copy", "sparse"), &st))
		if st.Size != 64<<30 || st.Blocks*512 > 5<<20 {
			t.Errorf("%s: the copy has %d bytes and takes %d", export, st.Size, st.Blocks*512)
		}
		if got := c.Bytes.Load(); got < 4<<20 || got > 5<<20 {
			t.Errorf("%s: the copy is said to need %d bytes", export, got)
		}
	}
}

// TestKernelThatCopiesItself has copy_file_range(2) be what it is by NFS 4.1, where the kernel
// reads and writes, as by 4.2 with a server that cannot copy: that is noticed.
func TestKernelThatCopiesItself(t *testing.T) {
	for version, want := range map[string][2]int64{"4.1": {0, 2}, "4.2": {2, 0}} {
		client, server := mounted(t, "ext4", version)
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		for _, name := range []string{"one", "two"} {
			must(t, os.WriteFile(filepath.Join(server, "tree", name), bytes.Repeat([]byte("mooring!"), 64<<10), 0o644))
		}
		c := &Copy{Workers: 1, Methods: &Methods{}}
		c.Methods.once.Do(func() { c.Methods.wantNone = unix.O_DIRECT }) // nothing is known of the version
		must(t, copyOf(t, context.Background(), client, c))
		if got := [2]int64{c.Copied.Files.Load(), c.Written.Files.Load()}; got != want {
			t.Errorf("%s: %d were copied by the server, %d written, want %v", version, got[0], got[1], want)
		}
		if got, want := [2]int64{c.Copied.Bytes.Load(), c.Written.Bytes.Load()}, [2]int64{want[0] << 19, want[1] << 19}; got != want {
			t.Errorf("%s: %d bytes were copied by the server, %d written, want %v", version, got[0], got[1], want)
		}
	}
}

// TestTargetThatTakesLess copies from a file system with extended attributes to one without:
// NFS 3, which has access control lists.
func TestTargetThatTakesLess(t *testing.T) {
	client, server := mounted(t, "exports", "3")
	source := filepath.Join(server, "tree")
	must(t, os.MkdirAll(filepath.Join(server, "copy"), 0o700))
	must(t, os.Mkdir(source, 0o755))
	for i := range 3 {
		at := filepath.Join(source, fmt.Sprint(i))
		must(t, os.WriteFile(at, []byte("some"), 0o644))
		must(t, unix.Setxattr(at, "user.mooring", []byte("x"), 0))
		accessList(t, at)
	}
	c := &Copy{Workers: 1}
	must(t, copyInto(t, context.Background(), source, filepath.Join(client, "copy"), c))
	if c.Lost.Load() != 3 || c.Plain() {
		t.Errorf("%d attributes are called lost, and there are 3; plain: %v", c.Lost.Load(), c.Plain())
	}
	for i := range 3 {
		if got := extras(t, filepath.Join(server, "copy", fmt.Sprint(i))); !strings.HasPrefix(got, " system.posix_acl_access=") {
			t.Errorf("the copy has: %s", got)
		}
	}
}

// TestListForNewFiles has the target give new files an access control list, which the source's
// files do not have.
func TestListForNewFiles(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mounted(t, "exports", version)
		must(t, os.MkdirAll(filepath.Join(server, "tree/dir"), 0o755))
		must(t, os.WriteFile(filepath.Join(server, "tree/dir/file"), []byte("some"), 0o640))
		must(t, os.Mkdir(filepath.Join(server, "copy"), 0o700))
		accessList(t, filepath.Join(server, "copy"))
		list, err := getAt(filepath.Join(server, "copy"), posixACL+"access")
		must(t, err)
		must(t, unix.Setxattr(filepath.Join(server, "copy"), defaultACL, []byte(list), 0))
		want := describe(t, filepath.Join(server, "tree"))
		must(t, unix.Removexattr(filepath.Join(server, "copy"), posixACL+"access"))
		must(t, copyInto(t, context.Background(), filepath.Join(client, "tree"), filepath.Join(client, "copy"), &Copy{Workers: 2}))
		got := describe(t, filepath.Join(server, "copy"))
		for _, name := range []string{"dir", "dir/file"} {
			if strings.Contains(got[name], "posix_acl") || got[name][:12] != want[name][:12] {
				t.Errorf("%s: %s is\n\t%s\nand should be\n\t%s", version, name, got[name], want[name])
			}
		}
	}
}

// TestCopyStaysOnItsFileSystem has another file system mounted in the tree.
func TestCopyStaysOnItsFileSystem(t *testing.T) {
	client, _ := mounted(t, "exports", "4.2")
	at := filepath.Join(client, "tree/mounted")
	must(t, os.MkdirAll(at, 0o755))
	must(t, unix.Mount("none", at, "tmpfs", 0, ""))
	defer unix.Unmount(at, unix.MNT_DETACH)
	err := copyOf(t, context.Background(), client, &Copy{Workers: 2})
	if !errors.Is(err, unix.EXDEV) || !strings.Contains(err.Error(), `"mounted"`) {
		t.Errorf("the error is %v", err)
	}
}

// TestMoreNamesThanAFileMayHave copies to ext4, where that is 65,000.
func TestMoreNamesThanAFileMayHave(t *testing.T) {
	must(t, lab.Do("export", "ext4"))
	source, err := os.MkdirTemp("/dev/shm", "names")
	must(t, err)
	defer os.RemoveAll(source)
	target, err := os.MkdirTemp("/run/export/ext4", "names")
	must(t, err)
	defer os.RemoveAll(target)
	const names = 65_010
	must(t, os.WriteFile(filepath.Join(source, "0"), []byte("some"), 0o644))
	for i := 1; i < names; i++ {
		must(t, os.Link(filepath.Join(source, "0"), filepath.Join(source, fmt.Sprint(i))))
	}
	c := &Copy{Workers: 2}
	must(t, copyInto(t, context.Background(), source, target, c))
	if c.Files.Load() != 2 || c.Links.Load() != names-2 {
		t.Errorf("%d files and %d links", c.Files.Load(), c.Links.Load())
	}
}

// TestFullDisk has a copy fail where the server has no room, by each method.
func TestFullDisk(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mounted(t, "small", version) // 64 MiB
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		must(t, os.WriteFile(filepath.Join(server, "tree", "big"), bytes.Repeat([]byte("mooring!"), 5<<20), 0o644))
		if err := copyOf(t, context.Background(), client, &Copy{Workers: 4}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: the copy to a full disk ended with %v", version, err)
		}
		must(t, os.RemoveAll(filepath.Join(server, "tree")))
		must(t, os.RemoveAll(filepath.Join(server, "copy")))
	}
}
