// SPDX-License-Identifier: Apache-2.0

package model

// The undoing of a creation, one's own or an abandoned one: pkg/share/abort.go. t is the volume, k its
// entry.

func init() {
	phases[giveUp] = func(r *run) phase {
		k, err := r.lookup(volumes, key.of(r.vol(r.task.n).key))
		if err != ok {
			return r.ok()
		}
		r.k = k
		return r.sub(readEntry, giveUpKnown)
	}
	phases[giveUpKnown] = func(r *run) phase {
		r.t = r.has
		switch r.state {
		case empty:
			return r.sub(finish, gaveUp)
		case making, aborting:
			return r.sub(abort, gaveUp)
		}
		return r.ok()
	}
	phases[gaveUp] = func(r *run) phase { return r.ok() }
	phases[abort] = func(r *run) phase {
		r.committed, r.placed = false, false
		r.step("mark as being undone")
		if r.rename(r.k, makingFile, r.k, r.mark()) == ok {
			return settle
		}
		if r.rename(r.k, placingFile, r.k, unplaceFile) == ok {
			return settle
		}
		return r.sub(readEntry, abortMarked)
	}
	phases[abortMarked] = func(r *run) phase {
		if r.state == aborting || r.state == empty || r.plan.oneMark && r.state == deleting {
			return settle
		}
		r.committed = r.state != absent && r.alive(r.k)
		return r.back()
	}
}

func init() {
	phases[settle] = settleDo
	phases[abortDir] = func(r *run) phase {
		if r.vol(r.t).dir == 0 {
			return abortRecord
		}
		return r.sub(resolve, abortClaim)
	}
	phases[abortClaim] = func(r *run) phase {
		if _, n, err := readClaim(r, r.cu, directory.of(r.vol(r.t).dir)); err != ok || n != r.t || r.up == gone {
			return closeStage
		}
		if r.placed {
			return abortPlaced
		}
		return abortEmpty
	}
	phases[abortEmpty] = abortEmptyDo
	phases[abortPlaced] = func(r *run) phase {
		if _, err := r.lookup(r.k, tree); err != ok {
			r.step("take the directory away")
			if r.rename(r.up, directory.of(r.vol(r.t).dir), r.k, tree) == stale {
				return r.fail()
			}
		}
		r.step("take what was placed")
		if err := r.rename(r.k, tree, r.k, unstaged); err != ok && err != noent {
			return r.fail()
		}
		r.step("note that nothing was placed")
		r.rename(r.k, unplaceFile, r.k, abortFile)
		return closeStage
	}
	phases[abortStray] = func(r *run) phase {
		if r.vol(r.t).dir != 0 {
			strayTree(r)
		}
		return abortRecord
	}
}

func init() {
	phases[abortRecord] = func(r *run) phase {
		if r.vol(r.t).from == 0 && !r.alive(r.k) { // another has removed it
			return r.back()
		}
		r.step("move the record into the trash")
		r.rename(r.k, r.mark(), trash, trashJSON.of(r.trashID()))
		r.rename(r.k, unplaceFile, trash, trashJSON.of(r.trashID()))
		return r.sub(finish, abortForget)
	}
	phases[abortForget] = func(r *run) phase {
		switch v := r.vol(r.t); {
		case v.copyOf != 0:
			r.source = v.copyOf
			return r.sub(dropHold, abortRelease)
		case v.shallow != 0:
			r.source = v.shallow
			return r.sub(dropHold, abortEnd)
		case v.dir == 0:
			return abortEnd
		}
		return abortRelease
	}
	phases[abortRelease] = func(r *run) phase { return r.sub(resolve, abortResolved) }
	phases[abortResolved] = func(r *run) phase { return r.sub(release, abortEnd) }
	phases[abortEnd] = func(r *run) phase {
		if _, err := r.lookup(trash, trashed.of(r.trashID())); err != ok {
			r.step("remove the record from the trash")
			r.unlink(trash, trashJSON.of(r.trashID()))
		}
		return r.back()
	}
}

// mark returns the name of a record whose creation is being undone before anything was placed.
func (r *run) mark() name {
	if r.plan.oneMark {
		return deletion
	}
	return abortFile
}

// abortEmptyDo removes the directory that was made for the volume if it is still empty.
func abortEmptyDo(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	i, err := r.lookup(r.up, d)
	if err != ok {
		return closeStage
	}
	if r.made && r.k == r.own {
		if r.unused(i, gone) != ok {
			return closeStage
		}
	} else if !ours(r, i, r.cu, d) {
		return closeStage
	}
	r.step("take the directory away")
	if r.rename(r.up, d, r.k, tree) == stale {
		return r.fail()
	}
	r.step("remove the directory")
	if r.rmdir(r.k, tree) == notempty {
		r.step("put the directory back")
		if err := r.rename(r.k, tree, r.up, d); err != ok && err != noent {
			return r.fail()
		}
	}
	return closeStage
}
