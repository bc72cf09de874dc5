// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/pkg/beneath"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// In these tests the bits of a directory's mode stand for its project. The one of setgid is handed
// down by mkdir(2), as FS_XFLAG_PROJINHERIT is, and the sticky one is not: a directory that has it has a
// project of its own.
const (
	handed = unix.S_ISGID
	own    = unix.S_ISVTX
)

func projectOf(st unix.Stat_t) uint32 { return st.Mode & (handed | own) }

// projects refuses what a server refuses: to move a directory into one that hands down another
// project, in the same directory too.
func projects(from beneath.Dir, name string, to beneath.Dir, as string) error {
	is, err := from.Stat(name)
	if err != nil {
		return nil // that is for rename(2) to say
	}
	into, err := to.StatSelf()
	if err != nil {
		return nil
	}
	if into.Mode&handed != 0 && projectOf(is) != projectOf(into) {
		return &os.PathError{Op: "rename", Path: as, Err: unix.EXDEV}
	}
	return nil
}

// withProject adds the bits of a project to the modes of directories, and makes those that are missing.
func withProject(t *testing.T, dir string, bits uint32, names ...string) {
	t.Helper()
	for _, name := range names {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(p, 0o700); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chmod(p, st.Mode&0o7777|bits); err != nil {
			t.Fatal(err)
		}
	}
}

// The shares that there are in these tests.
var (
	// quotaOfShare is one with a quota for all of it: what is made there gets its project.
	quotaOfShare = func(t *testing.T, dir string) { t.Helper(); withProject(t, dir, handed, ".") }
	// quotaOfParent has one for the directory "team".
	quotaOfParent = func(t *testing.T, dir string) { t.Helper(); withProject(t, dir, handed, "team") }
	// quotaOfState has one for .mooring alone.
	quotaOfState = func(t *testing.T, dir string) { t.Helper(); withProject(t, dir, handed, ".mooring") }
)

// newProjects is a share with projects.
func newProjects(t *testing.T, lay func(t *testing.T, dir string)) *ground {
	t.Helper()
	dir := scratch(t)
	lay(t, dir)
	return openAt(t, dir, Options{Maker: maker, Lease: over, beforeRename: projects})
}

// makeKept makes a volume with data in it whose directory cannot be moved, and deletes it.
func makeKept(g *ground, key, directory string) *TrashEntry {
	g.Helper()
	g.create(key, directory)
	g.put(directory+"/data", "of "+key)
	withProject(g.T, g.dir, own, directory)
	return g.delete(key)
}

// afterPurge are the deeds of others to a volume that is kept in its place until it is purged.
func afterPurge(key, directory string) []deed {
	return []deed{
		{"deletion", func(a *actor) error { return a.deleteVolume(key) }},
		{"purge", func(a *actor) error { return errors.Join(a.deleteVolume(key), a.clean()) }},
		{"purge, a successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.clean(), a.succeed(key, directory))
		}},
		{"purge, another's successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.clean(), a.succeed("v9", directory))
		}},
		{"purge, an empty successor", func(a *actor) error {
			err := errors.Join(a.deleteVolume(key), a.clean())
			a.empties = append(a.empties, directory)
			return errors.Join(err, a.until(func() error { _, err := a.make(record("v9", directory)); return err }))
		}},
		{"the project is taken away, restoration", func(a *actor) error {
			if !a.has(directory) {
				return nil
			}
			if err := os.Chmod(a.at(directory), 0o755|os.ModeSetgid); err != nil {
				return err
			}
			return a.restoreAll(key)
		}},
	}
}

// withProjects are the scenarios in which a server refuses renames.
func withProjects() []scenario {
	ready := func(g *ground) {
		g.create("v1", "a")
		g.put("a/data", "of v1")
		withProject(g.T, g.dir, own, "a")
	}
	once := func(a *actor) error { _, err := a.Volumes.Delete(a.Context(), "v1"); return err }
	purge := func(a *actor) error {
		a.purged = true
		return errors.Join(a.deleteVolume("v1"), a.purge())
	}
	kill := func(what string, steps int, do func(a *actor) error) (deeds []deed) {
		for _, d := range halves(steps, what, "a", do) {
			deeds = append(deeds, deed{d.name, func(a *actor) error { a.purged = true; return d.do(a) }})
		}
		return deeds
	}
	others := append(afterPurge("v1", "a"), kill("v1", 3, once)...)
	others = append(others, kill("v1, in its place", 14, purge)...)

	clone := record("v2", "team/v2")
	clone.Source = sourceOf(ofVolume("v1"))
	cloning := creating("clone beneath a project", clone, withData)
	cloning.lay = quotaOfParent
	cloning.others = append(cloning.others, sourceSucceeded)
	cloning.others = append(cloning.others, halves(10, "v2", "team/v2", func(a *actor) error {
		_, err := a.Volumes.Delete(a.Context(), "v2")
		return err
	})...)

	plain := creating("create beside a project", record("v1", "a"), nil)
	plain.lay = quotaOfState
	plain.undo = func(a *actor) error { return errors.Join(a.deleteVolume("v1"), a.clean()) }
	plain.others = others

	return []scenario{
		plain,
		cloning,
		{
			name: "delete in place", lay: quotaOfShare, prepare: ready, others: others,
			run: func(a *actor) (string, error) {
				return "no volume v1 " + a.was["volume v1"] + " is ready", once(a)
			},
			undo: func(a *actor) error {
				_, err := a.make(record("v1", "a"))
				if errors.Is(err, volume.ErrBusy) {
					err = nil
				}
				return err
			},
		},
		{
			name: "purge in place", lay: quotaOfShare, others: others,
			prepare: func(g *ground) { makeKept(g, "v1", "a") },
			run: func(a *actor) (string, error) {
				a.purged = true
				return "no trash v1." + a.was["trash v1"], a.purge()
			},
			undo: func(a *actor) error {
				err := a.restoreAll("v1")
				if errors.Is(err, volume.ErrPrecondition) {
					err = nil // it cannot be moved
				}
				return err
			},
		},
	}
}
