// SPDX-License-Identifier: Apache-2.0

package model

// Volumes that use another volume's tree: a copy of it, or a snapshot itself: pkg/share/copy.go and
// hold.go.

func init() {
	phases[takeHold] = func(r *run) phase {
		k, err := r.lookup(volumes, key.of(r.vol(r.source).key))
		if err != ok {
			return createRefused
		}
		if n, err := r.read(k, recordFile); err != ok || n != r.source {
			return createRefused
		}
		r.k = k
		return takeHoldIn
	}
	phases[takeHoldIn] = takeHoldInDo
	phases[takeHoldLook] = func(r *run) phase {
		if !r.plan.holdsBlind {
			if _, err := r.lookup(r.k, recordFile); err != ok {
				return createRefused
			}
		}
		if r.vol(r.t).copyOf != 0 {
			return copySource
		}
		return createCommit
	}
	phases[copySource] = func(r *run) phase {
		d, err := r.lookup(root, directory.of(r.vol(r.source).dir))
		if err != ok {
			return createRefused
		}
		r.x = d
		return copyTree
	}
	phases[copyTree] = func(r *run) phase {
		w, found := r.stage()
		if !found {
			return r.fail()
		}
		r.step("make the staging directory")
		n := tree
		if r.plan.copiesAside {
			n = copying
		}
		if err := r.mkdir(w, n); err != ok {
			return r.fail()
		}
		s, err := r.lookup(w, n)
		if err != ok {
			return r.fail()
		}
		r.saved = s
		return copyRead
	}
}

func init() {
	phases[copyRead] = func(r *run) phase {
		n, err := r.read(r.x, data)
		if err == stale {
			return r.fail()
		}
		s := r.saved
		r.plain(func() {
			if err == ok && s != gone && r.w0.get(s, data) == gone {
				r.w0.nodes[r.w0.add(s, data, false)].val = n | copied
			}
		})
		return copyEnd
	}
	phases[copyEnd] = func(r *run) phase {
		r.step("release the hold")
		err := r.unlink(r.src, hold.of(r.t))
		if err != ok && !r.plan.holdLost {
			return r.fail()
		}
		r.src, r.k, r.x, r.saved = gone, gone, gone, gone
		if r.plan.copiesAside && r.rename(r.w, copying, r.w, tree) == stale {
			return r.fail()
		}
		return placeBegin
	}
	// dropHold removes the hold of t on source: t is gone.
	phases[dropHold] = func(r *run) phase {
		if e, err := r.lookup(volumes, key.of(r.vol(r.source).key)); err == ok {
			if h, err := r.lookup(e, deletion); err == ok && r.w0.isDir(h) {
				r.step("release the hold")
				r.unlink(h, hold.of(r.t))
			}
		}
		return r.back()
	}
}

// takeHoldInDo prevents the deletion of the source, whose entry is k.
func takeHoldInDo(r *run) phase {
	h, err := holdsDir(r)
	switch {
	case err == noent:
		return r.fail()
	case err != ok: // it is being deleted
		return createRefused
	}
	r.step("hold the source")
	switch err := r.link(r.f, h, hold.of(r.t)); {
	case err == ok:
		if !came(r, h) {
			r.unlink(h, hold.of(r.t))
			return createRefused
		}
		r.src = h
		return takeHoldLook
	case err == exist && r.vol(r.t).shallow != 0: // its own, after a lost reply
		if r.plan.trustsHold {
			return createCommit
		}
		if !came(r, h) {
			return createRefused
		}
		return takeHoldLook
	case err == exist || !r.alive(r.own) || r.again():
		return r.fail()
	case !r.alive(r.k):
		return createRefused
	}
	return takeHoldIn
}

// holdsDir opens the directory of holds of k, and makes it if there is none. notdir or stale: the source
// is being deleted.
func holdsDir(r *run) (ino, errno) {
	h, err := r.lookup(r.k, deletion)
	if err == noent {
		r.step("make the directory of holds")
		if r.mkdir(r.k, deletion) == stale {
			return gone, stale
		}
		h, err = r.lookup(r.k, deletion)
	}
	if err == ok && r.w0.isFile(h) {
		return gone, notdir
	}
	return h, err
}

// copied is a bit in the content of a file that its volume did not write itself.
const copied nonce = 8
