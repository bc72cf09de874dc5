// SPDX-License-Identifier: Apache-2.0

package model

// Trees that are staged in an entry before they get their place, and their undo: pkg/share/abort.go,
// restore.go and copy.go.

func init() {
	phases[closeStage] = func(r *run) phase {
		if v := r.vol(r.t); v.from == 0 && v.copyOf == 0 {
			return abortStray // the code finds no stage
		}
		if r.again() {
			return r.fail()
		}
		_, bad := unstage(r)
		switch {
		case !r.plan.looksFirst:
			return closeStageEnd
		case bad:
			return r.fail()
		}
		if _, err := r.lookup(r.k, unstaged); err == ok {
			r.litter = unstaged
			return r.sub(rescue, closeStageEnd)
		}
		return closeStageEnd
	}
	phases[closeStageEnd] = func(r *run) phase {
		r.step("close the stage")
		then := stageClosed
		switch r.rmdir(r.k, stage) {
		case notempty: // the place is in use
			then = closeStage
		case stale:
			return r.fail()
		}
		if r.plan.looksFirst {
			return then
		}
		if _, err := r.lookup(r.k, unstaged); err == ok {
			r.litter = unstaged
			return r.sub(rescue, then)
		}
		return then
	}
	phases[stageClosed] = func(r *run) phase {
		r.tries = 0
		return abortStray
	}
}

func init() {
	phases[restoreTake] = func(r *run) phase {
		w, found := r.stage()
		if !found {
			return r.fail()
		}
		r.step("take the tree out of the trash")
		w, n := r.staged(w)
		switch r.rename(trash, trashed.of(r.vol(r.t).from), w, n) {
		case ok:
			return placeBegin
		case noent:
			if r.alive(w) && r.alive(r.own) {
				return createRefused
			}
		}
		return r.fail()
	}
	phases[placeBegin] = func(r *run) phase {
		w, found := r.stage()
		if !found {
			return r.fail()
		}
		r.w = w
		r.step("begin to place the tree")
		if r.plan.linksPlaced {
			r.link(r.f, r.own, placingFile)
			return place
		}
		if r.rename(r.own, makingFile, r.own, placingFile) != ok {
			return r.fail()
		}
		r.placing = true
		return place
	}
	phases[place] = func(r *run) phase {
		r.step("rename the tree into its place")
		w, n := r.staged(r.w)
		switch r.rename(w, n, r.up, directory.of(r.vol(r.t).dir)) {
		case ok:
			r.rmdir(r.own, stage)
			return placed
		case notempty:
			return createRefused
		}
		return r.fail()
	}
	phases[placed] = func(r *run) phase {
		if from := r.vol(r.t).from; from != 0 {
			r.step("remove the record from the trash")
			r.unlink(trash, trashJSON.of(from))
		}
		return createCommit
	}
}

// stage returns the stage of the current volume.
func (r *run) stage() (w ino, found bool) {
	if r.plan.stageByHandle {
		return r.w, r.w != gone
	}
	w, err := r.lookup(r.own, stage)
	return w, err == ok
}

// staged returns the place of an incoming tree, from the stage.
func (r *run) staged(w ino) (ino, name) {
	if r.plan.oneName {
		return r.own, tree
	}
	return w, tree
}

// unstage moves the staged tree out of the stage, into the entry. bad: that is not possible.
func unstage(r *run) (done, bad bool) {
	w, err := r.lookup(r.k, stage)
	if err != ok {
		return false, err == stale
	}
	r.step("take what is staged")
	if r.plan.oneName {
		err = r.rename(r.k, tree, r.k, unstaged)
	} else {
		err = r.rename(w, tree, r.k, unstaged)
	}
	dropCopying(r, w)
	return err == ok, err == notempty
}

// settleDo finds out whether the staged tree was moved to its place, and prevents that from now on.
func settleDo(r *run) phase {
	switch _, err := r.lookup(r.k, unplaceFile); {
	case err == stale:
		return r.fail()
	case err != ok:
		return abortDir
	}
	if r.plan.dirFirst {
		_, err := r.lookup(r.k, stage)
		r.placed = err != ok
		return abortDir
	}
	done, bad := unstage(r)
	if bad {
		return r.fail()
	}
	if done && r.plan.unnoted {
		r.rename(r.k, unstaged, trash, r.unique(leftover))
		return abortDir
	}
	if !done {
		if _, err := r.lookup(r.k, unstaged); err != ok {
			_, err := r.lookup(r.k, unplaceFile)
			r.placed = err == ok
			return abortDir
		}
	}
	r.step("note that nothing was placed")
	r.rename(r.k, unplaceFile, r.k, abortFile)
	return abortDir
}
