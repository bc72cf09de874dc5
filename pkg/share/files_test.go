// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// view is where a test sees the directory of a share.
type view struct {
	dir    string // in a process
	server string // on the server; with NFS it is another directory
}

// localView is a directory that the process and the server share.
func localView(dir string) view { return view{dir, dir} }

// files are the files of a share. Tests read them, and pods write them, on the server.
type files struct {
	*testing.T
	view
	label string // of the test case, for messages
}

func (f *files) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s%v", f.label, err)
	}
}

func (f *files) at(path string) string { return filepath.Join(f.server, path) }

// put makes a file, and the directories above it.
func (f *files) put(path, text string) {
	f.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.at(path)), 0o755))
	f.must(os.WriteFile(f.at(path), []byte(text), 0o644))
}

// has reports whether path exists.
func (f *files) has(path string) bool {
	_, err := os.Lstat(f.at(path))
	return !errors.Is(err, fs.ErrNotExist)
}

// text returns the content of a file, or "" if there is none.
func (f *files) text(path string) string {
	data, _ := os.ReadFile(f.at(path))
	return string(data)
}

// names returns what is in a directory, sorted.
func (f *files) names(path string) []string {
	f.Helper()
	entries, err := os.ReadDir(f.at(path))
	f.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// tree lists everything on the share. Directories end with '/'.
func (f *files) tree() (all []string) {
	f.Helper()
	dropCaches()
	f.must(filepath.WalkDir(f.server, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(f.server, p)
		if e.IsDir() {
			name += "/"
		}
		all = append(all, name)
		return nil
	}))
	return all[1:]
}

// find returns the paths of the files with a name.
func (f *files) find(name string) (all []string) {
	f.Helper()
	for _, p := range f.tree() {
		if filepath.Base(p) == name && !strings.HasSuffix(p, "/") {
			all = append(all, p)
		}
	}
	return all
}

// age makes a file or directory that much older.
func (f *files) age(path string, by time.Duration) {
	f.Helper()
	then := time.Now().Add(-by)
	f.must(os.Chtimes(f.at(path), then, then))
}

func (f *files) rename(from, to string) { f.Helper(); f.must(os.Rename(f.at(from), f.at(to))) }

func (f *files) removeAll(path string) { f.Helper(); f.must(os.RemoveAll(f.at(path))) }

func (f *files) mkdir(path string) { f.Helper(); f.must(os.MkdirAll(f.at(path), 0o700)) }

func (f *files) replace(path, text string) {
	f.Helper()
	f.must(os.Remove(f.at(path)))
	f.must(os.WriteFile(f.at(path), []byte(text), 0o600))
}

// edit replaces text in a file. The result is a new file.
func (f *files) edit(path, old, new string) {
	f.Helper()
	text := f.text(path)
	if !strings.Contains(text, old) {
		f.Fatalf("%s has no %q: %s", path, old, text)
	}
	f.replace(path, strings.Replace(text, old, new, 1))
}

// glob returns the only file that matches a pattern.
func (f *files) glob(pattern string) string {
	f.Helper()
	all, err := filepath.Glob(f.at(pattern))
	if err != nil || len(all) != 1 {
		f.Fatalf("%s are %q, %v", pattern, all, err)
	}
	path, _ := filepath.Rel(f.dir, all[0])
	return path
}

// addRequirement lets a record on the share require something that this program does not know.
func (f *files) addRequirement(path string) {
	f.Helper()
	path = ".mooring/" + path
	text := strings.Replace(f.text(path), "{", `{"requires": ["teleport"], "to": "mars",`, 1)
	f.must(os.Remove(f.at(path))) // it may be a link
	f.put(path, text)
}

// dropCaches makes the next reading of the server's view ask the server. The lab's view is the server's own
// directory, and needs nothing.
var dropCaches = func() {}
