// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// state keeps what the mount table does not have on local disk: one small file per volume of a pod,
// named by the path where it is mounted.
type state struct{ dir string }

// inlineNote records a directory that was made for a pod, or was about to be made. While the record
// exists, the directory must be removed.
type inlineNote struct {
	ID     string `json:"id"`
	Target string `json:"target"`
	Share  string `json:"share"`
	Key    string `json:"key"`
	Left   bool   `json:"left,omitempty"` // the pod is gone
}

const (
	viewPrefix   = "view-"
	inlinePrefix = "inline-"
)

func fileName(prefix, path string) string {
	sum := sha256.Sum256([]byte(path))
	return prefix + hex.EncodeToString(sum[:12]) + ".json"
}

// put writes v atomically: after a crash there is all of it or the previous content.
func (s state) put(prefix, path string, v any) (err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("record the mount at %s: %w", path, err)
		}
	}()
	f, err := os.CreateTemp(s.dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(s.dir, fileName(prefix, path))); err != nil {
		return err
	}
	return s.sync()
}

// sync makes renames durable (open(2), fsync(2)).
func (s state) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// get reads the record of a path into v. It returns false if there is none.
func (s state) get(prefix, path string, v any) (bool, error) {
	return s.read(fileName(prefix, path), v)
}

func (s state) read(name string, v any) (bool, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read %s in the state directory: %w", name, err)
	}
	return true, nil
}

// drop removes the record of a path.
func (s state) drop(prefix, path string) error {
	err := os.Remove(filepath.Join(s.dir, fileName(prefix, path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readAll reads all records of a kind.
func readAll[T any](s state, prefix string) ([]T, error) {
	entries, err := os.ReadDir(s.dir)
	var notes []T
	for _, e := range entries {
		var v T
		if !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		ok, readErr := s.read(e.Name(), &v)
		if ok {
			notes = append(notes, v)
		}
		err = errors.Join(err, readErr)
	}
	return notes, err
}

// openState makes the directory, and removes incomplete files that a crash has left in it.
func openState(dir string) (state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return state{}, err
	}
	incomplete, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	for _, file := range incomplete {
		err = errors.Join(err, os.Remove(file))
	}
	return state{dir}, err
}
