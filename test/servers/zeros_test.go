// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
)

// TestZeros shows a fault of NFS 4.0 of Linux 7.2, in which Mooring has no part: docs/limits.md. A program
// writes to a file, syncs it, and keeps it open. Another client reads the file, so that the server recalls
// the program's delegation, and in that moment the server is started again. What the program writes next
// comes with zeros in place of what was synced before.
//
//	MOORING_ZEROS=4.0 test/lab/run build/servers.test -test.run '^TestZeros$' -test.v
func TestZeros(t *testing.T) {
	version := os.Getenv("MOORING_ZEROS")
	if version == "" {
		t.Skip("it shows a fault of the kernel")
	}
	program, other := t.TempDir(), t.TempDir()
	zerosMount(t, "", lab.Server, program, "vers="+version)
	zerosMount(t, "other", "127.0.0.2", other, "vers="+version+",softerr,timeo=50,retrans=2")
	for round := range 8 {
		t.Logf("round %d: %d of %d files have lost what was synced", round, zerosRound(t, fmt.Sprint("round", round), program, other), zerosFiles)
	}
}

const zerosFiles = 200

// zerosMount mounts the lab's export, as the client of that host name.
func zerosMount(t *testing.T, host, server, dir, options string) {
	t.Helper()
	if err := mountAs(host, server+":/exports", dir, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
}

// zerosRound returns how many files of a new directory have lost their first line.
func zerosRound(t *testing.T, name, program, other string) (bad int) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(program, name), 0o755); err != nil {
		t.Fatal(err)
	}
	files := make([]*os.File, zerosFiles)
	for i := range files {
		f, err := os.Create(filepath.Join(program, name, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := appendLine(f, "before\n"); err != nil {
			t.Fatal(err)
		}
		files[i] = f
	}
	var readers sync.WaitGroup
	for k := range 8 {
		readers.Go(func() {
			for i := k; i < zerosFiles; i += 8 {
				_, _ = os.ReadFile(filepath.Join(other, name, fmt.Sprint(i)))
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // some files have been read, and some delegations are being recalled
	for _, do := range [][]string{{"rpc.nfsd", "0"}, {os.Getenv("MOORING_LAB_SERVER_CMD"), "server", "start"}} {
		if out, err := exec.Command(do[0], do[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", do, err, out)
		}
	}
	readers.Wait()
	for _, f := range files {
		if err := appendLine(f, "after\n"); err != nil {
			t.Error(err)
		}
	}
	for i := range files {
		data, err := os.ReadFile(filepath.Join(other, name, fmt.Sprint(i)))
		if err != nil || string(data) != "before\nafter\n" {
			bad++
		}
	}
	return bad
}
