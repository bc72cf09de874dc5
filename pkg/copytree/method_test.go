// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// isolatedDir names a directory for a process of this test, which mounts there as doctor's child does.
const isolatedDir = "MOORING_ISOLATED_MOUNT"

// init runs on the main thread. In the process of TestFindMountIsolated, that thread enters a mount namespace
// and mounts there; another thread then looks the mount up.
func init() {
	dir := os.Getenv(isolatedDir)
	if dir == "" {
		return
	}
	runtime.LockOSThread()
	fsType, err := findIsolated(dir)
	fmt.Print(fsType)
	if err != nil {
		fmt.Print(err)
	}
	os.Exit(0)
}

func findIsolated(dir string) (fsType string, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return "", err
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		return "", err
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	found := make(chan string)
	go func() {
		fsType, _ := findMount(fd)
		found <- fsType
	}()
	return <-found, nil
}

// TestFindMountIsolated looks up a mount that only the main thread's mount namespace has, from another
// thread: doctor's child copies that way.
func TestFindMountIsolated(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), isolatedDir+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "tmpfs" {
		t.Errorf("the file system is %q, %v", out, err)
	}
}
