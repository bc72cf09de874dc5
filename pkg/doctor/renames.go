// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"golang.org/x/sys/unix"
)

// renamesSuffix is the suffix of the directory in which renames are tested.
const renamesSuffix = ".renames"

// renamesNames are the names of all entries that a trial creates there.
var renamesNames = []string{"file", "directory", "full", "empty", "removed", "moved", "moved-on", "other-file", "other-directory"}

// renames tests the operations on which Mooring's safety depends (docs/design.md, "What it rests on"), and
// returns the violations of the server. other is the share's root in another mount with its own superblock:
// it has nothing cached, so that the server decides and not this machine.
func (t *probeFile) renames(other beneath.Dir, links bool) (wrong []string, err error) {
	name := t.name + renamesSuffix
	if err := t.dir.Mkdir(name, 0o700); err != nil {
		return nil, err
	}
	here, err := t.dir.Resolve(name)
	if err != nil {
		return nil, errors.Join(err, t.dir.Rmdir(name))
	}
	r := &renamesTrial{here: here, there: beneath.None, links: links}
	defer func() {
		r.clear()
		err = errors.Join(err, t.dir.Rmdir(name))
	}()
	if err := r.prepare(); err != nil {
		return nil, err
	}
	if r.there, err = other.Resolve(path.Join(t.dirPath, name)); err != nil {
		return nil, err
	}
	if err := r.tryTakenNames(); err != nil {
		return r.violations, err
	}
	return r.violations, r.tryOpenHandles()
}

// renamesTrial has the directory for renames, as two mounts show it.
type renamesTrial struct {
	here, there beneath.Dir
	links       bool // the server has hard links
	violations  []string
}

// prepare creates the entries to rename and those that already exist at the targets.
func (r *renamesTrial) prepare() error {
	for _, name := range []string{"directory", "full", "empty", "removed", "moved", "other-directory"} {
		if err := r.here.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	full, err := r.here.Resolve("full")
	if err != nil {
		return err
	}
	defer full.Close()
	return errors.Join(makeFile(r.here, "file"), makeFile(r.here, "other-file"), makeFile(full, "file"))
}

func makeFile(d beneath.Dir, name string) error {
	f, err := d.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

// tryTakenNames tests operations on names that are taken.
func (r *renamesTrial) tryTakenNames() error {
	there := r.there
	steps := []forbiddenStep{
		{"a directory was renamed over a file", func() error { return there.Rename("other-directory", there, "file") }},
		{"a file was renamed over a directory", func() error { return there.Rename("other-file", there, "directory") }},
		{"a directory was renamed over one that is not empty", func() error { return there.Rename("other-directory", there, "full") }},
		{"a directory was created over a file", func() error { return there.Mkdir("file", 0o700) }},
		{"a directory was created over a directory", func() error { return there.Mkdir("full", 0o700) }},
		{"a file was created over a file", func() error { return makeFile(there, "file") }},
		{"a directory was removed that is not empty", func() error { return there.Rmdir("full") }},
	}
	if r.links {
		steps = append(steps, forbiddenStep{"a file was linked to the name of another file", func() error { return there.Link("other-file", there, "file") }})
	}
	if err := r.expectRefusal(steps...); err != nil {
		return err
	}
	if err := there.Rename("other-directory", there, "empty"); err != nil {
		r.violations = append(r.violations, fmt.Sprintf("a directory could not be renamed over an empty one (%v)", err))
	}
	return nil
}

// tryOpenHandles tests open directories that another mount renames or removes.
func (r *renamesTrial) tryOpenHandles() error {
	moved, err := r.here.Resolve("moved")
	if err != nil {
		return err
	}
	defer moved.Close()
	removed, err := r.here.Resolve("removed")
	if err != nil {
		return err
	}
	defer removed.Close()
	if err := r.there.Rename("moved", r.there, "moved-on"); err != nil {
		return err
	}
	if err := moved.Refresh(); err != nil {
		r.violations = append(r.violations, fmt.Sprintf("the handle of a directory became invalid when it was renamed (%v)", err))
	}
	if err := r.there.Rmdir("removed"); err != nil {
		return err
	}
	return r.expectRefusal(
		forbiddenStep{"a file was renamed into a directory that was removed", func() error { return r.here.Rename("other-file", removed, "late") }},
		forbiddenStep{"a directory was created in a directory that was removed", func() error { return removed.Mkdir("late", 0o700) }},
		forbiddenStep{"a file was created in a directory that was removed", func() error { return makeFile(removed, "late") }},
	)
}

// forbiddenStep is an operation that the server must refuse, and the violation if it does not.
type forbiddenStep struct {
	what string
	do   func() error
}

// expectRefusal performs operations that the server must refuse, and records those that succeed. Any error
// of the server is a refusal; expectRefusal returns a timeout.
func (r *renamesTrial) expectRefusal(steps ...forbiddenStep) error {
	for _, step := range steps {
		switch err := step.do(); {
		case err == nil:
			r.violations = append(r.violations, step.what)
		case errors.Is(err, unix.ETIMEDOUT):
			return err
		}
	}
	return nil
}

// isRenamesDir reports whether a directory contains only entries that a trial creates there.
func isRenamesDir(d beneath.Dir, name string) bool {
	in, err := d.Resolve(name)
	if err != nil {
		return false
	}
	defer in.Close()
	return beneath.Names(in, func(name string) error {
		if !slices.Contains(renamesNames, name) {
			return unix.EEXIST
		}
		return nil
	}) == nil
}

// clear empties the directory. It uses both mounts, because each may cache what the other has removed.
func (r *renamesTrial) clear() {
	for _, d := range []beneath.Dir{r.there, r.here} {
		clearRenames(d)
		if d != beneath.None {
			d.Close()
		}
	}
}

func clearRenames(d beneath.Dir) {
	if d == beneath.None {
		return
	}
	if full, err := d.Resolve("full"); err == nil {
		_ = full.Unlink("file")
		full.Close()
	}
	for _, name := range renamesNames {
		if d.Unlink(name) != nil {
			_ = d.Rmdir(name)
		}
	}
}
