// SPDX-License-Identifier: Apache-2.0

package model

// The deletion of a volume or a snapshot: pkg/share/volumes.go and delete.go.

func init() {
	phases[remove] = func(r *run) phase {
		k, err := r.lookup(volumes, key.of(r.vol(r.task.n).key))
		if err != ok {
			return r.ok()
		}
		r.k = k
		return r.sub(readEntry, removeKnown)
	}
	phases[removeKnown] = func(r *run) phase {
		if !r.plan.anyNonce && r.first != 0 && r.has != 0 && r.has != r.first {
			return r.ok() // a later volume than the one to delete
		}
		if r.first == 0 {
			r.first = r.has
		}
		r.t = r.has
		switch r.state {
		case absent:
			return removeAgain
		case empty:
			return r.sub(finish, removed)
		case making:
			if !r.task.takes { // its lease is not over
				return r.fail()
			}
			return r.sub(abort, aborted)
		case aborting:
			return r.sub(abort, aborted)
		case ready:
			return removeMark
		}
		return r.sub(resolve, removeRetry)
	}
	phases[removed] = func(r *run) phase { return r.ok() }
	phases[aborted] = func(r *run) phase {
		if r.committed {
			return removeAgain
		}
		return r.ok()
	}
	phases[removeAgain] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		return remove
	}
}

func init() {
	phases[removeMark] = func(r *run) phase {
		r.step("mark as being deleted")
		switch r.rename(r.k, recordFile, r.k, deletion) {
		case ok:
			if r.plan.simpler() {
				return removeSimpler
			}
			return r.sub(resolve, removeClaim)
		case isdir:
			return removeHolds
		}
		return removeAgain
	}
	// A deletion that continues does not take the directory again.
	phases[removeRetry] = func(r *run) phase {
		if v := r.vol(r.t); v.dir != 0 && !v.retain && !v.archives && !r.plan.takesAgain {
			if _, err := r.lookup(trash, trashed.of(r.t)); err == ok {
				return removeRecord
			}
		}
		return removeClaim
	}
	phases[removeClaim] = func(r *run) phase {
		v := r.vol(r.t)
		r.vanished = v.retain || v.archives || v.shallow != 0
		if v.dir == 0 || v.retain {
			return removeRecord
		}
		x, n, err := readClaim(r, r.cu, directory.of(v.dir))
		if err != ok || n != r.t {
			return r.fail()
		}
		r.x = x
		return removeTree
	}
	phases[removeTree] = func(r *run) phase {
		v := r.vol(r.t)
		r.step("take the directory away")
		switch err := r.rename(r.up, directory.of(v.dir), r.k, tree); {
		case err == exdev:
			return removeKeep
		case err != ok && !r.alive(r.k):
			return r.fail()
		}
		if v.archives {
			return archive
		}
		r.litter = tree
		return r.sub(moveIn, removeMoved)
	}
}

func init() {
	phases[removeMoved] = func(r *run) phase {
		_, err := r.lookup(trash, trashed.of(r.t))
		r.vanished = err != ok
		return removeRecord
	}
	phases[removeRecord] = func(r *run) phase {
		if r.state == deleting && r.vol(r.t).fixed { // it may be kept for a retention
			if _, err := r.lookup(trash, trashJSON.of(r.t)); err == ok {
				r.step("remove the record")
				r.unlink(marked(r))
				return r.sub(finish, removeForget)
			}
		}
		k, n := marked(r)
		r.step("move the record into the trash")
		r.rename(k, n, trash, trashJSON.of(r.t))
		if r.plan.unchecked {
			return removeUnchecked
		}
		return r.sub(finish, removeForget)
	}
	phases[removeForget] = func(r *run) phase {
		v := r.vol(r.t)
		switch {
		case v.shallow != 0:
			r.source = v.shallow
			return r.sub(dropHold, removeUnrecord)
		case v.dir == 0:
			return removeUnrecord
		case v.archives:
			r.at, r.cu = archiveDir, claims
			return r.sub(release, removeRelease)
		}
		return removeRelease
	}
	phases[removeRelease] = func(r *run) phase {
		if v := r.vol(r.t); r.x != gone { // it was checked before that this is ours
			if !r.vanished && v.in == 0 && !r.plan.claimFile { // the rest is left to the purge
				r.step("release the claim")
				r.unlink(r.x, taken)
				return removeUnrecord
			}
			r.at = v.dir
			return r.sub(dropClaim, removeUnrecord)
		}
		return r.sub(release, removeUnrecord)
	}
	phases[removeUnrecord] = func(r *run) phase {
		if r.vanished {
			r.step("remove the record from the trash")
			r.unlink(trash, trashJSON.of(r.t))
		}
		return r.ok()
	}
	phases[removeUnchecked] = func(r *run) phase {
		r.rmdir(volumes, key.of(r.vol(r.t).key))
		return removeForget
	}
	phases[removeSimpler] = removeSimplerDo
}

// simpler reports whether a deletion differs from that of pkg/share.
func (p plan) simpler() bool { return p.lease || p.comparesOld || p.comparesNew || p.claimFirst }

// removeSimplerDo deletes without the entry as a fence, or releases the claim before the entry is
// removed.
func removeSimplerDo(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	ours := func() bool {
		_, n, err := readClaim(r, claims, d)
		return err == ok && n == r.t
	}
	switch away := r.unique(stray); {
	case r.plan.lease:
		r.rename(root, d, trash, away)
		return removeRecord
	case r.plan.comparesOld:
		if !ours() {
			return r.fail()
		}
		r.rename(root, d, trash, away)
		return removeRecord
	case r.plan.comparesNew:
		if r.rename(root, d, trash, away) == ok && !ours() {
			r.rename(trash, away, root, d)
		}
		return removeRecord
	}
	r.rename(root, d, r.k, tree)
	if x, n, err := readClaim(r, claims, d); err == ok && n == r.t {
		r.unlink(x, taken)
		r.rmdir(claims, d)
	}
	r.litter = tree
	return r.sub(moveIn, removeMoved)
}
