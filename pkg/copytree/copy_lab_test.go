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
	"runtime"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

// mountExport makes a directory on one of the lab's exports and mounts it.
func mountExport(t *testing.T, export, version string) (client, server string) {
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

// disableDelegations makes the server grant no delegations, because they make counts vary.
func disableDelegations(t *testing.T) {
	t.Helper()
	must(t, leases("0"))
	t.Cleanup(func() { _ = leases("1") })
}

// countCopy copies the tree and returns the number of requests to the server.
func countCopy(t *testing.T, client string, c *Copy) lab.Counts {
	t.Helper()
	mine := func(_, target string) bool { return target == client }
	before, err := lab.Count(os.Getpid(), mine)
	must(t, err)
	must(t, copyTree(t, context.Background(), client, c))
	// The client does not wait for CLOSE: the count is complete when it has stopped growing.
	var after lab.Counts
	for counted := int64(-1); after.Total() != counted; {
		counted = after.Total()
		time.Sleep(500 * time.Millisecond)
		after, err = lab.Count(os.Getpid(), mine)
		must(t, err)
	}
	return after.Since(before)
}

// TestCopyMethods copies by the best method that server and protocol support, and does not try the
// others for each file.
func TestCopyMethods(t *testing.T) {
	disableDelegations(t)
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
			client, server := mountExport(t, c.export, c.version)
			must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
			for i := range files {
				must(t, os.WriteFile(filepath.Join(server, "tree", fmt.Sprint(i)), bytes.Repeat([]byte("mooring!"), size/8), 0o644))
			}
			describe(t, filepath.Join(server, "tree")) // reads it
			want := describe(t, filepath.Join(server, "tree"))
			cp := &Copy{Workers: 8}
			asked := countCopy(t, client, cp)
			for way, m := range map[string]*Counter{"cloned": &cp.Cloned, "copied": &cp.Copied, "written": &cp.Written} {
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

// TestPlainSourceCost does not read attributes if it is known that there are none.
func TestPlainSourceCost(t *testing.T) {
	disableDelegations(t)
	client, server := mountExport(t, "exports", "4.2")
	must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
	for i := range 100 {
		must(t, os.WriteFile(filepath.Join(server, "tree", fmt.Sprint(i)), []byte("some"), 0o644))
	}
	asked := countCopy(t, client, &Copy{Workers: 8, SourceIsPlain: true})
	if each := float64(asked.Total()) / 100; each > 6.3 {
		t.Errorf("%.2f round trips for each file: %s", each, asked)
	}
}

// TestCopyLargeSparseFile copies 64 GiB with 4 MiB of data, by sharing blocks and by copying.
func TestCopyLargeSparseFile(t *testing.T) {
	disableDelegations(t)
	for _, export := range []string{"exports", "ext4"} {
		client, server := mountExport(t, export, "4.2")
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
		asked := countCopy(t, client, c)
		if asked.Total() > 41 || asked.Bytes != 0 { // with the small first COPY
			t.Errorf("%s: %d bytes through the client: %s", export, asked.Bytes, asked)
		}
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(server, "copy", "sparse"), &st))
		if st.Size != 64<<30 || st.Blocks*512 > 5<<20 {
			t.Errorf("%s: the copy has %d bytes and occupies %d", export, st.Size, st.Blocks*512)
		}
		if got := c.Bytes.Load(); got < 4<<20 || got > 5<<20 {
			t.Errorf("%s: the counter of the copy is %d bytes", export, got)
		}
	}
}

// TestFullDisk copies to a server without free space: the copy fails, by each method.
func TestFullDisk(t *testing.T) {
	for _, version := range []string{"3", "4.2"} {
		client, server := mountExport(t, "small", version) // 64 MiB
		must(t, os.Mkdir(filepath.Join(server, "tree"), 0o755))
		must(t, os.WriteFile(filepath.Join(server, "tree", "big"), bytes.Repeat([]byte("mooring!"), 5<<20), 0o644))
		if err := copyTree(t, context.Background(), client, &Copy{Workers: 4}); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: the copy to a full disk ended with %v", version, err)
		}
		must(t, os.RemoveAll(filepath.Join(server, "tree")))
		must(t, os.RemoveAll(filepath.Join(server, "copy")))
	}
}

// TestMemoryDoesNotGrow copies a directory ten times as large as another.
func TestMemoryDoesNotGrow(t *testing.T) {
	client, server := mountExport(t, "exports", "4.2")
	var peak [2]uint64
	for i, entries := range []int{1_000, 10_000} {
		dir := filepath.Join(server, fmt.Sprint(entries))
		must(t, os.MkdirAll(filepath.Join(dir, "tree"), 0o755))
		for j := range entries {
			must(t, unix.Mknod(filepath.Join(dir, "tree", fmt.Sprint(j)), unix.S_IFREG|0o644, 0))
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				peak[i] = max(peak[i], m.HeapAlloc)
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		}()
		must(t, copyTree(t, context.Background(), filepath.Join(client, fmt.Sprint(entries)), &Copy{Workers: 16}))
		close(stop)
		<-done
	}
	t.Logf("%d KiB with 1,000 entries, %d KiB with 10,000", peak[0]>>10, peak[1]>>10)
	if peak[1] > peak[0]+1<<20 {
		t.Errorf("%d bytes with 1,000 entries, %d with 10,000", peak[0], peak[1])
	}
}
