// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// operation is an operation that can be interrupted.
type operation struct {
	prepare func(g *testShare, key string) // what must exist before
	run     func(g *testShare, key string) error
	of      volume.ObjectKind // what the key names
	ends    State             // its state in the end; Empty: it does not exist
}

// interruptedOp is an operation whose process died before a step.
type interruptedOp struct {
	key string
	operation
	at     string
	nth    int            // which step of that name; 0: the first
	undoOf *interruptedOp // for an undo: what was interrupted before
	left   State          // the state that was left; Empty: it does not exist
}

// prepare makes what must exist before.
func (h interruptedOp) prepare(g *testShare) {
	if h.operation.prepare != nil {
		h.operation.prepare(g, h.key)
	}
}

// begin does the operation up to the step.
func (h interruptedOp) begin(g *testShare) {
	g.Helper()
	if h.undoOf != nil {
		h.undoOf.begin(g)
	}
	if h.at == inPurge {
		dieIn(g, func(g *testShare, die func()) error {
			return g.Trash.Purge(findTrashed(g, h.key), func(int, string) error { die(); return nil })
		}, h.at)
		return
	}
	dieBefore(g, h.at, max(h.nth, 1), func(g *testShare) error { return h.run(g, h.key) })
}

// inPurge stands for the removal of the tree itself.
const inPurge = "in the purge"

// findTrashed finds a volume in the trash, preferably a complete entry.
func findTrashed(g *testShare, key string) (found TrashEntry) {
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

// createOperation is the creation of a volume. what changes its record.
func createOperation(what func(r *volume.Record)) operation {
	return operation{of: volume.ObjectVolume, ends: Ready, run: func(g *testShare, key string) error {
		r := record(key, key)
		if what != nil {
			what(&r)
		}
		_, err := g.make(r)
		return err
	}}
}

// copyOperation is the creation of a volume as a copy.
func copyOperation(of volume.Object) operation {
	return createOperation(func(r *volume.Record) { r.Source = sourceOf(of) })
}

// deleteOperation is the deletion of a volume with a file in it, in a parent ("": none).
func deleteOperation(on volume.OnDelete, parent string) operation {
	return operation{
		of: volume.ObjectVolume, run: deleteVolume,
		prepare: func(g *testShare, key string) {
			r := record(key, parent+key)
			r.OnDelete = on
			createWithData(g, r)
		},
	}
}

func deleteVolume(g *testShare, key string) error {
	_, err := g.Volumes.Delete(g.Context(), key)
	return err
}

func deleteSnapshot(g *testShare, key string) error {
	_, err := g.Snapshots.Delete(g.Context(), key, nil)
	return err
}

// undoOperation deletes what is being created, and is interrupted, too.
func undoOperation(of operation, from string) (operation, *interruptedOp) {
	undo := operation{prepare: of.prepare, of: of.of, run: deleteVolume}
	if of.of == volume.ObjectSnapshot {
		undo.run = deleteSnapshot
	}
	return undo, &interruptedOp{operation: of, at: from}
}

var (
	createOp      = createOperation(nil)
	belowOp       = createOperation(func(r *volume.Record) { r.Directory = "below/" + r.Key + "/x" })
	cloneOp       = copyOperation(volumeObject("plain"))
	fillOp        = copyOperation(snapshotObject("snap"))
	deleteOp      = deleteOperation(volume.Delete, "")
	deleteBelowOp = deleteOperation(volume.Delete, "below/")
	retainOp      = deleteOperation(volume.Retain, "")
	archiveOp     = deleteOperation(volume.Archive, "")
	shareOp       = operation{
		of: volume.ObjectVolume, ends: Ready,
		run: func(g *testShare, key string) error { return second(g.make(shallowRecord(key, "snap"))) },
	}
	unshareOp = operation{
		of: volume.ObjectVolume, run: deleteVolume,
		prepare: func(g *testShare, key string) { g.must(second(g.make(shallowRecord(key, "snap")))) },
	}
	adoptOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *testShare, key string) { g.put(key+"/data", "of "+key+"\n") },
		run: func(g *testShare, key string) error {
			r := record(key, key)
			r.Adopt, r.Adopted, r.OnDelete = true, true, volume.Retain
			return second(g.make(r))
		},
	}
	updateOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *testShare, key string) { createFilled(g, key, key) },
		run:     func(g *testShare, key string) error { return second(g.setCapacity(key, 7)) },
	}
	snapOp = operation{
		of: volume.ObjectSnapshot, ends: Ready,
		run: func(g *testShare, key string) error { return second(g.trySnapshot(key, "plain", nil)) },
	}
	unsnapOp = operation{
		of: volume.ObjectSnapshot, run: deleteSnapshot,
		prepare: func(g *testShare, key string) { g.snapshot(key, "plain") },
	}
	groupOp = operation{
		of: ofGroup, ends: Ready,
		run: func(g *testShare, key string) error { return makeGrouped(g, key, false) },
	}
	ungroupOp = operation{
		of: ofGroup, prepare: func(g *testShare, key string) { g.must(makeGrouped(g, key, false)) },
		run: func(g *testShare, key string) error { return second(g.Groups.Delete(g.Context(), key, nil)) },
	}
	restoreOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *testShare, key string) { createFilled(g, key, key); g.must(deleteVolume(g, key)) },
		run: func(g *testShare, key string) error {
			_, err := (&actor{testShare: g}).restore(key)
			if errors.Is(err, volume.ErrBusy) { // reading what was interrupted undoes it
				_, err = (&actor{testShare: g}).restore(key)
			}
			return err
		},
	}
	// Of a volume that a project quota keeps in its place: see project_quota_test.go.
	keepOp   = operation{of: volume.ObjectVolume, ends: Deleting, prepare: createImmovable, run: deleteVolume}
	unkeepOp = operation{
		of:      volume.ObjectVolume,
		prepare: func(g *testShare, key string) { createImmovable(g, key); g.must(deleteVolume(g, key)) },
		run:     purgeOf,
	}
	refillOp = operation{
		of: volume.ObjectVolume, ends: Ready,
		prepare: func(g *testShare, _ string) { setProject(g.T, g.dir, inherited, "quota") },
		run: func(g *testShare, key string) error {
			r := record(key, "quota/"+key)
			r.Source = sourceOf(volumeObject("plain"))
			return second(g.make(r))
		},
	}
	purgeOp = operation{
		of: volume.ObjectVolume, prepare: restoreOp.prepare,
		run: purgeOf,
	}
	tidyOp = operation{
		of: volume.ObjectVolume,
		prepare: func(g *testShare, key string) {
			createFilled(g, key, key+"/x")
			g.must(deleteVolume(g, key))
			g.must(purgeOf(g, key))
		},
		run: func(g *testShare, key string) error { return g.claims.parents.tidyParent(key) },
	}
)

// purgeOf purges the entries of a volume in the trash.
func purgeOf(g *testShare, key string) error {
	e := findTrashed(g, key)
	if e.Name == "" {
		return nil
	}
	return e.purge(g)
}

// createImmovable creates a volume that cannot be moved: its entry and its directory have different projects.
func createImmovable(g *testShare, key string) {
	createFilled(g, key, key)
	setProject(g.T, g.dir, inherited, ".mooring/volumes/"+key)
	setProject(g.T, g.dir, own, key)
}

// interruptedUndo is an undo that was interrupted before a step.
func interruptedUndo(key string, of operation, from, at string, was State) interruptedOp {
	undo, first := undoOperation(of, from)
	first.key = key
	return interruptedOp{key: key, operation: undo, at: at, undoOf: first, left: was}
}
