// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree describes all entries in a directory of the server, by name: type, mode, owner and content.
// Links are not followed.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir { // removed meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if strings.HasSuffix(path, "/.mooring/heartbeat") { // a controller writes it all the time
			return nil
		}
		text, err := describe(path)
		if err == nil {
			all[name] = text
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	text := fmt.Sprintf("%v of %d:%d", info.Mode(), st.Uid, st.Gid)
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(path)
		return text + " to " + target, err
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		text = fmt.Sprintf("%s, %d bytes %.8x", text, len(data), sha256.Sum256(data))
		if strings.Contains(path, "/.mooring/") && !strings.Contains(path, "/data/") { // a client with delegated times sets them later (RFC 9754)
			return text, err
		}
		return fmt.Sprintf("%s of %v", text, info.ModTime()), err
	}
	return text, nil
}

// differences lists the changes of a tree. Parents that were made for volumes and have none do not count:
// they are removed some time later.
func differences(before, after map[string]string) []string {
	var lines []string
	before, after = withoutIdle(before), withoutIdle(after)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		switch now, there := after[name]; {
		case !there:
			lines = append(lines, fmt.Sprintf("%q is gone: %s", name, before[name]))
		case now != before[name]:
			lines = append(lines, fmt.Sprintf("%q was %s, is %s", name, before[name], now))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if _, there := before[name]; !there {
			lines = append(lines, fmt.Sprintf("%q is new: %s", name, after[name]))
		}
	}
	return lines
}

// withoutIdle omits what Mooring keeps for a while of the parents of deleted volumes: directories of
// claims without a claim, their entries in the index of parents, and the empty parents that the index
// lists as made by Mooring. It also omits directories of holds without a hold.
func withoutIdle(there map[string]string) map[string]string {
	const claims, notes = ".mooring/claims/", ".mooring/parents/"
	rest := maps.Clone(there)
	names := slices.Sorted(maps.Keys(there))
	for _, name := range slices.Backward(names) { // what is inside comes first
		at, isClaims := strings.CutPrefix(name, claims)
		parent, isParent := strings.CutSuffix(at, "/taken")
		if isClaims && isParent && strings.HasPrefix(there[name], "d") && !holds(rest, name) {
			delete(rest, name)
			delete(rest, claims+parent)
		}
	}
	for _, name := range slices.Backward(names) {
		note, isNote := strings.CutPrefix(name, notes)
		if !isNote {
			continue
		}
		parent, err := url.PathUnescape(note[2:])
		if _, inUse := rest[claims+strings.ReplaceAll(parent, "/", "/taken/")]; inUse || err != nil {
			continue
		}
		delete(rest, name)
		if strings.HasPrefix(note, "d.") && !holds(rest, parent) {
			delete(rest, parent)
		}
	}
	for name := range there { // directories of former holds: see docs/design.md, "Update"
		if at, is := strings.CutSuffix(name, "/deletion"); is && path.Dir(path.Dir(at)) == ".mooring" && strings.HasPrefix(there[name], "d") && !holds(rest, name) {
			delete(rest, name)
		}
	}
	return rest
}

func holds(tree map[string]string, dir string) bool {
	for name := range tree {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

// unchanged fails the test if do changes anything in a directory of the server.
func unchanged(t *testing.T, dir string, do func()) {
	t.Helper()
	before := tree(t, dir)
	do()
	if d := differences(before, tree(t, dir)); d != nil {
		t.Errorf("%s was changed:\n%s", dir, strings.Join(d, "\n"))
	}
}

// layout is Mooring's own files on a share without volumes.
var layout = []string{".", ".mooring", ".mooring/claims", ".mooring/format.json", ".mooring/groups", ".mooring/jobs", ".mooring/parents", ".mooring/snapshots", ".mooring/staging", ".mooring/trash", ".mooring/volumes"}

// empty waits until the share has only the names in left, Mooring's layout, and idle parents.
func (s *site) empty(left ...string) {
	s.t.Helper()
	var extra []string
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(20 * time.Millisecond) {
		there := withoutIdle(tree(s.t, s.export))
		for _, name := range left {
			if _, ok := there[name]; !ok {
				s.t.Fatalf("%q is not on the share any more", name)
			}
		}
		extra = slices.DeleteFunc(slices.Sorted(maps.Keys(there)), func(name string) bool {
			return slices.Contains(layout, name) || slices.Contains(left, name)
		})
		if len(extra) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("left on the share: %q", extra)
		}
	}
}

// write makes a file on the server, with its parents.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
