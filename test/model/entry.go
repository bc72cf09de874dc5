// SPDX-License-Identifier: Apache-2.0

package model

import "slices"

// The content, state and removal of an entry: pkg/share/entry.go, entry_removal.go and trash.go.

// A state is that of an entry. absent: there is none, or the handle is dead.
type state uint8

const (
	absent state = iota
	empty
	making
	ready
	deleting
	aborting
)

func init() {
	phases[readEntry] = func(r *run) phase {
		r.state, r.has, r.sealed = absent, 0, false
		for _, at := range []struct {
			name  name
			state state
		}{
			{recordFile, ready}, {makingFile, making}, {placingFile, making}, {recordFile, ready},
			{deletion, deleting}, {abortFile, aborting}, {unplaceFile, aborting},
		} {
			n, err := r.read(r.k, at.name)
			if err == isdir { // holds
				if h, lost := r.lookup(r.k, at.name); lost == ok {
					n, err = r.read(h, recordFile)
					r.sealed = err == ok
				}
				if err == stale { // the holds were replaced, or the entry is gone
					err = noent
				}
			}
			if err == stale {
				return r.back()
			}
			if err == ok {
				r.state, r.has = at.state, n
				return r.back()
			}
		}
		if r.alive(r.k) {
			r.state = empty
		}
		return r.back()
	}
	// fate finds out what has become of volume t. dead: its entry does not exist any more.
	phases[fate] = func(r *run) phase {
		k, err := r.lookup(volumes, r.key())
		if err != ok {
			r.dead, r.leaving = true, false
			return r.back()
		}
		r.k = k
		return r.sub(readEntry, fateKnown)
	}
	phases[fateKnown] = func(r *run) phase {
		if r.state == absent { // removed between two steps
			return fate
		}
		r.dead = r.has != 0 && r.has != r.t
		r.leaving = r.state == empty || r.has == r.t && (r.state == deleting || r.state == aborting)
		return r.back()
	}
}

func init() {
	phases[finish] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		r.step("remove the entry")
		err := r.rmdir(volumes, r.key())
		switch {
		case err == ok, !r.alive(r.k):
			r.k, r.tries = gone, 0
			return r.back()
		case err == notempty:
			return clearEntry
		}
		return finish
	}
	phases[clearEntry] = clearEntryDo
	phases[clearStage] = func(r *run) phase { // mended
		if r.again() {
			return r.fail()
		}
		w, err := r.lookup(r.k, stage)
		if err != ok {
			return clearEntry
		}
		r.step("take what is staged")
		r.rename(w, tree, r.k, unstaged)
		dropCopying(r, w)
		r.step("close the stage")
		r.rmdir(r.k, stage)
		return clearEntry
	}
	// discard moves a directory of the entry to the trash, from where it is purged at once.
	phases[discard] = func(r *run) phase {
		r.step("discard ")
		if r.rmdir(r.k, r.litter) == notempty {
			r.step("move a leftover into the trash")
			r.rename(r.k, r.litter, trash, r.unique(leftover))
		}
		return r.back()
	}
}

func init() {
	// rescue decides about a tree in the entry of a deleted volume.
	phases[rescue] = func(r *run) phase {
		switch v := r.vol(r.t); {
		case r.plan.clearsAll && r.litter == tree:
			return discard
		case r.t == 0:
			r.stray(r.litter)
		case r.litter == tree:
			strayTree(r)
		case v.from != 0:
			return r.sub(moveIn, rescued)
		default:
			return discard
		}
		return r.back()
	}
	phases[rescued] = func(r *run) phase { return r.back() }
	// moveIn moves a tree from the entry into the trash.
	phases[moveIn] = func(r *run) phase {
		r.step("move the tree into the trash")
		switch r.rename(r.k, r.litter, trash, trashed.of(r.trashID())) {
		case notempty:
			r.stray(r.litter)
		case stale:
			return r.fail()
		}
		return r.back()
	}
}

// clearEntryDo removes one thing from a dying entry that is not empty. The code lists the entry once;
// the model lists it again each time.
func clearEntryDo(r *run) phase {
	switch r.litter = r.list(r.k); {
	case r.litter == 0:
		return finish
	case slices.Contains(records, r.litter): // another's business
		return r.fail()
	case r.litter.kind() == claim:
		dropRefused(r, r.k)
		return clearEntry
	case r.litter == emptyDir:
		r.rmdir(r.k, emptyDir)
		return clearEntry
	case r.litter == stage && r.plan.stageByHandle:
		return clearStage
	case r.litter == holds:
		if h, err := r.lookup(r.k, deletion); err == ok {
			if _, err := r.lookup(h, recordFile); err == ok { // another's business
				return r.fail()
			}
			r.unlink(h, sealed)
		}
		r.litter = deletion
		return r.sub(discard, clearEntry)
	}
	return r.sub(rescue, clearEntry)
}

// trashID returns the nonce in the name of a tree or a record in the trash.
func (r *run) trashID() nonce {
	if from := r.vol(r.t).from; r.plan.oldName && from != 0 && r.state != deleting && r.state != ready {
		return from
	}
	return r.t
}

func (r *run) stray(n name) {
	r.step("move a leftover into the trash")
	r.rename(r.k, n, trash, r.unique(stray))
}

// strayTree removes a directory that was taken from its place and should be empty.
func strayTree(r *run) {
	if r.rmdir(r.k, tree) == notempty {
		r.stray(tree)
	}
}

// dropRefused removes a claim that was not placed.
func dropRefused(r *run, k ino) {
	x, err := r.lookup(k, claim)
	if err != ok {
		return
	}
	r.step("remove a claim that was refused")
	if r.plan.refusesInPlace {
		r.unlink(x, taken)
		r.rmdir(k, claim)
		return
	}
	if r.rename(k, claim, staging, unusedName(r)) == ok { // it cannot be put in its place any more
		r.unlink(x, taken)
		_, n := r.w0.where(x)
		r.rmdir(staging, n)
	}
}

// unusedName returns an unused name in staging.
func unusedName(r *run) name {
	n := claim.of(1)
	for r.w0.get(staging, n) != gone && n.arg() < 15 {
		n++
	}
	return n
}

// dropCopying removes a copy that did not get its own name.
func dropCopying(r *run, w ino) {
	if r.plan.copiesAside && r.rmdir(w, copying) == notempty {
		r.step("move a leftover into the trash")
		r.rename(w, copying, trash, r.unique(leftover))
	}
}

// key returns the name of the current entry.
func (r *run) key() name {
	if r.t != 0 {
		return key.of(r.vol(r.t).key)
	}
	return key.of(r.vol(r.task.n).key)
}

// records are the names that a record can have in an entry.
var records = []name{makingFile, placingFile, recordFile, deletion, abortFile, unplaceFile}
