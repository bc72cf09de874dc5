// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

var instanceName = regexp.MustCompile(`^[0-9a-f]{8}$`)

// lockInstance returns the name of the driver's instance that the state directory belongs to, and
// generates one if it has none. It locks the directory until unlock is called or the process ends, and
// returns an error if another process has locked it.
func lockInstance(stateDir string) (name string, unlock func(), err error) {
	f, err := lockFile(stateDir, "instance", "controller")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	data, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return "", nil, err
	}
	if !instanceName.Match(data) {
		b := make([]byte, 4)
		_, _ = rand.Read(b) // never fails (crypto/rand)
		data = []byte(hex.EncodeToString(b))
		if err := errors.Join(f.Truncate(0), writeAt(f, data), f.Sync()); err != nil {
			return "", nil, err
		}
	}
	return string(data), func() { _ = f.Close() }, nil
}

// lockFile opens a file of the state directory, and locks it for one process of a role until it is closed.
func lockFile(stateDir, name, role string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(stateDir, name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("state directory %s is used by another %s: give each its own --state-dir", stateDir, role)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

func writeAt(f *os.File, data []byte) error {
	_, err := f.WriteAt(data, 0)
	return err
}
