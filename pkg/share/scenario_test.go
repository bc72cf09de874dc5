// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// scenario is an operation that is stopped before each of its steps: forever in TestKill, and until
// other processes have acted in TestPause.
type scenario struct {
	name    string
	prepare func(g *testShare) // makes what the operation needs
	// run is the operation. Where it succeeds it returns a fact (see facts), and its answer was
	// true if that was so at some instant.
	run func(a *actor) (fact string, err error)
	// undo is the opposite operation.
	undo func(a *actor) error
	// others are what other processes do meanwhile, besides run and undo.
	others []action
	// yields are the names of files that it leaves to the user.
	yields []string
	// lay, if set, gives directories projects before the share is laid out: see projects.
	setProjects func(t *testing.T, dir string)
}

// action is what a process does.
type action struct {
	name string
	do   func(a *actor) error
}

// actor is a process in a scenario.
type actor struct {
	*testShare
	was        map[string]string // the nonces at the beginning, for example of "volume v1"
	successors []successor       // that the actor made
	snapshots  []string          // nonces of s1, which the actor made again
	empties    []string          // empty directories of successors
	purged     bool              // it has purged what there was
}

// killed runs do as another process, which ends before its n-th step.
func (a *actor) killed(n int, do func(b *actor) error) {
	a.Helper()
	step := func(string) {
		if n--; n <= 0 {
			runtime.Goexit()
		}
	}
	s, err := Open(a.dir, nas1, Options{Maker: "44444444", Lease: expiredLease, beforeRename: a.opt.beforeRename})
	a.must(err)
	defer s.Close()
	s.opt.Step = step
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = do(&actor{testShare: &testShare{files: a.files, Share: s}, was: a.was})
	}()
	<-done
}

// interruptedDeletions are deletions of a key that end before each of so many steps. Then a volume
// is made in the same directory, if that is possible.
func interruptedDeletions(steps int, what, directory string, do func(a *actor) error) (deeds []action) {
	for n := 1; n <= steps; n++ {
		deeds = append(deeds, action{fmt.Sprintf("deletion of %s, killed before its step %d", what, n), func(a *actor) error {
			a.killed(n, do)
			if directory == "" {
				return nil
			}
			err := a.makeSuccessor("v9", directory)
			if k := volume.Kind(err); k == volume.ErrPrecondition || k == volume.ErrBusy {
				return nil
			}
			return err
		}})
	}
	return deeds
}

// successor is a volume that came after another, with a file of its own.
type successor struct{ key, directory, nonce string }

func (s successor) text() string { return "of " + s.key + " " + s.nonce }

// until repeats do until no other process is in its way.
func (a *actor) until(do func() error) (err error) {
	for range 2 * retries {
		if err = do(); volume.Kind(err) != volume.ErrBusy {
			return err
		}
	}
	return err
}

// makeSuccessor makes a volume with a file in it. It adopts an existing directory.
func (a *actor) makeSuccessor(key, directory string) error {
	r := record(key, directory)
	if a.has(directory) {
		r.Adopt, r.Adopted = true, true
	}
	return a.until(func() error {
		made, err := a.make(r)
		if err != nil {
			return err
		}
		return a.writeSuccessorFile(key, directory, made.Nonce)
	})
}

// writeSuccessorFile writes the file of a successor, as its pod would.
func (a *actor) writeSuccessorFile(key, directory, nonce string) error {
	s := successor{key, directory, nonce}
	a.successors = append(a.successors, s)
	return os.WriteFile(a.at(directory+"/precious-"+nonce), []byte(s.text()), 0o644)
}

func (a *actor) deleteVolume(key string) error {
	return a.until(func() error { _, err := a.Volumes.Delete(a.Context(), key); return err })
}

func (a *actor) deleteSnapshot(key string) error {
	return a.until(func() error { _, err := a.Snapshots.Delete(a.Context(), key, nil); return err })
}

func (a *actor) deleteGroup(key string) error {
	return a.until(func() error { _, err := a.Groups.Delete(a.Context(), key, nil); return err })
}

// restoreAll restores what is in the trash of a volume, or was being restored.
func (a *actor) restoreAll(key string) error {
	return a.until(func() error {
		_, err := a.restore(key)
		if errors.Is(err, volume.ErrNotFound) {
			return nil
		}
		return err
	})
}

func (a *actor) restore(key string) (*volume.Record, error) {
	all, err := a.Trash.List(a.Context())
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Key == key && t.Complete() && t.kind == volume.TrashVolume {
			return a.Volumes.Restore(a.Context(), t, "")
		}
	}
	return a.Volumes.LookupRestored(a.Context(), key)
}

// clean purges the trash. It skips what has no record, which waits for its deletion.
func (a *actor) clean() error {
	a.purged = true
	return a.until(func() error {
		all, err := a.Trash.List(a.Context())
		for _, t := range all {
			if t.HasRecord() {
				err = errors.Join(err, a.Trash.Purge(t, a.remove))
			}
		}
		return err
	})
}

// volumeActions are the actions of other processes while something is done to the volume of a key.
func volumeActions(key, directory string) []action {
	return []action{
		{"a successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.makeSuccessor(key, directory))
		}},
		{"another's successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), a.makeSuccessor("v9", directory))
		}},
		{"deletion, tidy, another's successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), errors.Join(a.Tidy(a.Context(), 0), a.makeSuccessor("v9", directory)))
		}},
		{"purge", func(a *actor) error { return errors.Join(a.deleteVolume(key), a.clean()) }},
		{"purge, another's successor", func(a *actor) error {
			return errors.Join(a.deleteVolume(key), errors.Join(a.clean(), a.makeSuccessor("v9", directory)))
		}},
	}
}

// createScenario is a scenario that makes a volume.
func createScenario(name string, r volume.Record, prepare func(g *testShare)) scenario {
	return scenario{
		name: name, prepare: prepare,
		run: func(a *actor) (string, error) {
			made, err := a.make(r)
			if err != nil {
				return "", err
			}
			if r.Source != nil && r.Source.Kind == volume.ObjectVolume {
				return "volume " + r.Key + " " + made.Nonce + " has copy of v1", nil
			}
			if r.Source != nil { // its source may be another snapshot by then
				return "volume " + r.Key + " " + made.Nonce + " has a copy", nil
			}
			return "volume " + r.Key + " " + made.Nonce + " is ready", nil
		},
		undo:   func(a *actor) error { return a.deleteVolume(r.Key) },
		others: volumeActions(r.Key, r.Directory),
	}
}

// deleteScenario is a scenario that deletes a volume with data in it.
func deleteScenario(name, directory string, onDelete volume.OnDelete) scenario {
	var yields []string
	if onDelete != volume.Delete {
		yields = []string{"data"}
	}
	return scenario{
		name: name, yields: yields,
		prepare: func(g *testShare) {
			r := record("v1", directory)
			r.OnDelete = onDelete
			_, err := g.make(r)
			g.must(err)
			g.put(directory+"/data", "of v1")
		},
		run: func(a *actor) (string, error) {
			_, err := a.Volumes.Delete(a.Context(), "v1")
			return "no volume v1 " + a.was["volume v1"], err
		},
		undo: func(a *actor) error {
			_, err := a.make(record("v1", directory))
			if errors.Is(err, volume.ErrBusy) || onDelete == volume.Retain && errors.Is(err, volume.ErrPrecondition) {
				return nil // it is being deleted, or has left its directory
			}
			return err
		},
		others: volumeActions("v1", directory),
	}
}

// withData makes the volume v1.
func withData(g *testShare) {
	g.create("v1", "team/v1")
	g.put("team/v1/data", "of v1")
}

// withSnapshot makes the volume v1 and its snapshot s1.
func withSnapshot(g *testShare) {
	withData(g)
	g.snapshot("s1", "v1")
}

// withPair makes the volumes v1 and v2.
func withPair(g *testShare) {
	for _, key := range []string{"v1", "v2"} {
		g.create(key, key)
		g.put(key+"/data", "of "+key)
	}
}

// replaceSource replaces the volume v1 by another one with data in the same place.
var replaceSource = action{"another in the source's place", func(a *actor) error {
	err := errors.Join(a.deleteVolume("v1"), a.makeSuccessor("v9", "team/v1"))
	return errors.Join(err, os.WriteFile(a.at("team/v1/data"), []byte("of v9"), 0o644))
}}

// replaceSnapshot replaces the snapshot s1 by one of another volume.
var replaceSnapshot = action{"another snapshot in the source's place", func(a *actor) error {
	if err := a.deleteSnapshot("s1"); errors.Is(err, volume.ErrPrecondition) {
		return nil // a volume is the snapshot
	} else if err != nil {
		return err
	}
	err := errors.Join(a.makeSuccessor("v9", "v9"), os.WriteFile(a.at("v9/data"), []byte("of v9"), 0o644))
	return errors.Join(err, a.until(func() error {
		r, err := a.trySnapshot("s1", "v9", nil)
		if err == nil {
			a.snapshots = append(a.snapshots, r.Nonce)
		}
		return err
	}))
}}

var sourcePurged = action{"a purge of the source", func(a *actor) error {
	err := a.deleteSnapshot("s1")
	if errors.Is(err, volume.ErrPrecondition) {
		err = nil
	}
	return errors.Join(err, errors.Join(a.deleteVolume("v1"), a.clean()))
}}

// scenarios are all scenarios. uid is an owner that a directory does not have by default.
func scenarios() []scenario {
	owned := record("v1", "a")
	mode, uid := uint32(0o2770), uint32(os.Getuid())
	if uid == 0 {
		uid = 1234
	}
	owned.Mode, owned.UID, owned.GID = &mode, &uid, nil
	adopted := record("v1", "old")
	adopted.Adopt, adopted.Adopted, adopted.OnDelete = true, true, volume.Retain
	clone, restored := record("v2", "team/v2"), record("v2", "team/v2")
	clone.Source, restored.Source = sourceOf(volumeObject("v1")), sourceOf(snapshotObject("s1"))

	cloning := createScenario("clone", clone, withData)
	cloning.others = append(cloning.others, replaceSource, sourcePurged)
	restoring := createScenario("restore a snapshot", restored, withSnapshot)
	restoring.others = append(restoring.others, replaceSnapshot, sourcePurged)
	sharing := createScenario("shallow", shallowRecord("v2", "s1"), withSnapshot)
	sharing.run = func(a *actor) (string, error) {
		r, err := a.make(shallowRecord("v2", "s1"))
		if err != nil {
			return "", err
		}
		return "volume v2 " + r.Nonce + " has a copy", nil
	}
	sharing.others = []action{replaceSnapshot, sourcePurged, {"a successor", func(a *actor) error {
		err := a.deleteVolume("v2")
		return errors.Join(err, a.until(func() error { _, err := a.make(shallowRecord("v2", "s1")); return err }))
	}}}

	adopting := createScenario("adopt", adopted, func(g *testShare) { g.put("old/data", "of v1") })
	adopting.yields = []string{"data"}
	once := func(key string) func(a *actor) error {
		return func(a *actor) error { _, err := a.Volumes.Delete(a.Context(), key); return err }
	}
	unsnap := func(a *actor) error { _, err := a.Snapshots.Delete(a.Context(), "s1", nil); return err }
	plain := createScenario("create", record("v1", "a"), nil)
	plain.others = append(plain.others, interruptedDeletions(8, "v1", "a", once("v1"))...)
	deleting := deleteScenario("delete", "team/x/a", volume.Delete)
	deleting.others = append(deleting.others, interruptedDeletions(8, "v1", "team/x/a", once("v1"))...)
	archiving := deleteScenario("archive", "team/a", volume.Archive)
	archiving.others = append(archiving.others, interruptedDeletions(15, "v1", "team/a", once("v1"))...)
	retaining := deleteScenario("retain", "team/a", volume.Retain)
	retaining.others = append(retaining.others, interruptedDeletions(6, "v1", "team/a", once("v1"))...)
	held := func(sc scenario) scenario {
		sc.name += " what was changed"
		sc.others = append(sc.others[:len(sc.others):len(sc.others)], action{"a change", func(a *actor) error {
			_, err := a.setCapacity("v1", 9)
			if k := volume.Kind(err); k == volume.ErrNotFound || k == volume.ErrBusy {
				return nil
			}
			return err
		}})
		prepare := sc.prepare
		sc.prepare = func(g *testShare) {
			prepare(g)
			g.must(second(g.setCapacity("v1", 8)))
		}
		return sc
	}
	cloning.others = append(cloning.others, interruptedDeletions(8, "its source", "team/v1", once("v1"))...)
	cloning.others = append(cloning.others, interruptedDeletions(10, "v2", "team/v2", once("v2"))...)
	restoring.others = append(restoring.others, interruptedDeletions(5, "its source", "", unsnap)...)
	sharing.others = append(sharing.others, interruptedDeletions(5, "its source", "", unsnap)...)

	return append(projectScenarios(), []scenario{
		plain,
		createScenario("create with parents", record("v1", "team/x/a"), nil),
		createScenario("create with an owner", owned, nil),
		adopting,
		deleting,
		archiving,
		retaining,
		held(deleting),
		held(archiving),
		held(retaining),
		{
			name: "update", prepare: withData,
			run: func(a *actor) (string, error) {
				r, err := a.setCapacity("v1", 7)
				if err != nil {
					return "", err
				}
				return "volume v1 " + r.Nonce + " has capacity 7", nil
			},
			undo: func(a *actor) error {
				return a.until(func() error { _, err := a.setCapacity("v1", 0); return err })
			},
			others: append(volumeActions("v1", "team/v1"), interruptedDeletions(9, "v1", "team/v1", once("v1"))...),
		},
		{
			name: "restore", prepare: func(g *testShare) { g.createDeleted("v1", "team/v1") },
			run: func(a *actor) (string, error) {
				r, err := a.restore("v1")
				if err != nil {
					return "", err
				}
				return "volume v1 " + r.Nonce + " has data of v1", nil
			},
			undo: func(a *actor) error { return a.deleteVolume("v1") },
			others: slices.Concat(volumeActions("v1", "team/v1"), interruptedDeletions(12, "v1", "team/v1", once("v1")), []action{
				{"deletion, restoration", func(a *actor) error {
					return errors.Join(a.deleteVolume("v1"), a.restoreAll("v1"))
				}},
			}),
		},
		{
			name: "purge", prepare: func(g *testShare) { g.createDeleted("v1", "team/v1") },
			run: func(a *actor) (string, error) {
				a.purged = true
				return "no trash v1." + a.was["trash v1"], a.purge()
			},
			undo: func(a *actor) error { return a.restoreAll("v1") },
			others: append(volumeActions("v1", "team/v1"), action{"restoration, deletion", func(a *actor) error {
				return errors.Join(a.restoreAll("v1"), a.deleteVolume("v1"))
			}}),
		},
		cloning,
		restoring,
		sharing,
		{
			name: "delete a shallow one", prepare: func(g *testShare) {
				withSnapshot(g)
				_, err := g.make(shallowRecord("v2", "s1"))
				g.must(err)
			},
			run: func(a *actor) (string, error) {
				_, err := a.Volumes.Delete(a.Context(), "v2")
				return "no volume v2 " + a.was["volume v2"], err
			},
			undo: func(a *actor) error {
				_, err := a.make(shallowRecord("v2", "s1"))
				if errors.Is(err, volume.ErrBusy) {
					err = nil
				}
				return err
			},
			others: sharing.others,
		},
		{
			name: "snapshot", prepare: withData,
			run: func(a *actor) (string, error) {
				r, err := a.trySnapshot("s1", "v1", nil)
				if err != nil {
					return "", err
				}
				return "snapshot s1 " + r.Nonce + " has copy of v1", nil
			},
			undo:   func(a *actor) error { return a.deleteSnapshot("s1") },
			others: []action{replaceSource, replaceSnapshot, sourcePurged},
		},
		{
			name: "delete a snapshot", prepare: withSnapshot,
			run: func(a *actor) (string, error) {
				_, err := a.Snapshots.Delete(a.Context(), "s1", nil)
				return "no snapshot s1 " + a.was["snapshot s1"], err
			},
			undo: func(a *actor) error {
				return a.until(func() error { _, err := a.trySnapshot("s1", "v1", nil); return err })
			},
			others: []action{replaceSnapshot, sourcePurged, {"a volume that is it", func(a *actor) error {
				_, err := a.make(shallowRecord("v2", "s1"))
				if k := volume.Kind(err); k == volume.ErrNotFound || k == volume.ErrBusy {
					return nil
				}
				return err
			}}},
		},
		{
			name: "group", prepare: withPair,
			run: func(a *actor) (string, error) {
				r, err := a.createGroup("g1")
				if err != nil {
					return "", err
				}
				return "group g1 " + r.Nonce + " is ready with 2", nil
			},
			undo:   func(a *actor) error { return a.deleteGroup("g1") },
			others: groupActions("g1"),
		},
		{
			name: "delete a group", prepare: func(g *testShare) {
				withPair(g)
				_, err := g.createGroup("g1")
				g.must(err)
			},
			run: func(a *actor) (string, error) {
				_, err := a.Groups.Delete(a.Context(), "g1", nil)
				return "no group g1 " + a.was["group g1"], err
			},
			undo: func(a *actor) error {
				_, err := a.createGroup("g1")
				if errors.Is(err, volume.ErrBusy) {
					err = nil // it is being deleted
				}
				return err
			},
			others: groupActions("g1"),
		},
		{
			name: "tidy", prepare: func(g *testShare) {
				g.create("v1", "team/x/a")
				g.delete("v1")
			},
			run:  func(a *actor) (string, error) { return "", a.Tidy(a.Context(), 0) },
			undo: func(a *actor) error { return a.makeSuccessor("v1", "team/x/a") },
			others: []action{
				{"a volume in a parent", func(a *actor) error { return a.makeSuccessor("v9", "team/y") }},
				{"a volume instead of a parent", func(a *actor) error { return a.createOverParent("v9", "team/x") }},
				{"a volume instead of all parents", func(a *actor) error { return a.createOverParent("v9", "team") }},
				{"a volume, and its deletion", func(a *actor) error {
					return a.until(func() error {
						_, err := a.make(record("v8", "team/x/b"))
						return errors.Join(err, a.deleteVolume("v8"))
					})
				}},
				{"another tidy, a volume instead", func(a *actor) error {
					err := a.Tidy(a.Context(), 0)
					return errors.Join(err, a.createOverParent("v9", "team/x"))
				}},
			},
		},
	}...)
}

// createOverParent makes a volume of a directory that was a parent of volumes and is empty, unless
// another process is removing it, or stopped while it did.
func (a *actor) createOverParent(key, directory string) error {
	err := a.until(func() error {
		made, err := a.make(record(key, directory))
		if err != nil {
			return err
		}
		return a.writeSuccessorFile(key, directory, made.Nonce)
	})
	if errors.Is(err, volume.ErrPrecondition) {
		return nil
	}
	return err
}

// groupActions are the actions of other processes while something is done to a group.
func groupActions(key string) []action {
	anew := func(a *actor) error {
		return a.until(func() error { _, err := a.createGroup(key); return err })
	}
	return []action{
		{"a successor", func(a *actor) error { return errors.Join(a.deleteGroup(key), anew(a)) }},
		{"a successor of a member", func(a *actor) error {
			err := errors.Join(a.deleteGroup(key), a.deleteSnapshot("s1"))
			return errors.Join(err, a.until(func() error { _, err := a.trySnapshot("s1", "v1", nil); return err }))
		}},
		{"purge", func(a *actor) error {
			err := a.deleteGroup(key)
			for _, v := range []string{"v1", "v2"} {
				err = errors.Join(err, a.deleteVolume(v))
			}
			return errors.Join(err, a.clean())
		}},
	}
}

func (g *testShare) setCapacity(key string, n int64) (*volume.Record, error) {
	return g.Volumes.Update(g.Context(), key, func(r *volume.Record) error { r.Capacity = n; return nil })
}

// readFacts returns the facts of the share at this instant, and the nonces of its objects.
func readFacts(g *testShare) (facts []string, nonces map[string]string) {
	g.Helper()
	ctx := g.Context()
	nonces = map[string]string{}
	add := func(what, nonce string, state State, directory string) {
		nonces[what] = nonce
		id := what + " " + nonce
		facts = append(facts, id)
		if state != Ready {
			return
		}
		if g.has(directory) {
			facts = append(facts, id+" is ready")
		}
		for _, file := range []string{"data", "copy"} {
			text := g.text(directory + "/" + file)
			facts = append(facts, fmt.Sprintf("%s has %s %s", id, file, text))
			if text != "" {
				facts = append(facts, fmt.Sprintf("%s has a %s", id, file))
			}
		}
	}
	volumes, err := g.Volumes.Keys(ctx)
	g.must(err)
	for _, key := range volumes {
		r, err := g.Volumes.Lookup(ctx, key)
		if errors.Is(err, volume.ErrNotFound) {
			continue // almost removed
		}
		g.must(err)
		add("volume "+key, r.Nonce, r.State, r.Directory)
		facts = append(facts, fmt.Sprintf("volume %s %s has capacity %d", key, r.Nonce, r.Capacity))
	}
	snapshots, err := g.Snapshots.Keys(ctx)
	g.must(err)
	for _, key := range snapshots {
		if r, err := g.Snapshots.Lookup(ctx, key); err == nil {
			add("snapshot "+key, r.Nonce, Ready, volume.SnapshotDirectory(key))
		}
	}
	groups, err := g.Groups.Keys(ctx)
	g.must(err)
	for _, key := range groups {
		r, err := g.Groups.Lookup(ctx, key)
		if err != nil {
			continue
		}
		n := 0
		for _, m := range r.Members {
			if s, err := g.Snapshots.Lookup(ctx, m.Snapshot); err == nil && s.GroupNonce == r.Nonce {
				n++
			}
		}
		add("group "+key, r.Nonce, r.State, "")
		if r.State == Ready {
			facts = append(facts, fmt.Sprintf("group %s %s is ready with %d", key, r.Nonce, n))
		}
	}
	trash, err := g.Trash.List(ctx)
	g.must(err)
	for _, t := range trash {
		nonces["trash "+t.Key] = t.nonce
		facts = append(facts, "trash "+t.Name)
	}
	return facts, nonces
}

// isTrue reports whether a fact is among those of an instant.
func isTrue(fact string, facts []string) bool {
	if not, ok := strings.CutPrefix(fact, "no "); ok {
		return !slices.Contains(facts, not)
	}
	return fact == "" || slices.Contains(facts, fact)
}
