// SPDX-License-Identifier: Apache-2.0

//go:build !lab

package copytree

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// TestSegmentsOfTruncatedFile truncates a file during its copy.
func TestSegmentsOfTruncatedFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte("mooring!"), largeFile/4))
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	end, err := segments(t.Context(), int(f.Fd()), &st, func(from, _ int64) (int, error) {
		if from == 0 {
			return 12345, nil
		}
		return 0, nil
	})
	if err != nil || end != 12345 {
		t.Errorf("it ends at %d, %v", end, err)
	}
}

// contextUntil is a context that ends when done returns true.
type contextUntil struct {
	context.Context
	done func() bool
}

func (c contextUntil) Err() error {
	if c.done() {
		return context.Canceled
	}
	return nil
}

// TestCopyStopsWithinAFile ends a copy after the first part of a file, by each method.
func TestCopyStopsWithinAFile(t *testing.T) {
	ground.Each(t, func(t *testing.T, g ground.Ground) {
		const part = bufferSize
		source, err := os.Create(filepath.Join(g.Dir, "source"))
		must(t, err)
		defer source.Close()
		for at := range int64(2) { // with a hole in between
			_, err = source.WriteAt(bytes.Repeat([]byte("mooring!"), part/8), at*16*part)
			must(t, err)
		}
		var st unix.Stat_t
		must(t, unix.Fstat(int(source.Fd()), &st))
		for way, m := range map[string]*Methods{"copy": methodsWithout(true, false), "write": methodsWithout(true, true)} {
			made, err := os.Create(filepath.Join(g.Dir, "made"))
			must(t, err)
			c := &Copy{Methods: m}
			done := func() int64 { return c.Copied.Bytes.Load() + c.Written.Bytes.Load() }
			err = c.data().copy(contextUntil{t.Context(), func() bool { return done() > 0 }}, int(source.Fd()), int(made.Fd()), &st)
			if n := done(); !errors.Is(err, context.Canceled) || n != part {
				t.Errorf("%s: it ended with %v after %d bytes", way, err, n)
			}
			must(t, made.Close())
		}
	})
}

// TestRefusedCopyIsNotCounted makes copy_file_range(2) fail: the counter remains 0.
func TestRefusedCopyIsNotCounted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(path, []byte("some"), 0o600))
	source, err := os.Open(path)
	must(t, err)
	defer source.Close()
	c := &Copy{Methods: &Methods{}}
	var st unix.Stat_t
	must(t, unix.Fstat(int(source.Fd()), &st))
	if _, err := c.data().serverCopy(t.Context(), int(source.Fd()), int(source.Fd()), &st); !errors.Is(err, unix.EBADF) {
		t.Errorf("a copy to a file that is open for reading: %v", err)
	}
	if n := c.Copied.Bytes.Load(); n != 0 {
		t.Errorf("%d bytes are counted as copied", n)
	}
}
