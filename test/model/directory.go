// SPDX-License-Identifier: Apache-2.0

package model

// The creation of a volume from its claim on: pkg/share/create.go, and parents.go for the directories
// above it.

func init() {
	phases[createRefused] = func(r *run) phase {
		if r.vol(r.task.n).copyOf != 0 && r.src != gone { // its copy ends first
			r.step("release the hold")
			r.unlink(r.src, hold.of(r.task.n))
		}
		r.t, r.k, r.src, r.tries = r.task.n, r.own, gone, 0
		return r.sub(abort, createFailed)
	}
	phases[createFailed] = func(r *run) phase { return r.fail() }
	phases[createParent] = func(r *run) phase {
		if r.vol(r.t).in == 0 {
			return createDir
		}
		p := directory.of(r.vol(r.t).in)
		up, err := r.lookup(root, p)
		if err != ok {
			r.step("make a parent")
			r.mkdir(root, p)
			if up, err = r.lookup(root, p); err != ok {
				return r.fail()
			}
		}
		r.up = up
		return createDir
	}
	phases[createDir] = func(r *run) phase {
		r.step("make the directory")
		switch r.mkdir(r.up, directory.of(r.vol(r.t).dir)) {
		case ok:
			r.made = true
			return createOwn
		case exist:
			return createUsed
		}
		if r.vol(r.t).in == 0 || r.again() { // the parent was removed by tidying
			return r.fail()
		}
		return createParent
	}
	phases[createUsed] = func(r *run) phase {
		d := directory.of(r.vol(r.t).dir)
		i, err := r.lookup(r.up, d)
		if err != ok {
			return r.fail()
		}
		if !ours(r, i, r.cu, d) {
			return createRefused
		}
		r.made = true
		if r.plan.adoptsFound {
			return createOwn
		}
		return createReplace
	}
	// createReplace replaces the directory of a late process, which may have a handle of it.
	phases[createReplace] = func(r *run) phase {
		r.step("prepare an empty directory")
		if err := r.mkdir(r.own, emptyDir); err != ok && err != exist {
			return r.fail()
		}
		r.step("replace the directory by the empty one")
		switch r.rename(r.own, emptyDir, r.up, directory.of(r.vol(r.t).dir)) {
		case ok:
			return createOwn
		case notempty:
			return createRefused
		}
		return r.fail()
	}
}

func init() {
	phases[createOwn] = func(r *run) phase {
		if !r.vol(r.t).owned {
			return createFill
		}
		d, err := r.lookup(r.up, directory.of(r.vol(r.t).dir))
		if err != ok || !r.plan.chownsLate && !r.alive(r.own) {
			return r.fail()
		}
		r.step("set the owner")
		r.chown(d, r.task.n)
		return createFill
	}
	phases[createFill] = func(r *run) phase {
		switch v := r.vol(r.t); {
		case v.from != 0:
			return restoreTake
		case v.copyOf != 0:
			r.source = v.copyOf
			return takeHold
		}
		return createCommit
	}
	phases[createCommit] = func(r *run) phase {
		from := makingFile
		if r.placing {
			from = placingFile
		}
		r.step("commit")
		if r.rename(r.own, from, r.own, recordFile) != ok {
			return r.fail()
		}
		return r.ok()
	}
}

// ours reports whether an existing directory was made after its claim, which is t's, and is empty.
func ours(r *run, i, at ino, d name) bool {
	x, n, err := readClaim(r, at, d)
	if err != ok || n != r.t {
		return false
	}
	if r.plan.claimFile {
		x = gone
	}
	return r.unused(i, x) == ok
}
