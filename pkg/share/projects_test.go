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

// In these tests the mode bits of a directory represent its project. mkdir(2) hands setgid down, as it
// does FS_XFLAG_PROJINHERIT. It does not hand the sticky bit down: a directory with it has a project of
// its own.
const (
	inherited = unix.S_ISGID
	own       = unix.S_ISVTX
)

func projectOf(st unix.Stat_t) uint32 { return st.Mode & (inherited | own) }

// refuseByProject returns EXDEV for what a server with project quotas refuses: to move a directory
// into one that hands down another project, even within the same directory.
func refuseByProject(from beneath.Dir, name string, to beneath.Dir, as string) error {
	is, err := from.Stat(name)
	if err != nil {
		return nil // rename(2) returns the error
	}
	into, err := to.StatSelf()
	if err != nil {
		return nil
	}
	if into.Mode&inherited != 0 && projectOf(is) != projectOf(into) {
		return &os.PathError{Op: "rename", Path: as, Err: unix.EXDEV}
	}
	return nil
}

// setProject adds the bits of a project to the modes of directories, and creates missing ones.
func setProject(t *testing.T, dir string, bits uint32, names ...string) {
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

// The shares in these tests.
var (
	// quotaOfShare has a quota for the whole share: new directories get its project.
	quotaOfShare = func(t *testing.T, dir string) { t.Helper(); setProject(t, dir, inherited, ".") }
	// quotaOfParent has a quota for the directory "team".
	quotaOfParent = func(t *testing.T, dir string) { t.Helper(); setProject(t, dir, inherited, "team") }
	// quotaOfState has a quota for .mooring only.
	quotaOfState = func(t *testing.T, dir string) { t.Helper(); setProject(t, dir, inherited, ".mooring") }
)

// newProjects opens a share with projects.
func newProjects(t *testing.T, lay func(t *testing.T, dir string)) *testShare {
	t.Helper()
	dir := scratchDir(t)
	lay(t, dir)
	return openTestShare(t, dir, Options{Maker: maker, Lease: expiredLease, beforeRename: refuseByProject})
}

// makeKept creates a volume with data whose directory cannot be moved, and deletes it.
func makeKept(g *testShare, key, directory string) *TrashEntry {
	g.Helper()
	g.create(key, directory)
	g.put(directory+"/data", "of "+key)
	setProject(g.T, g.dir, own, directory)
	return g.delete(key)
}

// inPlaceActions are the actions of other processes on a volume that is kept in its place until it
// is purged.
func inPlaceActions(key, directory string) []action {
	return []action{
		{"deletion", func(a *actor) error { return a.deleteVolume(key) }},
		{"purge", func(a *actor) error { return errors.Join(a.deleteVolume(key), a.clean()) }},
		{"purge, a successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.clean(), a.makeSuccessor(key, directory))
		}},
		{"purge, another's successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.clean(), a.makeSuccessor("v9", directory))
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

// projectScenarios are the scenarios in which a server refuses renames.
func projectScenarios() []scenario {
	ready := func(g *testShare) {
		g.create("v1", "a")
		g.put("a/data", "of v1")
		setProject(g.T, g.dir, own, "a")
	}
	once := func(a *actor) error { _, err := a.Volumes.Delete(a.Context(), "v1"); return err }
	purge := func(a *actor) error {
		a.purged = true
		return errors.Join(a.deleteVolume("v1"), a.purge())
	}
	kill := func(what string, steps int, do func(a *actor) error) (deeds []action) {
		for _, d := range interruptedDeletions(steps, what, "a", do) {
			deeds = append(deeds, action{d.name, func(a *actor) error { a.purged = true; return d.do(a) }})
		}
		return deeds
	}
	others := append(inPlaceActions("v1", "a"), kill("v1", 3, once)...)
	others = append(others, kill("v1, in its place", 14, purge)...)

	clone := record("v2", "team/v2")
	clone.Source = sourceOf(volumeObject("v1"))
	cloning := createScenario("clone beneath a project", clone, withData)
	cloning.setProjects = quotaOfParent
	cloning.others = append(cloning.others, replaceSource)
	cloning.others = append(cloning.others, interruptedDeletions(10, "v2", "team/v2", func(a *actor) error {
		_, err := a.Volumes.Delete(a.Context(), "v2")
		return err
	})...)

	plain := createScenario("create beside a project", record("v1", "a"), nil)
	plain.setProjects = quotaOfState
	plain.undo = func(a *actor) error { return errors.Join(a.deleteVolume("v1"), a.clean()) }
	plain.others = others

	return []scenario{
		plain,
		cloning,
		{
			name: "delete in place", setProjects: quotaOfShare, prepare: ready, others: others,
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
			name: "purge in place", setProjects: quotaOfShare, others: others,
			prepare: func(g *testShare) { makeKept(g, "v1", "a") },
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
