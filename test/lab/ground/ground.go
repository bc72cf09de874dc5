// SPDX-License-Identifier: Apache-2.0

// Package ground gives tests of what works on a share the file systems to work on: a
// temporary directory everywhere, and in the lab a kernel NFS mount of each version, with
// a second client's view of the same directory where a test asks for one.
package ground

import (
	"os"
	"testing"
)

// Ground is an empty directory to be a share.
type Ground struct {
	// Dir is where the share is seen.
	Dir string
	// Other is where a second client sees it: on NFS a mount with caches of its own.
	Other string
	// Server is where the server sees it.
	Server string
}

// Each runs test once on each ground that there is here.
func Each(t *testing.T, test func(t *testing.T, g Ground)) {
	t.Helper()
	each(t, []string{"3", "4.0", "4.1", "4.2"}, test)
}

// Ends runs test once on the oldest version of NFS and once on the newest: for tests that take
// minutes on each.
func Ends(t *testing.T, test func(t *testing.T, g Ground)) {
	t.Helper()
	each(t, []string{"3", "4.2"}, test)
}

func each(t *testing.T, versions []string, test func(t *testing.T, g Ground)) {
	t.Helper()
	if os.Getenv("MOORING_LAB") == "" {
		t.Run("local", func(t *testing.T) {
			dir := inMemory(t)
			test(t, Ground{dir, dir, dir})
		})
		return
	}
	for _, version := range versions {
		t.Run("nfs"+version, func(t *testing.T) { test(t, OnNFS(t, version)) })
	}
}

// inMemory returns an empty directory, where there is one on a file system that has no disk
// to wait for: what is tested syncs much.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mooring-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// OnNFS makes an empty directory on the lab's server and mounts it twice, as the controller does.
func OnNFS(t *testing.T, version string) Ground {
	t.Helper()
	// Both mounts are of one machine, so that what the one may keep delegated of directories
	// hides from it what the other does (share.doubt).
	DelegateDirectories(false)
	server, machine := Exported(t), ThisMachine()
	return Ground{machine.Mount(t, version, server), machine.Mount(t, version, server), server}
}

// DelegateDirectories says whether this kernel's NFSv4 clients ask from now on that directories be
// delegated to them, as Linux does since 6.19. Older kernels have no such switch.
func DelegateDirectories(ask bool) {
	yes := map[bool]string{true: "Y", false: "N"}[ask]
	_ = os.WriteFile("/sys/module/nfsv4/parameters/directory_delegations", []byte(yes), 0)
}
