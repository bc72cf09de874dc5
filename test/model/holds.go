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
			if err := secure(r); err != ok {
				return removeAgain
			}
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
	// remark marks an entry again of whose record nothing but its second name was left.
	phases[remark] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		r.step("mark as being deleted again")
		switch replace(r, deletion, r.has) {
		case ok:
			return r.back()
		case isdir: // the holds of those who came too late
			r.litter = deletion
			return r.sub(discard, remark)
		}
		return r.fail()
	}
	phases[removeMarkAgain] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		return removeMark
	}
}

// secure gives the record a second name, before a directory is removed whose name the record may have by
// then.
func secure(r *run) errno {
	if r.plan.oneRecord {
		return ok
	}
	f, err := r.lookup(r.k, recordFile)
	if err != ok {
		return err
	}
	r.step("give the record a second name")
	if err = r.link(f, r.k, leaving); err != exist {
		return err
	}
	n, err := r.read(r.k, recordFile)
	if err != ok {
		return err
	}
	return replace(r, leaving, n)
}

// replace writes a record as a whole.
func replace(r *run, n name, val nonce) errno {
	aside := leaving.of(nonce(r.id) + 1)
	f, err := r.create(staging, aside)
	if err == ok {
		err = r.write(f, val)
	}
	if err == ok {
		err = r.rename(staging, aside, r.k, n)
	}
	if err != ok {
		r.unlink(staging, aside)
	}
	return err
}
