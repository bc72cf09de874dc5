// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// Fake keeps a mount table in memory, for tests of higher packages. It mounts nothing: a mount
// point becomes a symbolic link into Root while something is "mounted" there.
type Fake struct {
	// Root is the directory with the root of every server.
	Root string

	mu    sync.Mutex
	table Table
	// Fail, if set, is called before each call ("mount", "bind", "restrict", "unmount", "interrupt"), which
	// returns its error.
	Fail func(call, target string) error
	// Mounts and Binds count the calls that succeeded.
	Mounts, Binds int
}

func (f *Fake) do(call, target string, change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Fail != nil {
		if err := f.Fail(call, target); err != nil {
			return err
		}
	}
	return change()
}

// Mount adds the spec to the table. The target must be a directory.
func (f *Fake) Mount(_ context.Context, s Spec) error {
	return f.do("mount", s.Target, func() error {
		_, path, _ := strings.Cut(s.Source, ":/")
		if err := f.link(filepath.Join(f.Root, path), s.Target); err != nil {
			return err
		}
		f.Mounts++
		mode := "rw"
		if slices.Contains(s.Options, "ro") {
			mode = "ro"
		}
		super := slices.Clone(s.Options) // the kernel shows only some of them
		if version := volume.NFSVersion(s.Options); version != "" {
			super = append(super, "vers="+version)
		}
		f.table = append(f.table, Entry{Source: s.Source, Target: s.Target, Type: "nfs4", Options: []string{mode}, Super: super, Device: fmt.Sprintf("0:%d", f.Mounts)})
		return nil
	})
}

// Bind adds a second view of the mount at source.
func (f *Fake) Bind(_ context.Context, source Entry, target string, readOnly bool) error {
	return f.do("bind", target, func() error {
		e, ok := f.table.At(source.Target)
		if !ok || e.Device != source.Device {
			return fmt.Errorf("bind %s: %s is not mounted there", source.Target, source.Source)
		}
		shown, err := os.Readlink(source.Target)
		if err != nil {
			return err
		}
		if err := f.link(shown, target); err != nil {
			return err
		}
		f.Binds++
		e.Target = target
		if readOnly {
			e.Options = []string{"ro"}
		}
		f.table = append(f.table, e)
		return nil
	})
}

// Restrict makes the topmost entry at target read-only.
func (f *Fake) Restrict(target string) error {
	return f.do("restrict", target, func() error {
		for i, e := range slices.Backward(f.table) {
			if e.Target == target {
				f.table[i].Options = []string{"ro"}
				return nil
			}
		}
		return fmt.Errorf("restrict %s: nothing is mounted there", target)
	})
}

// Unmount removes every entry at target from the table.
func (f *Fake) Unmount(_ context.Context, target string) error {
	return f.do("unmount", target, func() error {
		if _, ok := f.table.At(target); !ok {
			return nil
		}
		f.table = slices.DeleteFunc(f.table, func(e Entry) bool { return e.Target == target })
		if err := os.Remove(target); err != nil {
			return err
		}
		return os.Mkdir(target, 0o755)
	})
}

// Interrupt changes nothing.
func (f *Fake) Interrupt(target string) error {
	return f.do("interrupt", target, func() error { return nil })
}

// Table returns a copy of the table.
func (f *Fake) Table() (Table, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.table), nil
}

// link replaces the empty directory at target by a link to the directory shown.
func (f *Fake) link(shown, target string) error {
	if info, err := os.Stat(shown); err != nil || !info.IsDir() {
		return volume.Errorf(volume.ErrPrecondition, "mount %s: no such directory on the server", shown)
	}
	if info, err := os.Lstat(target); err != nil || !info.IsDir() {
		return fmt.Errorf("mount at %s: not a directory", target)
	}
	if err := os.Remove(target); err != nil {
		return err
	}
	return os.Symlink(shown, target)
}
