// SPDX-License-Identifier: Apache-2.0

package model

// The change of a record: pkg/share/update.go.

func init() {
	phases[update] = func(r *run) phase {
		k, err := r.lookup(volumes, key.of(r.vol(r.task.n).key))
		if err != ok {
			return r.fail()
		}
		r.k, r.src = k, k
		if r.plan.lockBeside {
			return updateLock
		}
		h, err := holdsDir(r)
		if err != ok {
			return r.fail()
		}
		r.src = h
		return updateLock
	}
	phases[updateLock] = func(r *run) phase {
		r.step("lock the record")
		switch r.mkdir(r.src, changeDir) {
		case ok:
			c, err := r.lookup(r.src, changeDir)
			if err != ok {
				return updateAgain
			}
			r.x = c
			if !r.plan.lockBeside && !came(r, r.src) {
				return updateUnlock
			}
			return updateWrite
		case exist:
			if !r.task.takes { // its lease is not over
				return r.fail()
			}
			breakLock(r)
			return updateAgain
		}
		return updateAgain
	}
}

func init() {
	phases[updateAgain] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		return update
	}
	phases[updateWrite] = func(r *run) phase {
		n, err := r.read(r.k, recordFile)
		if err != ok {
			return updateUnlock
		}
		r.step("write the changed record aside")
		f, err := r.create(r.x, recordFile)
		if err != ok || r.write(f, n) != ok {
			return updateUnlock
		}
		return updatePut
	}
	phases[updatePut] = func(r *run) phase {
		r.step("rename the changed record into place")
		r.done = r.rename(r.x, recordFile, r.k, recordFile) == ok
		return updateUnlock
	}
	phases[updateUnlock] = func(r *run) phase {
		r.step("unlock the record")
		r.unlink(r.x, recordFile)
		r.rmdir(r.src, changeDir)
		if r.done {
			return r.ok()
		}
		return r.fail()
	}
}

// breakLock removes the lock of an update whose process counts as dead.
func breakLock(r *run) {
	if c, err := r.lookup(r.src, changeDir); err == ok {
		r.step("break the lock of the record")
		r.unlink(c, recordFile)
		r.rmdir(r.src, changeDir)
	}
}
