// SPDX-License-Identifier: Apache-2.0

package model

// What a deletion makes of holds: pkg/share/hold.go and entry.go.

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
			r.step("remove the directory of holds")
			if r.rmdir(r.k, deletion) == notempty {
				return r.fail()
			}
			return removeMarkAgain
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
	phases[removeMarkAgain] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		return removeMark
	}
}
