// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// operation is an operation that can be interrupted.
type operation struct {
	prepare func(g *ground, key string) // what must exist before
	run     func(g *ground, key string) error
	of      volume.ObjectKind // what the key names
	ends    State             // its state in the end; Empty: it does not exist
}

// half is an operation whose process died before a step.
type half struct {
	key string
	operation
	at   string
	nth  int   // which step of that name; 0: the first
	then *half // for an undo: what was interrupted before
	was  State // the state that was left; Empty: it does not exist
}

// prepare makes what must exist before.
func (h half) prepare(g *ground) {
	if h.operation.prepare != nil {
		h.operation.prepare(g, h.key)
	}
}

// begin does the operation up to the step.
func (h half) begin(g *ground) {
	g.Helper()
	if h.then != nil {
		h.then.begin(g)
	}
	if h.at == inPurge {
		dieIn(g, func(g *ground, die func()) error {
			return g.Trash.Purge(trashedAs(g, h.key), func(int, string) error { die(); return nil })
		}, h.at)
		return
	}
	stopAt(g, h.at, max(h.nth, 1), func(g *ground) error { return h.run(g, h.key) })
}

// inPurge stands for the removal of the tree itself.
const inPurge = "in the purge"

// trashedAs finds a volume in the trash, preferably a complete entry.
func trashedAs(g *ground, key string) (found TrashEntry) {
	g.Helper()
	all, err := g.Trash.List(g.Context())
	g.must(err)
	for _, e := range all {
		if e.Key == key && !found.Complete() {
			found = e
		}
	}
	return found
}

// creation is the creation of a volume. what changes its record.
func creation(what func(r *volume.Record)) operation {
	return operation{of: volume.ObjectVolume, ends: Ready, run: func(g *ground, key string) error {
		r := record(key, key)
		if what != nil {
			what(&r)
		}
		_, err := g.make(r)
		return err
	}}
}

// copies is the creation of a volume as a copy.
func copies(of volume.Object) operation {
	return creation(func(r *volume.Record) { r.Source = sourceOf(of) })
}

// removal is the deletion of a volume with a file in it, in a parent ("": none).
func removal(on volume.OnDelete, parent string) operation {
	return operation{
		of: volume.ObjectVolume, run: deleteVolume,
		prepare: func(g *ground, key string) {
			r := record(key, parent+key)
			r.OnDelete = on
			makeFull(g, r)
		},
	}
}

func deleteVolume(g *ground, key string) error {
	_, err := g.Volumes.Delete(g.Context(), key)
	return err
}

func deleteSnapshot(g *ground, key string) error {
	_, err := g.Snapshots.Delete(g.Context(), key, nil)
	return err
}

// undoing deletes what is being created, and is interrupted, too.
func undoing(of operation, from string) (operation, *half) {
	undo := operation{prepare: of.prepare, of: of.of, run: deleteVolume}
	if of.of == volume.ObjectSnapshot {
		undo.run = deleteSnapshot
	}
	return undo, &half{operation: of, at: from}
}

var (
	createOp      = creation(nil)
	belowOp       = creation(func(r *volume.Record) { r.Directory = "below/" + r.Key + "/x" })
	cloneOp       = copies(ofVolume("plain"))
	fillOp        = copies(ofSnapshot("snap"))
	deleteOp      = removal(volume.Delete, "")
	deleteBelowOp = removal(volume.Delete, "below/")
	retainOp      = removal(volume.Retain, "")
	archiveOp     = removal(volume.Archive, "")
	shareOp       = operation{
		of: volume.ObjectVolume, ends: Ready,
		run: func(g *ground, key string) error { return second(g.make(shallow(key, "snap"))) },
	}
	unshareOp = operation{
		of: volume.ObjectVolume, run: deleteVolume,
		prepare: func(g *ground, key string) { g.must(second(g.make(shallow(key, "snap")))) },
	}
	adoptOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *ground, key string) { g.put(key+"/data", "of "+key+"\n") },
		run: func(g *ground, key string) error {
			r := record(key, key)
			r.Adopt, r.Adopted, r.OnDelete = true, true, volume.Retain
			return second(g.make(r))
		},
	}
	updateOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *ground, key string) { makeFilled(g, key, key) },
		run:     func(g *ground, key string) error { return second(g.setCapacity(key, 7)) },
	}
	snapOp = operation{
		of: volume.ObjectSnapshot, ends: Ready,
		run: func(g *ground, key string) error { return second(g.snap(key, "plain", nil)) },
	}
	unsnapOp = operation{
		of: volume.ObjectSnapshot, run: deleteSnapshot,
		prepare: func(g *ground, key string) { g.snapshot(key, "plain") },
	}
	groupOp = operation{
		of: ofGroup, ends: Ready,
		run: func(g *ground, key string) error { return makeGrouped(g, key, false) },
	}
	ungroupOp = operation{
		of: ofGroup, prepare: func(g *ground, key string) { g.must(makeGrouped(g, key, false)) },
		run: func(g *ground, key string) error { return second(g.Groups.Delete(g.Context(), key, nil)) },
	}
	restoreOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *ground, key string) { makeFilled(g, key, key); g.must(deleteVolume(g, key)) },
		run: func(g *ground, key string) error {
			_, err := (&actor{ground: g}).restore(key)
			if errors.Is(err, volume.ErrBusy) { // reading what was interrupted undoes it
				_, err = (&actor{ground: g}).restore(key)
			}
			return err
		},
	}
	// Of a volume that a project quota keeps in its place: see project_quota_test.go.
	keepOp   = operation{of: volume.ObjectVolume, ends: Deleting, prepare: keep, run: deleteVolume}
	unkeepOp = operation{
		of:      volume.ObjectVolume,
		prepare: func(g *ground, key string) { keep(g, key); g.must(deleteVolume(g, key)) },
		run:     purgeOf,
	}
	refillOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *ground, _ string) { setProject(g.T, g.dir, inherited, "quota") },
		run: func(g *ground, key string) error {
			r := record(key, "quota/"+key)
			r.Source = sourceOf(ofVolume("plain"))
			return second(g.make(r))
		},
	}
	purgeOp = operation{
		of: volume.ObjectVolume, prepare: restoreOp.prepare,
		run: purgeOf,
	}
	tidyOp = operation{
		of: volume.ObjectVolume,
		prepare: func(g *ground, key string) {
			makeFilled(g, key, key+"/x")
			g.must(deleteVolume(g, key))
			g.must(purgeOf(g, key))
		},
		run: func(g *ground, key string) error { return g.claims.parents.tidyParent(key) },
	}
)

// purgeOf purges the entries of a volume in the trash.
func purgeOf(g *ground, key string) error {
	e := trashedAs(g, key)
	if e.Name == "" {
		return nil
	}
	return e.purge(g)
}

// keep creates a volume that cannot be moved: its entry and its directory have different projects.
func keep(g *ground, key string) {
	makeFilled(g, key, key)
	setProject(g.T, g.dir, inherited, ".mooring/volumes/"+key)
	setProject(g.T, g.dir, own, key)
}

// undone is an undo that was interrupted before a step.
func undone(key string, of operation, from, at string, was State) half {
	undo, first := undoing(of, from)
	first.key = key
	return half{key: key, operation: undo, at: at, then: first, was: was}
}
