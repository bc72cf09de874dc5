// SPDX-License-Identifier: Apache-2.0

package model

// The creation of a volume up to its claim: pkg/share/create.go, entry.go and claim_take.go. A snapshot is a
// volume without a directory.

func init() {
	phases[create] = func(r *run) phase {
		r.t = r.task.n
		if from := r.vol(r.t).from; r.vol(from).fixed { // the tree was kept in its place and then moved
			if _, err := r.lookup(trash, purging.of(from)); err == ok {
				return r.fail()
			}
		}
		return createPrepareEntry
	}
	phases[createPrepareEntry] = func(r *run) phase {
		r.step("prepare the entry")
		if r.plan.inPlace {
			if r.mkdir(volumes, key.of(r.vol(r.t).key)) != ok {
				return createThere
			}
		} else if r.mkdir(staging, entryOf.of(r.t)) != ok {
			return r.fail()
		}
		return createOpen
	}
	phases[createOpen] = func(r *run) phase {
		d, n := staging, entryOf.of(r.t)
		if r.plan.inPlace {
			d, n = volumes, key.of(r.vol(r.t).key)
		}
		own, err := r.lookup(d, n)
		if err != ok {
			return r.fail()
		}
		r.step("write the record")
		f, err := r.create(own, makingFile)
		if err != ok || r.write(f, r.t) != ok {
			return r.fail()
		}
		r.own, r.f = own, f
		return createPrepare
	}
	phases[createPrepare] = createPrepareDo
	phases[createPlace] = func(r *run) phase {
		if r.plan.inPlace {
			return createClaim
		}
		r.step("rename the entry into place")
		switch r.rename(staging, entryOf.of(r.t), volumes, key.of(r.vol(r.t).key)) {
		case ok:
			return createClaim
		case notempty:
			return createThere
		}
		return createUnprepare
	}
	phases[createUnprepare] = func(r *run) phase { // if it was in its place before, its directory there is emptied
		dropRefused(r, r.own)
		r.rmdir(r.own, stage)
		r.unlink(r.own, makingFile)
		r.rmdir(staging, entryOf.of(r.t))
		return r.fail()
	}
}

func init() {
	phases[createThere] = func(r *run) phase {
		k, err := r.lookup(volumes, key.of(r.vol(r.task.n).key))
		if err != ok {
			return createAgain
		}
		r.k = k
		return r.sub(readEntry, createFound)
	}
	phases[createFound] = func(r *run) phase {
		r.t = r.has
		switch r.state {
		case absent:
			return createAgain
		case ready:
			return r.ok()
		case empty:
			r.t = 0
			return r.sub(finish, createAgain)
		case making, aborting:
			if !r.task.takes && r.state == making { // its lease is not over
				return r.fail()
			}
			return r.sub(abort, createAgain)
		}
		return r.fail()
	}
	// The code prepares another entry then. Here it is the prepared one, with a new claim.
	phases[createAgain] = func(r *run) phase {
		r.t, r.k = r.task.n, gone
		if r.again() {
			return r.fail()
		}
		if r.plan.inPlace {
			return create
		}
		own := r.own
		r.plain(func() {
			if x := r.w0.get(own, claim); x != gone {
				r.w0.touch(x)
			}
		})
		return createPlace
	}
	phases[createClaim] = func(r *run) phase {
		r.t, r.up, r.cu = r.task.n, root, claims
		switch v := r.vol(r.t); {
		case v.dir == 0 && v.shallow != 0:
			r.source = v.shallow
			return takeHold
		case v.dir == 0:
			return createCommit
		case v.in != 0:
			return openParent
		}
		return createTake
	}
}

func init() {
	phases[createTake] = createTakeDo
	phases[createTakeInPlace] = createTakeInPlaceDo
	phases[createTakeFile] = func(r *run) phase {
		if r.link(r.f, r.cu, directory.of(r.vol(r.t).dir)) != ok {
			return createContend
		}
		return createParent
	}
	phases[createPrepareAgain] = func(r *run) phase {
		if !prepareClaim(r) {
			return r.fail()
		}
		return createClaimAgain
	}
	phases[createClaimAgain] = func(r *run) phase {
		r.t, r.k, r.at = r.task.n, gone, 0
		if r.again() || !r.alive(r.own) {
			return r.fail()
		}
		return createClaim
	}
	phases[createContend] = createContendDo
	phases[createContendFate] = func(r *run) phase {
		if r.leaving {
			return r.fail()
		}
		if r.dead {
			r.at = r.vol(r.task.n).dir
			return r.sub(dropClaim, createClaimAgain)
		}
		return createRefused
	}
}

func createPrepareDo(r *run) phase {
	v := r.vol(r.t)
	if v.from != 0 || v.copyOf != 0 {
		r.step("prepare the stage")
		if r.mkdir(r.own, stage) != ok {
			return createUnprepare
		}
		if r.plan.stageByHandle {
			w, err := r.lookup(r.own, stage)
			if err != ok {
				return createUnprepare
			}
			r.w = w
		}
	}
	if v.dir != 0 && !r.plan.claimFile && !prepareClaim(r) {
		return createUnprepare
	}
	return createPlace
}

// prepareClaim makes the claim in the entry.
func prepareClaim(r *run) bool {
	if r.plan.inPlace {
		return true
	}
	r.step("prepare the claim")
	if r.mkdir(r.own, claim) == stale {
		return false
	}
	x, err := r.lookup(r.own, claim)
	if err != ok {
		return false
	}
	r.step("claim the directory")
	err = r.link(r.f, x, taken)
	return err == ok || err == exist
}

func createTakeDo(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	switch {
	case r.plan.inPlace:
		return createTakeInPlace
	case r.plan.claimFile:
		return createTakeFile
	}
	r.step("rename the claim into place")
	switch r.rename(r.own, claim, r.cu, d) {
	case ok:
		return createParent
	case notempty:
		return createContend
	}
	// It may have been executed before, with a lost reply.
	if !r.alive(r.own) {
		return r.fail()
	}
	if _, err := r.lookup(r.own, claim); err == ok {
		return createClaimAgain
	}
	if x, err := r.lookup(r.cu, d); err == ok {
		if n, err := r.read(x, taken); err == ok && n == r.t {
			return createParent
		}
	}
	return createPrepareAgain
}

func createTakeInPlaceDo(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	if r.mkdir(r.cu, d) != ok {
		return createContend
	}
	x, err := r.lookup(r.cu, d)
	if err != ok {
		return createClaimAgain
	}
	switch r.link(r.f, x, taken) {
	case ok:
		return createParent
	case exist:
		return createContend
	}
	return createClaimAgain
}

func createContendDo(r *run) phase {
	d := directory.of(r.vol(r.t).dir)
	x, n, err := readClaim(r, r.cu, d)
	switch {
	case x == gone:
		return createClaimAgain
	case err == isdir: // of a parent: tidied at once, if nothing is in it
		r.parent, r.x = r.vol(r.t).dir, x
		return r.sub(freeParent, createFreed)
	case err == ok && n == 0: // of a parent that is being tidied
		r.parent, r.x = r.vol(r.t).dir, x
		return r.sub(unbar, createClaimAgain)
	case err != ok: // of a process that has ended
		r.parent, r.x = r.vol(r.t).dir, x
		return r.sub(removeUnclaimed, createClaimAgain)
	case n == r.t:
		return createParent
	}
	r.t, r.x = n, x
	return r.sub(fate, createContendFate)
}

// readClaim opens the claim on a directory, and reads its volume. x is gone if there is none.
func readClaim(r *run, at ino, d name) (x ino, n nonce, err errno) {
	if r.plan.claimFile {
		n, err := r.read(at, d)
		if err != ok {
			return gone, 0, err
		}
		return at, n, ok
	}
	x, err = r.lookup(at, d)
	if err != ok {
		return gone, 0, err
	}
	n, err = r.read(x, taken)
	return x, n, err
}
