// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

const creations = 20

// outage kills the server, and starts it again, in the middle of a snapshot and of 20 creations, while
// a pod has a file open. Each call is made again until it succeeds, as a sidecar does.
func outage(s *site) {
	v := s.create(request("source", nil, nil))
	var snap *csi.Snapshot
	volumes := make([]*csi.Volume, creations)
	before := map[string]string{}
	s.pod("the source", v, lab.RWX(), func(dir string) error {
		err := manyFiles(dir, 200)
		if err != nil {
			return err
		}
		before = withoutTimes(describe(dir))
		return s.goesOn(filepath.Join(dir, "open"), func() error { return s.killed(v, &snap, volumes) })
	})
	if snap != nil {
		restored := s.create(request("restored", nil, fromSnapshot(snap.SnapshotId)))
		s.pod("compare", restored, lab.RWX(), func(dir string) error {
			after := withoutTimes(describe(dir))
			maps.DeleteFunc(after, func(name, _ string) bool { return strings.HasPrefix(name, "open") })
			if d := differences(before, after); len(d) > 0 {
				return fmt.Errorf("the snapshot is not what it was: %q", d)
			}
			return nil
		})
		s.delete(restored)
	}
	s.broken("directories", s.ownDirectories(volumes))
	s.broken("check after it", s.check())
	s.delete(append(volumes, v)...)
	s.deleteSnapshot(snap)
}

// killed begins everything, kills the server in the middle, and waits until all is there.
func (s *site) killed(v *csi.Volume, snap **csi.Snapshot, volumes []*csi.Volume) error {
	kill, err := s.guest.killer()
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	var made, copied atomic.Int64
	errs := make([]error, creations+1)
	all.Go(func() {
		errs[creations] = s.again(func() error {
			r, err := s.Controller.CreateSnapshot(s.soon(), &csi.CreateSnapshotRequest{Name: "snap", SourceVolumeId: v.VolumeId})
			if err == nil && !r.Snapshot.ReadyToUse {
				return errors.New("it is not ready")
			}
			*snap = r.GetSnapshot()
			return err
		})
		copied.Add(1)
	})
	for i := range creations {
		all.Go(func() {
			errs[i] = s.again(func() error {
				r, err := s.Controller.CreateVolume(s.soon(), request(fmt.Sprint("many-", i), nil, nil))
				volumes[i] = r.GetVolume()
				return err
			})
			made.Add(1)
		})
	}
	began := time.Now()
	for made.Load() < 3 && time.Since(began) < patience {
		time.Sleep(time.Millisecond)
	}
	what := fmt.Sprintf("%d of %d creations", made.Load(), creations)
	if copied.Load() == 0 {
		what += ", in the middle of a copy"
	}
	err = kill()
	if err == nil {
		_, err = s.guest.do("start")
	}
	began = time.Now()
	all.Wait()
	s.out.Killed = fmt.Sprintf("after %s; all was there %.0f s later", what, time.Since(began).Seconds())
	return errors.Join(append(errs, err)...)
}

// openFiles is how many files a pod has open while the server is killed.
const openFiles = 20

// goesOn has files open in dir, and expects each to be usable after what do does, and to hold what was
// synced before.
func (s *site) goesOn(dir string, do func() error) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	files := make([]*os.File, openFiles)
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
		if err := appendLine(f, "before\n"); err != nil {
			return err
		}
	}
	err := do()
	written := make(chan error, openFiles)
	for _, f := range files {
		go func() { written <- appendLine(f, "after\n") }()
	}
	deadline := time.After(patience)
	for range files {
		select {
		case e := <-written:
			if e != nil {
				return errors.Join(err, fmt.Errorf("a file that was open: %w", e))
			}
		case <-deadline:
			return errors.Join(err, errors.New("writing to a file that was open does not end"))
		}
	}
	for _, f := range files {
		if data, e := os.ReadFile(f.Name()); e != nil || string(data) != "before\nafter\n" {
			err = errors.Join(err, fmt.Errorf("the file %s, which was open, has %q (%v), and %s", filepath.Base(f.Name()), data, e, s.onServer(filepath.Join(filepath.Base(dir), filepath.Base(f.Name())))))
		}
	}
	return err
}

func appendLine(f *os.File, line string) error {
	if _, err := f.WriteString(line); err != nil {
		return err
	}
	return f.Sync()
}

// onServer says what a client that has nothing cached reads in the files of that name in all volumes.
func (s *site) onServer(name string) (said string) {
	err := s.look(func(dir string) error {
		found, err := filepath.Glob(filepath.Join(dir, "*", name))
		for _, file := range found {
			data, err := os.ReadFile(file)
			said += fmt.Sprintf("the server has %q (%v)", data, err)
		}
		return err
	})
	if err != nil {
		return err.Error()
	}
	return said
}

// ownDirectories wants each volume to have a directory of its own.
func (s *site) ownDirectories(volumes []*csi.Volume) error {
	return s.look(func(dir string) error {
		whose := map[string]string{}
		for i, v := range volumes {
			if v == nil {
				return fmt.Errorf("there is no volume %d", i)
			}
			at := v.VolumeContext["subDir"]
			if other, taken := whose[at]; taken || at == "" {
				return fmt.Errorf("%s has the directory %q, as has %q", v.VolumeId, at, other)
			}
			whose[at] = v.VolumeId
			if info, err := os.Stat(filepath.Join(dir, at)); err != nil || !info.IsDir() {
				return fmt.Errorf("the directory of %s: %w", v.VolumeId, err)
			}
		}
		return nil
	})
}

// withoutTimes leaves out when what was changed: a client may tell the server late (RFC 9754).
func withoutTimes(tree map[string]string) map[string]string {
	for name, text := range tree {
		tree[name] = strings.Join(slices.DeleteFunc(strings.Split(text, " | "), func(f string) bool { return strings.HasPrefix(f, "mtime ") }), " | ")
	}
	return tree
}

func manyFiles(dir string, n int) error {
	if err := os.Mkdir(filepath.Join(dir, "many"), 0o755); err != nil {
		return err
	}
	for i := range n {
		text := strings.Repeat(fmt.Sprintf("line of file %d\n", i), 4096)
		if err := os.WriteFile(filepath.Join(dir, "many", fmt.Sprint(i)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
