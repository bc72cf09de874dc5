// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// program puts a mount(8) first in PATH: a shell script with this body.
func program(t *testing.T, body string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mount"), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// tableOf replaces the kernel's table.
func tableOf(entries ...Entry) func() (Table, error) {
	return func() (Table, error) { return entries, nil }
}

func TestMountRunsMount(t *testing.T) {
	log, target := filepath.Join(t.TempDir(), "log"), t.TempDir()
	program(t, `printf '%s\n' "$LC_ALL" "$@" >`+log)
	k := Kernel{table: tableOf(Entry{Target: target, Options: []string{"ro"}, Super: []string{"vers=4.2"}})}
	err := k.Mount(context.Background(), Spec{Source: "[fe80::1]:/x y", Target: target, Options: []string{"nfsvers=4.2", "ro"}})
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{"C", "-n", "-t", "nfs", "-o", "nfsvers=4.2,ro", "[fe80::1]:/x y", target}, "\n")
	if got := read(t, log); got != want {
		t.Errorf("mount was run with\n%s\nwant\n%s", got, want)
	}
	if c := k.Children(); c.Started() != 1 || c.Alive() != 0 {
		t.Errorf("%d children were started and %d are left, want 1 and 0", c.Started(), c.Alive())
	}
}

func TestMountFails(t *testing.T) {
	program(t, `echo "mount.nfs: access denied by server while mounting $5" >&2; exit 32`)
	err := new(Kernel).Mount(context.Background(), Spec{Source: "nas:/x", Target: t.TempDir(), Options: []string{"ro"}})
	if volume.Kind(err) != volume.ErrRefused || !strings.Contains(err.Error(), "access denied by server") {
		t.Errorf("the error of a refused mount is %v (of kind %v)", err, volume.Kind(err))
	}
	t.Setenv("PATH", t.TempDir())
	err = new(Kernel).Mount(context.Background(), Spec{Source: "nas:/x", Target: t.TempDir()})
	if volume.Kind(err) != volume.ErrUnavailable || !strings.Contains(err.Error(), "nas:/x") {
		t.Errorf("the error without a program is %v (of kind %v)", err, volume.Kind(err))
	}
}

// TestMountHangs runs a mount(8) that hangs in a child process, as with mount.nfs.
func TestMountHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	program(t, "sleep 600 & echo $$ $! >"+pids+".new; mv "+pids+".new "+pids+"; wait")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // until it hangs
		for ctx.Err() == nil {
			if _, err := os.Stat(pids); err == nil {
				cancel()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	var k Kernel
	start := time.Now()
	err := k.Mount(ctx, Spec{Source: "nas:/x", Target: t.TempDir()})
	if took := time.Since(start); took > time.Minute { // the program sleeps for ten
		t.Errorf("the mount took %v to give up", took)
	}
	if volume.Kind(err) != volume.ErrUnavailable || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nas:/x: the server did not answer in time") {
		t.Errorf("the error of a mount that hangs is %v (of kind %v)", err, volume.Kind(err))
	}
	if n := k.Children().Alive(); n != 0 {
		t.Errorf("%d children are left", n)
	}
	for _, field := range strings.Fields(read(t, pids)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); alive(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d still runs", pid)
			}
		}
	}
}

// alive reports whether a process exists and is not a zombie.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTable(t *testing.T) {
	table, err := new(Kernel).Table()
	if err != nil {
		t.Fatal(err)
	}
	e, ok := table.At("/proc/")
	if !ok || e.Type != "proc" || e.Source == "" || len(e.Options) == 0 || !strings.Contains(e.Device, ":") {
		t.Errorf("the entry of /proc is %+v, %v", e, ok)
	}
	if e, ok := table.At(t.TempDir()); ok {
		t.Errorf("a plain directory has the entry %+v", e)
	}
	// Nothing is mounted there, so that this needs no privilege.
	if err := new(Kernel).Unmount(context.Background(), t.TempDir()); err != nil {
		t.Errorf("unmount where nothing is mounted: %v", err)
	}
}

func TestTableAt(t *testing.T) {
	a := Entry{Source: "nas:/a", Target: "/stage", Device: "0:50", Options: []string{"rw", "relatime"}}
	bind := Entry{Source: "nas:/a", Target: "/pod", Device: "0:50", Options: []string{"relatime", "ro"}}
	otherMount := Entry{Source: "nas:/a", Target: "/else", Device: "0:51"}
	sibling := Entry{Source: "nas:/b", Target: "/stage/b", Device: "0:50"}
	over := Entry{Source: "nas:/b", Target: "/stage", Device: "0:50"}
	table := Table{a, bind, otherMount, sibling, over}

	for target, want := range map[string]string{"/stage": "nas:/b", "/stage/": "nas:/b", "/x/../pod": "nas:/a", "/stag": "", "/stage/c": "", "/": ""} {
		if e, ok := table.At(target); e.Source != want || ok != (want != "") {
			t.Errorf("the source at %s is %q, want %q", target, e.Source, want)
		}
	}
	if a.ReadOnly() || !bind.ReadOnly() || (Entry{}).ReadOnly() {
		t.Error("ReadOnly is wrong")
	}
}

// TestInterruptWithoutMount has the mount, or also its mount point, be gone already.
func TestInterruptWithoutMount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may unmount")
	}
	for _, target := range []string{t.TempDir(), filepath.Join(t.TempDir(), "gone")} {
		if err := (&Kernel{}).Interrupt(target); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}
