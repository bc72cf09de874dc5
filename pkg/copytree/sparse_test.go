// SPDX-License-Identifier: Apache-2.0

//go:build !lab

package copytree

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestWriteLeavesHoles writes only blocks that are not zero.
func TestWriteLeavesHoles(t *testing.T) {
	for _, pattern := range []string{"", "0", "1", "01", "10", "0110", "1001", "00100", "11x", "0x", "1z", "0z", "z"} {
		var data []byte
		want, last := int64(0), int64(0)
		for _, x := range pattern {
			switch x {
			case '0':
				data = append(data, make([]byte, blockSize)...)
			case 'z': // a part of a block
				data = append(data, make([]byte, 3)...)
			case '1':
				data, want = append(data, strings.Repeat("1", blockSize)...), want+blockSize
				last = int64(len(data))
			default:
				data, want = append(data, "end"...), want+3
				last = int64(len(data))
			}
		}
		f, err := os.CreateTemp(t.TempDir(), "")
		must(t, err)
		written, end, err := writeNonZero(int(f.Fd()), data, 0)
		must(t, err)
		must(t, f.Truncate(int64(len(data))))
		got, err := io.ReadAll(f)
		must(t, err)
		if written != want || end != last || !bytes.Equal(got, data) {
			t.Errorf("%q: %d bytes written up to %d, want %d up to %d; the same: %v", pattern, written, end, want, last, bytes.Equal(got, data))
		}
		must(t, f.Close())
	}
}

// TestZerosBecomeHoles copies a file of zeros that occupies its whole size: the file system reports no
// holes.
func TestZerosBecomeHoles(t *testing.T) {
	for name, parts := range map[string][]string{
		"in the middle": {"1", "0", "1"}, "at the end": {"1", "0"}, "at the beginning": {"0", "1"},
		"nothing else": {"0"}, "less than a block at the end": {"1", "00", "short"}, "no zeros": {"1", "1"},
	} {
		dir := t.TempDir()
		must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
		var data []byte
		want := int64(0)
		for _, part := range parts {
			switch part {
			case "1":
				data, want = append(data, bytes.Repeat([]byte("mooring!"), 128<<10)...), want+1<<20
			case "short":
				data = append(data, 0, 0, 0)
			default:
				data = append(data, make([]byte, len(part)<<20)...)
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, "tree/file"), data, 0o644))
		c := &Copy{Workers: 1, Methods: &Methods{}}
		c.Methods.clone.unusable.Store(true)
		c.Methods.copy.unusable.Store(true)
		must(t, copyTree(t, t.Context(), dir, c))
		got, err := os.ReadFile(filepath.Join(dir, "copy/file"))
		must(t, err)
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(dir, "copy/file"), &st))
		if !bytes.Equal(got, data) || c.Written.Bytes.Load() != want || st.Blocks*512 > want+64<<10 {
			t.Errorf("%s: %d bytes of %d were written, want %d; the copy has %d and occupies %d; the same: %v", name, c.Written.Bytes.Load(), len(data), want, len(got), st.Blocks*512, bytes.Equal(got, data))
		}
	}
}

// TestServerCopyRefusedLate makes the kernel copy by itself, as it does for an NFS server without COPY: the copy
// gives up after the first part and removes it, because the next method may leave holes there.
func TestServerCopyRefusedLate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "source")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("mooring!"), 1<<20), 0o644))
	source, err := os.Open(path)
	must(t, err)
	defer source.Close()
	made, err := os.Create(filepath.Join(dir, "made"))
	must(t, err)
	defer made.Close()
	var st unix.Stat_t
	must(t, unix.Fstat(int(source.Fd()), &st))
	c := dataCopier{&Methods{noDelegationFlag: unix.O_DIRECT}, &MethodCounts{}}
	moved, err := c.serverCopy(t.Context(), int(source.Fd()), int(made.Fd()), &st)
	if err == nil && moved == st.Size {
		t.Skip("this file system copies by itself")
	}
	if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	info, err := made.Stat()
	must(t, err)
	if info.Size() != 0 || c.counts.Copied.Bytes.Load() != 0 {
		t.Errorf("%d bytes are left, and %d are counted as copied", info.Size(), c.counts.Copied.Bytes.Load())
	}
}

// BenchmarkReadAndWrite copies a file of 64 MiB. Every case includes the check for zeros; MB/s are of the
// source.
func BenchmarkReadAndWrite(b *testing.B) {
	dense := make([]byte, 64<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(dense)
	worst := bytes.Clone(dense) // zeros until the last byte of each block
	for i := range worst {
		if i%blockSize != blockSize-1 {
			worst[i] = 0
		}
	}
	for name, data := range map[string][]byte{"dense": dense, "zeros": make([]byte, len(dense)), "worst": worst} {
		b.Run(name, func(b *testing.B) {
			dir, err := os.MkdirTemp("/dev/shm", "bench")
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(dir)
			source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
			if err := os.WriteFile(source, data, 0o644); err != nil {
				b.Fatal(err)
			}
			from, err := os.Open(source)
			if err != nil {
				b.Fatal(err)
			}
			defer from.Close()
			var st unix.Stat_t
			if err := unix.Fstat(int(from.Fd()), &st); err != nil {
				b.Fatal(err)
			}
			c := dataCopier{&Methods{}, &MethodCounts{}}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				to, err := os.Create(target)
				if err != nil {
					b.Fatal(err)
				}
				if err := c.readAndWrite(b.Context(), int(from.Fd()), int(to.Fd()), &st); err != nil {
					b.Fatal(err)
				}
				_ = to.Close()
			}
		})
	}
}

// BenchmarkZero checks one block.
func BenchmarkZero(b *testing.B) {
	zeros, late := make([]byte, blockSize), make([]byte, blockSize)
	late[blockSize-1] = 1
	for name, data := range map[string][]byte{"dense": bytes.Repeat([]byte{1}, blockSize), "zeros": zeros, "late": late} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(blockSize)
			for b.Loop() {
				isZero(data)
			}
		})
	}
}
