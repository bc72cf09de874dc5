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

// renamesSuffix ends the name of the directory in which renames are tried.
const renamesSuffix = ".renames"

// renamesNames are all names that are ever made there.
var renamesNames = []string{"file", "directory", "full", "empty", "removed", "moved", "moved-on", "other-file", "other-directory"}

// renames tries what Mooring's safety rests on (docs/design.md, "What it rests on"), and returns what the
// server does otherwise. other is the share's root by another mount, with a superblock of its own: it has
// not seen what is there, so that the server decides and not what this machine remembers.
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

// renamesTrial is the directory, by two mounts.
type renamesTrial struct {
	here, there beneath.Dir
	links       bool // the server has hard links
	violations  []string
}

// prepare makes what is renamed and what is there already.
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

// tryTakenNames tries names that something else has.
func (r *renamesTrial) tryTakenNames() error {
	there := r.there
	late := []forbiddenStep{
		{"a directory was renamed over a file", func() error { return there.Rename("other-directory", there, "file") }},
		{"a file was renamed over a directory", func() error { return there.Rename("other-file", there, "directory") }},
		{"a directory was renamed over one that is not empty", func() error { return there.Rename("other-directory", there, "full") }},
		{"a directory was made where there is a file", func() error { return there.Mkdir("file", 0o700) }},
		{"a directory was made where there is one", func() error { return there.Mkdir("full", 0o700) }},
		{"a file was made anew where there is one", func() error { return makeFile(there, "file") }},
		{"a directory was removed that is not empty", func() error { return there.Rmdir("full") }},
	}
	if r.links {
		late = append(late, forbiddenStep{"a file got a second name that another file has", func() error { return there.Link("other-file", there, "file") }})
	}
	if err := r.expectRefusal(late...); err != nil {
		return err
	}
	if err := there.Rename("other-directory", there, "empty"); err != nil {
		r.violations = append(r.violations, fmt.Sprintf("a directory could not be renamed over an empty one (%v)", err))
	}
	return nil
}

// tryOpenHandles tries what is open while another mount renames or removes it.
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
		r.violations = append(r.violations, fmt.Sprintf("the handle of a directory ended when that was renamed (%v)", err))
	}
	if err := r.there.Rmdir("removed"); err != nil {
		return err
	}
	return r.expectRefusal(
		forbiddenStep{"a file was renamed into a directory that was removed", func() error { return r.here.Rename("other-file", removed, "late") }},
		forbiddenStep{"a directory was made in one that was removed", func() error { return removed.Mkdir("late", 0o700) }},
		forbiddenStep{"a file was made in a directory that was removed", func() error { return makeFile(removed, "late") }},
	)
}

// forbiddenStep is what the server has to refuse, and what is said of one that does not.
type forbiddenStep struct {
	what string
	do   func() error
}

// expectRefusal does what the server has to refuse, and notes what it has done. A server that refuses by an
// unusual error does no harm; an error that is no answer is returned.
func (r *renamesTrial) expectRefusal(steps ...forbiddenStep) error {
	for _, step := range steps {
		err := step.do()
		if errors.Is(err, unix.ETIMEDOUT) {
			return err
		}
		if err == nil {
			r.violations = append(r.violations, step.what)
		}
	}
	return nil
}

// isRenamesDir reports whether a directory has nothing but what a trial makes there.
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

// clear removes what is left there. Each mount may remember what the other has removed.
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
