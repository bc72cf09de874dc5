// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveStalePID(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pid")
	const name = "a.daemon"
	sleep, err := os.ReadFile("/bin/sleep")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), sleep, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(filepath.Join(dir, name), "3600")
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	for content, kept := range map[string]bool{
		fmt.Sprintf("%d\n", daemon.Process.Pid): true,
		fmt.Sprintf("%d\n", os.Getpid()):        false,
		fmt.Sprintf("%d\n", unix.Gettid()):      false, // kill(2) accepts the id of a thread, too
		"4194304000\n":                          false,
		"\n":                                    false,
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := removeStalePID(file, name); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if _, err := os.Stat(file); kept != (err == nil) {
			t.Errorf("%q: kept should be %v, and stat says %v", content, kept, err)
		}
	}
	_ = os.Remove(file)
	if err := removeStalePID(file, name); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := removeStalePID(dir, name); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a directory: %v", err)
	}
}
