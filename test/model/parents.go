// SPDX-License-Identifier: Apache-2.0

package model

// The removal of parents without volumes: pkg/share/parents.go and tidy.go. There is one level of them.
// The index in .mooring/parents is not modelled: each parent counts as made by the driver.

func init() {
	// createFreed continues after a parent in the place of the directory was removed, or was not.
	phases[createFreed] = func(r *run) phase {
		x, err := r.lookup(claims, directory.of(r.parent))
		if err != ok {
			return createClaimAgain
		}
		if c, err := r.lookup(x, taken); err != ok || !r.w0.isDir(c) {
			return createClaimAgain
		}
		return createRefused
	}
	phases[tidy] = func(r *run) phase {
		r.parent = r.vol(r.task.n).in
		if r.again() {
			return r.fail()
		}
		x, err := r.lookup(claims, directory.of(r.parent))
		if err != ok { // it never had a volume
			if _, err := r.lookup(root, directory.of(r.parent)); err != ok {
				return r.ok()
			}
			return r.sub(makeParent, tidy)
		}
		r.x = x
		return r.sub(tidyIn, tidied)
	}
	phases[tidied] = func(r *run) phase { return r.ok() }
	phases[freeParent] = func(r *run) phase {
		sweep(r)
		return tidyIn
	}
	phases[tidyIn] = func(r *run) phase {
		r.step("remove the claims of an empty parent")
		switch r.rmdir(r.x, taken) {
		case notempty:
			return sweepEmpty
		case notdir:
			if n, err := r.read(r.x, taken); err == ok && n == 0 {
				return unbar
			}
			return r.back()
		case stale:
			return r.back()
		}
		r.step("bar the parent")
		if _, err := r.create(r.x, taken); err != ok {
			return r.back()
		}
		return tidyTake
	}
	phases[sweepEmpty] = func(r *run) phase {
		sweep(r)
		return r.back()
	}
}

func init() {
	phases[tidyTake] = func(r *run) phase {
		p := directory.of(r.parent)
		d, err := r.lookup(root, p)
		if err != ok || r.unused(d, gone) != ok {
			return tidyUnbar
		}
		r.step("take an empty parent away")
		switch r.rename(root, p, r.x, deadDir) {
		case ok:
			return tidyDead
		case notempty:
			return r.back()
		}
		return tidyUnbar
	}
	phases[tidyDead] = func(r *run) phase {
		if !removeDead(r) {
			return r.back()
		}
		return tidyUnbar
	}
	phases[tidyUnbar] = func(r *run) phase {
		r.step("remove the bar")
		if r.unlink(r.x, taken) != ok {
			return r.back()
		}
		r.step("remove the directory of the claim")
		if r.rmdir(claims, directory.of(r.parent)) == notempty {
			return removeUnclaimed
		}
		r.x = gone
		return r.back()
	}
	// removeUnclaimed removes a directory of claims without a claim. One that is not empty has a parent
	// that a late process has moved there.
	phases[removeUnclaimed] = func(r *run) phase {
		r.step("remove an empty directory of claims")
		if r.rmdir(r.cu, directory.of(r.parent)) == notempty && !r.plan.leavesDead {
			return putBack
		}
		r.x = gone
		return r.back()
	}
	phases[putBack] = func(r *run) phase {
		if removeDead(r) {
			r.rmdir(r.cu, directory.of(r.parent))
		}
		r.x = gone
		return r.back()
	}
	// unbar removes a bar that was left. Leases run out at any time here.
	phases[unbar] = func(r *run) phase {
		if removeDead(r) {
			r.step("remove the bar")
			r.unlink(r.x, taken)
		}
		return r.back()
	}
}

// removeDead removes a parent that was moved away, or puts it back if it is not empty. It reports whether
// one of them succeeded.
func removeDead(r *run) bool {
	r.step("remove an empty parent")
	if r.rmdir(r.x, deadDir) != notempty {
		return true
	}
	r.step("put the parent back")
	return r.rename(r.x, deadDir, root, directory.of(r.parent)) == ok
}

// sweep removes empty directories of claims in a parent. All volumes in it have one name here.
func sweep(r *run) {
	at, err := r.lookup(r.x, taken)
	if err != ok {
		return
	}
	for _, v := range r.s.volumes {
		if v.in == r.parent && v.in != 0 {
			r.step("remove an empty directory of claims")
			r.rmdir(at, directory.of(v.dir))
			return
		}
	}
}
