// SPDX-License-Identifier: Apache-2.0

package model

// The purge of the trash: pkg/share/purge.go. Everything in it is due.

func init() {
	phases[purge] = func(r *run) phase {
		r.t = r.task.n
		if _, err := r.lookup(trash, trashJSON.of(r.t)); err == ok {
			return r.sub(fate, purgeFate)
		}
		if _, err := r.lookup(trash, purging.of(r.t)); err == ok {
			return purgeTree
		}
		return r.ok()
	}
	phases[purgeFate] = func(r *run) phase {
		if r.dead {
			return purgeForget
		}
		k, err := r.lookup(volumes, r.key())
		if err != ok { // just removed by a process that then releases the claim
			return purgeTake
		}
		r.k = k
		return r.sub(readEntry, purgeFinish)
	}
	phases[purgeFinish] = func(r *run) phase {
		switch r.state {
		case deleting:
			return purgeKept
		case empty:
			return r.sub(finish, purgeForget)
		}
		return r.fail()
	}
	phases[purgeForget] = func(r *run) phase {
		switch v := r.vol(r.t); {
		case v.shallow != 0:
			r.source = v.shallow
			return r.sub(dropHold, purgeTake)
		case v.dir == 0:
			return purgeTake
		case v.copyOf != 0:
			r.source = v.copyOf
			return r.sub(dropHold, purgeResolve)
		}
		return purgeResolve
	}
}

func init() {
	phases[purgeResolve] = func(r *run) phase { return r.sub(resolve, purgeArchive) }
	phases[purgeArchive] = func(r *run) phase {
		if r.vol(r.t).archives {
			r.at = archiveDir
			return r.sub(release, purgeRelease)
		}
		return purgeRelease
	}
	phases[purgeRelease] = func(r *run) phase { return r.sub(release, purgeTake) }
	phases[purgeTake] = func(r *run) phase {
		r.step("take the tree for its purge")
		r.done = r.rename(trash, trashed.of(r.t), trash, purging.of(r.t)) == notempty
		return purgeTree
	}
	phases[purgeTree] = func(r *run) phase {
		if d, err := r.lookup(trash, purging.of(r.t)); err == ok {
			r.step("purge")
			r.unlink(d, data)
			r.plain(func() { // and everything else
				if d != gone && r.w0.get(trash, purging.of(r.t)) == d {
					r.w0.removeAll(trash, purging.of(r.t))
				}
			})
		}
		if r.done { // there is a second tree: it was kept in its place, and then could be moved
			return purgeTake
		}
		return purgeRecord
	}
	phases[purgeRecord] = func(r *run) phase {
		n := trashJSON.of(r.t)
		r.step("remove the record from the trash")
		if r.unlink(trash, n) == isdir { // a late copy's directory of holds
			if h, err := r.lookup(trash, n); err == ok {
				if x := r.list(h); x.kind() == hold {
					r.unlink(h, x)
				}
				r.rmdir(trash, n)
			}
		}
		return r.ok()
	}
}
