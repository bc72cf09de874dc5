// SPDX-License-Identifier: Apache-2.0

package model

// Holds in a deletion: pkg/share/hold.go and entry.go.

func init() {
	phases[removeHolds] = func(r *run) phase {
		h, err := r.lookup(r.k, deletion)
		if err != ok || !r.w0.isDir(h) {
			return removeMarkAgain
		}
		r.src = h
		return removeHold
	}
	phases[removeHold] = func(r *run) phase {
		switch n := r.list(r.src); n.kind() {
		case 0:
			return removeSeal
		case sealed, recordFile:
			return removeUnderSeal
		case changeDir:
			if !r.task.takes { // its lease is not over
				return r.fail()
			}
			breakLock(r)
			return removeHold
		case hold:
			r.litter = n
			return removeHoldDead
		}
		return r.fail()
	}
	phases[removeHoldDead] = func(r *run) phase {
		if r.vol(r.litter.arg()).shallow == 0 { // a copy's: its lease may be over
			if !r.task.takes {
				return r.fail()
			}
			r.step("remove an abandoned hold")
			r.unlink(r.src, r.litter)
			return removeHold
		}
		r.saved, r.t = r.k, r.litter.arg()
		return r.sub(fate, removeHoldFate)
	}
	phases[removeHoldFate] = func(r *run) phase {
		n := r.t
		r.k, r.t, r.saved = r.saved, r.first, gone
		if !r.dead {
			return r.fail()
		}
		r.step("remove an abandoned hold")
		r.unlink(r.src, hold.of(n))
		return removeHold
	}
	phases[removeSeal] = func(r *run) phase {
		if r.plan.unsealed {
			r.step("mark as being deleted")
			r.rmdir(r.k, deletion)
			return removeMarkAgain
		}
		n := sealOf.of(nonce(r.id) + 1)
		r.step("prepare the seal")
		r.mkdir(staging, n)
		if d, err := r.lookup(staging, n); err == ok {
			r.create(d, sealed)
		}
		r.step("seal the holds")
		if r.rename(staging, n, r.k, deletion) == ok {
			return removeUnderSeal
		}
		if d, err := r.lookup(staging, n); err == ok {
			r.unlink(d, sealed)
		}
		r.rmdir(staging, n)
		return removeMarkAgain
	}
	phases[removeUnderSeal] = func(r *run) phase {
		h, err := r.lookup(r.k, deletion)
		if err != ok {
			return removeAgain
		}
		r.step("mark as being deleted, under the seal")
		r.rename(r.k, recordFile, h, recordFile)
		return removeAgain
	}
	phases[removeMarkAgain] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		return removeMark
	}
}

// came reports whether the hold that this process has just made is older than the seal.
func came(r *run, h ino) bool {
	_, err := r.lookup(h, sealed)
	return err == noent
}

// marked returns the place of the record of a marked entry.
func marked(r *run) (ino, name) {
	if !r.sealed {
		return r.k, deletion
	}
	h, err := r.lookup(r.k, deletion)
	if err != ok {
		return gone, recordFile
	}
	return h, recordFile
}
