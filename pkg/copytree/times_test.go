// SPDX-License-Identifier: Apache-2.0

package copytree

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// writeDated writes a file and sets its times, in seconds.
func writeDated(t *testing.T, path string, sec int64) {
	t.Helper()
	must(t, os.WriteFile(path, []byte("some"), 0o644))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: sec}, {Sec: sec}}, 0))
}

func modifiedAt(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Mtim.Sec
}

// TestTimesOutOfRange copies to a file system that does not support the times: each file counts once.
func TestTimesOutOfRange(t *testing.T) {
	source, err := os.MkdirTemp("/dev/shm", "times")
	must(t, err)
	defer os.RemoveAll(source)
	const far = 1 << 40
	for name, sec := range map[string]int64{"far": far, "too": far, "near": 1_000_000_000} {
		writeDated(t, filepath.Join(source, name), sec)
	}
	target := t.TempDir()
	c := &Copy{Workers: 1}
	must(t, copyInto(t, t.Context(), source, target, c))
	if modifiedAt(t, filepath.Join(target, "far")) == far {
		t.Skip("this file system supports the times of tmpfs")
	}
	if c.Lost.Load() != 2 || modifiedAt(t, filepath.Join(target, "near")) != 1_000_000_000 {
		t.Errorf("%d files are counted as lost, want 2", c.Lost.Load())
	}
}
