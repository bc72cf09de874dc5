// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// cleanPath returns a path as the mount table has it (mount.PathInTable). It returns ErrInvalid if the
// path is not absolute or too long, and ErrPrecondition if a file is in the place of a parent.
func cleanPath(path string) (string, error) {
	switch {
	case !filepath.IsAbs(path):
		return "", volume.Errorf(volume.ErrInvalid, "the path %q is not absolute", path)
	case strings.ContainsRune(path, 0):
		return "", volume.Errorf(volume.ErrInvalid, "the path %q has a NUL in it", path)
	}
	path = filepath.Clean(path)
	tooLong := func(name string) bool { return len(name) > unix.NAME_MAX }
	if len(path) >= unix.PathMax || slices.ContainsFunc(strings.Split(path, "/"), tooLong) {
		return "", volume.Errorf(volume.ErrInvalid, "the path %.100q is %d bytes long, or has a name that is too long", path, len(path))
	}
	found, err := mount.PathInTable(path)
	if errors.Is(err, fs.ErrNotExist) { // without the parent, nothing is mounted at path either
		return path, nil
	}
	return found, asPrecondition(err)
}

// locate returns a path as the mount table has it, and that table. It returns ErrInvalid for a path
// inside a volume: any access to it would wait for the server.
func (l *nodeServices) locate(path string) (string, mount.Table, error) {
	table, err := l.mounter.Table()
	if err != nil {
		return "", nil, err
	}
	for _, e := range table {
		if within := e.Target + "/"; strings.HasPrefix(e.Type, "nfs") && strings.HasPrefix(filepath.Clean(path), within) && !strings.HasPrefix(l.state.dir, within) {
			return "", nil, volume.Errorf(volume.ErrInvalid, "the path %q is inside the volume that is mounted at %s", path, e.Target)
		}
	}
	if path, err = cleanPath(path); err != nil {
		return "", nil, err
	}
	if path == "/" {
		return "", nil, volume.Errorf(volume.ErrInvalid, "no volume is at /")
	}
	return path, table, nil
}

// makeDirectory makes a mount point. Nothing is mounted there, so it is safe to access it. It returns
// ErrPrecondition if there is a file or a link in its place.
func makeDirectory(path string) error {
	err := os.Mkdir(path, 0o750)
	if errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrPrecondition, "the parent directory of %s does not exist: the orchestrator must create it", path)
	}
	if !errors.Is(err, fs.ErrExist) {
		return asPrecondition(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return volume.Errorf(volume.ErrPrecondition, "%s is not a directory (%s): remove it", path, info.Mode())
	}
	return nil
}

// asPrecondition makes ENOTDIR, a file in the place of a parent directory, an ErrPrecondition.
func asPrecondition(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return volume.Errorf(volume.ErrPrecondition, "%w: a file is in the place of a directory: remove it", err)
	}
	return err
}
