// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestTryMethods uses a local file system, which may support clones or not: a method that reports
// success has made a copy.
func TestTryMethods(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("data"), 64<<10)
	if err := os.WriteFile(filepath.Join(dir, "source"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := os.Open(filepath.Join(dir, "source"))
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	target, err := os.Create(filepath.Join(dir, "target"))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	clone, copied := TryMethods(t.Context(), int(source.Fd()), int(target.Fd()))
	if clone != nil && !isRefused(clone) || copied != nil && !isRefused(copied) {
		t.Fatalf("clone: %v, copy: %v", clone, copied)
	}
	got, err := os.ReadFile(target.Name())
	if err != nil {
		t.Fatal(err)
	}
	if copied == nil && !bytes.Equal(got, data) {
		t.Errorf("the copy has %d bytes, and the source %d", len(got), len(data))
	}
	readOnly, err := os.Open(target.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if clone, copied := TryMethods(t.Context(), int(source.Fd()), int(readOnly.Fd())); clone == nil || copied == nil {
		t.Errorf("a copy to a read-only file succeeds: %v, %v", clone, copied)
	}
}
