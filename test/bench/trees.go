// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// tree is a kind of volume to copy. grow fills a directory on the server with it, always in the same way.
type tree struct {
	name  string
	files int
	grow  func(directory string, content io.Reader) error
}

// The copied trees.
var (
	largeFile = tree{"one file of 256 MiB", 1, func(directory string, content io.Reader) error {
		return write(filepath.Join(directory, "file"), content, 256<<20)
	}}
	manyFiles = tree{"2,000 files of 16 KiB", 2000, func(directory string, content io.Reader) error {
		return each(2000, func(i int) error {
			return write(filepath.Join(directory, fmt.Sprintf("file-%d", i)), content, 16<<10)
		})
	}}
	spreadFiles = tree{"500 files of 16 KiB in 20 directories", 500, func(directory string, content io.Reader) error {
		return each(20, func(d int) error {
			sub := filepath.Join(directory, fmt.Sprintf("directory-%d", d))
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
			return each(25, func(i int) error {
				return write(filepath.Join(sub, fmt.Sprintf("file-%d", i)), content, 16<<10)
			})
		})
	}}
	deepTree = tree{"20,000 files in 200 directories", 20000, func(directory string, content io.Reader) error {
		sizes := rand.New(rand.NewPCG(0, 0))
		return each(200, func(d int) error {
			sub := filepath.Join(directory, fmt.Sprintf("directory-%d", d))
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
			return each(100, func(i int) error {
				return write(filepath.Join(sub, fmt.Sprintf("file-%d", i)), content, 1+sizes.Int64N(4<<10))
			})
		})
	}}
	sparseFile = tree{"one sparse file of 64 GiB, 4 MiB of data", 1, func(directory string, content io.Reader) error {
		const size, extents = 64 << 30, 4
		f, err := os.Create(filepath.Join(directory, "file"))
		if err != nil {
			return err
		}
		for i := range int64(extents) {
			if err == nil {
				_, err = io.CopyN(io.NewOffsetWriter(f, i*size/extents), content, 1<<20)
			}
		}
		return errors.Join(err, f.Truncate(size), f.Close())
	}}
)

// write makes a file of this number of bytes, in as few system calls as possible.
func write(name string, content io.Reader, size int64) error {
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	buffer := make([]byte, min(size, 1<<20))
	for ; size > 0 && err == nil; size -= int64(len(buffer)) {
		buffer = buffer[:min(size, int64(len(buffer)))]
		_, _ = io.ReadFull(content, buffer) // never fails
		_, err = unix.Write(fd, buffer)
	}
	return errors.Join(err, unix.Close(fd))
}

// plant grows the tree and waits until it is on the disk: otherwise a CLONE would wait for that.
func (t tree) plant(directory string) error {
	if err := t.grow(directory, rand.NewChaCha8([32]byte{})); err != nil {
		return err
	}
	d, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// same checks a copy: it has the same names, sizes, modes and times, not many times the blocks, and the
// content of some files is the same.
func same(original, replica string) error {
	inspected, entries := 0, 0
	err := filepath.WalkDir(original, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		entries++
		name, _ := filepath.Rel(original, path)
		var a, b unix.Stat_t
		if err := errors.Join(unix.Lstat(path, &a), unix.Lstat(filepath.Join(replica, name), &b)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		// The server determines the size of a directory, and mostly the blocks of a file: XFS may have
		// reserved as many again for further writes.
		if a.Mode != b.Mode || a.Mtim != b.Mtim || !d.IsDir() && (a.Size != b.Size || b.Blocks > 3*a.Blocks+128) {
			return fmt.Errorf("%s: %+v became %+v", name, a, b)
		}
		if d.IsDir() || inspected >= 20 {
			return nil
		}
		inspected++
		return sameData(path, filepath.Join(replica, name))
	})
	if err != nil {
		return fmt.Errorf("the copy is not the same: %w", err)
	}
	err = filepath.WalkDir(replica, func(string, fs.DirEntry, error) error { entries--; return nil })
	if entries != 0 {
		err = errors.Join(err, fmt.Errorf("the copy has %d entries more than the original", -entries))
	}
	return err
}

// sameData compares the first and last MiB of two files of one size.
func sameData(one, other string) error {
	a, err := os.Open(one)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(other)
	if err != nil {
		return err
	}
	defer b.Close()
	info, err := a.Stat()
	if err != nil {
		return err
	}
	const part = 1 << 20
	for _, at := range []int64{0, max(info.Size()-part, 0)} {
		x, err := io.ReadAll(io.NewSectionReader(a, at, part))
		y, other := io.ReadAll(io.NewSectionReader(b, at, part))
		if err := errors.Join(err, other); err != nil {
			return err
		}
		if !bytes.Equal(x, y) {
			return fmt.Errorf("%s: its data from %d on differ", filepath.Base(one), at)
		}
	}
	return nil
}
