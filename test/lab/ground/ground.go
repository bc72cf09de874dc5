// SPDX-License-Identifier: Apache-2.0

// Package ground gives tests that work on a share the file systems to work on: a temporary directory
// everywhere, and in the lab a kernel NFS mount of each version, with a second client's view of the same
// directory if a test needs one.
package ground

import (
	"os"
	"testing"
)

// Ground is an empty directory for a share.
type Ground struct {
	// Dir is the path of the share.
	Dir string
	// Other is its path for a second client: on NFS a mount with caches of its own.
	Other string
	// Server is its local path on the server.
	Server string
}

// Each runs test once on each available ground.
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

// inMemory returns an empty directory, in memory if possible: the tests call fsync often.
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
	// Both mounts are of one machine: delegations of directories would hide the changes of one mount
	// from the other.
	DelegateDirectories(false)
	server, machine := Exported(t), ThisMachine()
	return Ground{machine.Mount(t, version, server), machine.Mount(t, version, server), server}
}

// DelegateDirectories sets whether this kernel's NFSv4 clients ask for delegations of directories from
// now on, as Linux does since 6.19. Older kernels do not have this parameter.
func DelegateDirectories(ask bool) {
	yes := map[bool]string{true: "Y", false: "N"}[ask]
	_ = os.WriteFile("/sys/module/nfsv4/parameters/directory_delegations", []byte(yes), 0)
}
