// SPDX-License-Identifier: Apache-2.0

//go:build lab

package mount

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLabels mounts from one server with two SELinux labels, on a kernel with SELinux, and with a
// mount(8) that sees SELinux or not.
func TestLabels(t *testing.T) {
	secilc := os.Getenv("MOORING_SECILC")
	if secilc == "" {
		t.Skip("there is no policy: make test-selinux")
	}
	const fs = "/sys/fs/selinux"
	if err := unix.Mount("selinuxfs", fs, "selinuxfs", 0, ""); err != nil {
		t.Fatalf("this kernel has no SELinux: %v", err)
	}
	policy := filepath.Join(t.TempDir(), "policy")
	out, err := exec.Command(secilc, "-M", "true", "-U", "allow", "-c", "33", "-o", policy, "-f", os.DevNull, "testdata/labels.cil").CombinedOutput()
	if err != nil {
		t.Fatalf("secilc: %v: %s", err, out)
	}
	binary, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fs+"/load", binary, 0); err != nil {
		t.Fatal(err)
	}

	labels := []string{`context="system_u:object_r:container_file_t:s0:c1,c2"`, `context="system_u:object_r:container_file_t:s0:c3,c4"`, "context=system_u:object_r:container_file_t:s0"}
	_, mount := mounts(t, new(Kernel))
	err = mount("127.0.0.1:/exports", labels[0])
	if cause, _ := CauseOf(err); cause != NoLabel {
		t.Errorf("without /etc/selinux/config: %v", err)
	}
	if err := os.MkdirAll("/etc/selinux", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/etc/selinux/config", []byte("SELINUX=permissive\nSELINUXTYPE=labels\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"3", "4.0", "4.1", "4.2"} {
		for _, label := range labels {
			target, mount := mounts(t, new(Kernel))
			if err := mount("127.0.0.1:/exports", "nfsvers="+version, label); err != nil {
				t.Errorf("%s, %s: %v", version, label, err)
				continue
			}
			var has [256]byte
			n, err := unix.Lgetxattr(target, "security.selinux", has[:])
			got := strings.TrimRight(string(has[:max(n, 0)]), "\x00")
			if want := strings.Trim(strings.TrimPrefix(label, "context="), `"`); err != nil || got != want {
				t.Errorf("%s: the label is %q (%v), want %q", version, got, err, want)
			}
		}
	}
}
