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

// clean returns a path as the mount table has it (mount.PathInTable). Only absolute paths will do.
func clean(path string) (string, error) {
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
	if errors.Is(err, fs.ErrNotExist) { // the parent is not there, and so there is nothing at path either
		return path, nil
	}
	return found, inTheWay(err)
}

// locate returns a path as the mount table has it, and that table. A path inside a volume is refused: to
// look at it would ask the server.
func (l *local) locate(path string) (string, mount.Table, error) {
	table, err := l.mounter.Table()
	if err != nil {
		return "", nil, err
	}
	for _, e := range table {
		if within := e.Target + "/"; strings.HasPrefix(e.Type, "nfs") && strings.HasPrefix(filepath.Clean(path), within) && !strings.HasPrefix(l.state.dir, within) {
			return "", nil, volume.Errorf(volume.ErrInvalid, "the path %q is inside the volume that is mounted at %s", path, e.Target)
		}
	}
	path, err = clean(path)
	if err == nil && path == "/" {
		err = volume.Errorf(volume.ErrInvalid, "no volume is at /")
	}
	return path, table, err
}

// makeDirectory makes the directory at which something is to be mounted. Nothing is mounted
// there, so that looking at it is safe. A file or a link in its place is ErrPrecondition.
func makeDirectory(path string) error {
	err := os.Mkdir(path, 0o750)
	if errors.Is(err, fs.ErrNotExist) {
		return volume.Errorf(volume.ErrPrecondition, "the parent of %s is not there: the orchestrator has to make it", path)
	}
	if !errors.Is(err, fs.ErrExist) {
		return inTheWay(err)
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

// inTheWay gives its kind to an error about a file that stands where a parent is to be.
func inTheWay(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return volume.Errorf(volume.ErrPrecondition, "%w: a file stands where a directory is to be: remove it", err)
	}
	return err
}
