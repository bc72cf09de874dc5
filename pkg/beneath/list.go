// SPDX-License-Identifier: Apache-2.0

package beneath

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// batchSize is the number of entries of a directory that are in memory at once.
const batchSize = 1024

// Names calls each for every name in d, in the order of the server. It refreshes d first, so
// that the names are current. It stops at the first error of each, and returns it. [None] has
// no names.
func Names(d Dir, each func(name string) error) error {
	if d == None {
		return nil
	}
	if err := d.Refresh(); err != nil {
		return err
	}
	f, err := d.Open(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(batchSize)
		for _, name := range names {
			if err := each(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Entries calls each for every entry of d. isDir is false for a symbolic link. It stops at the
// first error of each, and returns it. [None] has no entries.
//
// Unlike [Names], Entries does not refresh d. The type may have changed before the caller uses
// the name: only opening it as a directory proves that it is one.
func Entries(d Dir, each func(name string, isDir bool) error) error {
	if d == None {
		return nil
	}
	fd, err := d.openFD(".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	// Some servers do not send types. ReadDir then calls lstat(2) with the joined names of the
	// file and the entry; with this name that is relative to the descriptor.
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	for {
		entries, err := f.ReadDir(batchSize)
		for _, e := range entries {
			if err := each(e.Name(), e.IsDir()); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return withoutPath(err, path)
		}
	}
}

// withoutPath removes path from an error about the file at path, or about an entry in it.
func withoutPath(err error, path string) error {
	e, ok := errors.AsType[*os.PathError](err)
	if !ok {
		return err
	}
	name := strings.TrimPrefix(strings.TrimPrefix(e.Path, path), "/")
	return pathError(e.Op, cmp.Or(name, "."), e.Err)
}

// IsEmpty reports whether d has no entries on the server (see [Names]).
func IsEmpty(d Dir) (bool, error) {
	err := Names(d, func(string) error { return fs.ErrExist })
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}
