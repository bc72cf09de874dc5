// SPDX-License-Identifier: Apache-2.0

package model

// Claims of volumes and of parents: pkg/share/claims.go.

func init() {
	// release releases the claim of t, whose entry is dead.
	phases[release] = func(r *run) phase {
		if r.at == 0 {
			r.at = r.vol(r.t).dir
		}
		x, n, err := readClaim(r, r.cu, directory.of(r.at))
		switch {
		case x != gone && err == ok && n == r.t:
			r.x = x
			return dropClaim
		case x != gone && (err == noent || err == stale):
			r.step("remove the directory of the claim")
			r.rmdir(r.cu, directory.of(r.at))
		}
		r.at = 0
		return r.back()
	}
	// dropClaim removes the claim in x, with the name at.
	phases[dropClaim] = func(r *run) phase {
		r.step("release the claim")
		if r.plan.claimFile {
			r.unlink(r.cu, directory.of(r.at))
		} else {
			r.unlink(r.x, taken)
			r.step("remove the directory of the claim")
			r.rmdir(r.cu, directory.of(r.at))
		}
		r.x, r.at = gone, 0
		return r.back()
	}
	// resolve finds the directories of t's directory and claim.
	phases[resolve] = func(r *run) phase {
		v := r.vol(r.t)
		if v.in == 0 {
			r.up, r.cu = root, claims
			return r.back()
		}
		up, err := r.lookup(root, directory.of(v.in))
		if err != ok {
			up = gone
		}
		cu := gone
		if x, err := r.lookup(claims, directory.of(v.in)); err == ok {
			if c, err := r.lookup(x, taken); err == ok && r.w0.isDir(c) {
				cu = c
			}
		}
		r.up, r.cu = up, cu
		return r.back()
	}
}

func init() {
	phases[openParent] = func(r *run) phase {
		r.parent = r.vol(r.t).in
		x, err := r.lookup(claims, directory.of(r.parent))
		if err != ok {
			return r.sub(makeParent, createClaimAgain)
		}
		r.x = x
		return openParentIn
	}
	phases[openParentIn] = openParentInDo
	phases[openParentFate] = func(r *run) phase {
		switch {
		case r.leaving:
			return r.fail()
		case r.dead:
			return r.sub(dropClaim, createClaimAgain)
		}
		return createRefused
	}
	phases[makeParent] = makeParentDo
	phases[makeParentPut] = func(r *run) phase {
		p := parentOf.of(r.attempt())
		r.step("rename the claims of a parent into place")
		if r.rename(staging, p, claims, directory.of(r.parent)) != ok {
			r.rmdir(r.x, taken)
			r.rmdir(staging, p)
		}
		return r.back()
	}
}

func openParentInDo(r *run) phase {
	c, err := r.lookup(r.x, taken)
	if err != ok {
		if r.plan.anyParent {
			r.mkdir(r.x, taken)
			return createClaimAgain
		}
		return r.sub(removeUnclaimed, createClaimAgain)
	}
	if r.w0.isDir(c) || c == gone {
		r.cu = c
		return createTake
	}
	n, err := r.read(r.x, taken)
	switch {
	case err == ok && n == 0:
		return r.sub(unbar, createClaimAgain)
	case err != ok:
		return createClaimAgain
	}
	r.t, r.at = n, r.parent
	return r.sub(fate, openParentFate)
}

// makeParentDo prepares the directory of claims of a parent.
func makeParentDo(r *run) phase {
	p := parentOf.of(r.attempt())
	r.step("prepare the claims of a parent")
	if r.mkdir(staging, p) != ok {
		return r.back()
	}
	y, err := r.lookup(staging, p)
	if err != ok {
		return r.back()
	}
	r.step("make the claims of a parent")
	if !r.plan.marksByRename {
		if r.mkdir(y, taken) != ok {
			return r.back()
		}
	} else {
		// Mended: a late copy of the mkdir cannot mark it again when it was unmarked.
		m := markOf.of(r.attempt())
		r.mkdir(staging, m)
		if r.rename(staging, m, y, taken) == stale {
			return r.back()
		}
	}
	r.x = y
	return makeParentPut
}
