// SPDX-License-Identifier: Apache-2.0

package model

// A directory that has a project of its own and therefore cannot be moved: pkg/share/project_quota.go
// and purge_in_place.go.

func init() {
	// removeKeep leaves the directory, which could not be moved, in its place.
	phases[removeKeep] = func(r *run) phase {
		if !r.alive(r.k) {
			return r.fail()
		}
		if _, err := r.lookup(trash, trashJSON.of(r.t)); err == ok {
			return r.ok()
		}
		f, err := r.lookup(marked(r))
		if err != ok {
			return r.fail()
		}
		r.step("promise when the directory is purged")
		if err := r.link(f, trash, trashJSON.of(r.t)); err != ok && err != exist {
			return r.fail()
		}
		if _, err := r.lookup(trash, trashJSON.of(r.t)); err == ok {
			return r.ok()
		}
		r.vanished = true // already purged
		return removeRecord
	}
	phases[purgeKept] = func(r *run) phase {
		if !r.plan.purgesUnsaid {
			r.step("let nobody bring it back")
			r.mkdir(trash, purging.of(r.t))
		}
		if _, err := r.lookup(marked(r)); err != ok {
			return r.fail()
		}
		if _, err := r.lookup(r.k, tree); err == ok {
			r.litter = tree
			return r.sub(discard, purgeKeptRecord)
		}
		if _, err := r.lookup(trash, trashed.of(r.t)); err == ok {
			return purgeKeptRecord
		}
		return r.sub(resolve, purgeKeptClaim)
	}
	phases[purgeKeptClaim] = func(r *run) phase {
		if _, n, err := readClaim(r, r.cu, directory.of(r.vol(r.t).dir)); err != ok || n != r.t {
			return r.fail()
		}
		return purgeKeptLook
	}
}

func init() {
	phases[purgeKeptLook] = func(r *run) phase {
		if r.again() {
			return r.fail()
		}
		d, err := r.lookup(r.up, directory.of(r.vol(r.t).dir))
		if err != ok {
			if !r.plan.overlooksTaken {
				r.litter = tree
				return r.sub(discard, purgeKeptRecord)
			}
			return purgeKeptRecord
		}
		r.w = d
		r.step("take the directory away")
		err = r.rename(r.up, directory.of(r.vol(r.t).dir), r.k, tree)
		switch {
		case err == exdev:
			return purgeKeptOut
		case err != ok && !r.alive(r.k):
			return r.fail()
		}
		r.litter = tree
		return r.sub(discard, purgeKeptRecord)
	}
	// purgeKeptOut removes the content of the found directory, by its handle.
	phases[purgeKeptOut] = func(r *run) phase {
		free := r.unused(r.w, gone)
		if free != ok && free != notempty || !r.alive(r.k) {
			return r.fail()
		}
		if free == notempty {
			r.step("purge in place")
			r.unlink(r.w, data)
		}
		if r.plan.removesKept {
			r.rmdir(r.up, directory.of(r.vol(r.t).dir))
			return purgeKeptRecord
		}
		return purgeKeptReplace
	}
	phases[purgeKeptReplace] = replaceEmpty
	phases[purgeKeptRecord] = func(r *run) phase {
		r.w, r.tries = gone, 0
		r.step("remove the record")
		r.unlink(marked(r))
		return r.sub(finish, purgeForget)
	}
}

// replaceEmpty removes an empty directory, which cannot be moved, from the place of a volume.
func replaceEmpty(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	r.step("prepare an empty directory")
	if err := r.mkdir(r.k, emptyDir); err != ok && err != exist {
		return r.fail()
	}
	r.step("replace the directory by the empty one")
	switch r.rename(r.k, emptyDir, r.up, d) {
	case ok:
	case notempty:
		return purgeKeptLook
	default: // another has taken the empty one, or has removed the entry
		if r.alive(r.k) {
			return purgeKeptLook
		}
		return r.fail()
	}
	r.step("take the directory away")
	if r.rename(r.up, d, r.k, tree) != ok && !r.alive(r.k) {
		return r.fail()
	}
	r.step("remove the directory")
	if r.rmdir(r.k, tree) == notempty {
		r.step("put the directory back")
		if err := r.rename(r.k, tree, r.up, d); err != ok && err != noent {
			return r.fail()
		}
	}
	return purgeKeptRecord
}
