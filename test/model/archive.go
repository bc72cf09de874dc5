// SPDX-License-Identifier: Apache-2.0

package model

// The archiving of a volume: pkg/share/delete.go. One name is tried.

// archiveDir is the name of an archived directory.
const archiveDir = 9

func init() {
	phases[archive] = func(r *run) phase {
		if _, err := r.lookup(r.k, tree); err != ok {
			return removeRecord
		}
		r.step("prepare the claim")
		if r.mkdir(r.k, claim) == stale {
			return r.fail()
		}
		x, err := r.lookup(r.k, claim)
		if err != ok {
			return r.fail()
		}
		f, err := r.lookup(marked(r))
		if err != ok {
			return r.fail()
		}
		r.step("claim the directory")
		if err := r.link(f, x, taken); err != ok && err != exist {
			return r.fail()
		}
		return archiveClaim
	}
	phases[archiveClaim] = func(r *run) phase {
		d := directory.of(archiveDir)
		r.step("rename the claim into place")
		switch r.rename(r.k, claim, claims, d) {
		case ok:
			return archiveDirectory
		case stale:
			return r.fail()
		}
		if x, n, err := readClaim(r, claims, d); x != gone && err == ok {
			if n == r.t {
				return archiveDirectory
			}
			return r.fail() // the code tries other names that contain the nonce
		}
		return r.fail()
	}
}

func init() {
	phases[archiveDirectory] = func(r *run) phase {
		d := directory.of(archiveDir)
		r.step("make the archived name")
		if r.mkdir(root, d) != ok {
			i, err := r.lookup(root, d)
			if err != ok {
				return r.fail()
			}
			if !ours(r, i, claims, d) {
				return r.fail()
			}
		}
		return archiveRename
	}
	phases[archiveRename] = func(r *run) phase {
		r.step("rename the directory to its archived name")
		switch r.rename(r.k, tree, root, directory.of(archiveDir)) {
		case ok:
			return removeRecord
		case noent:
			if r.alive(r.k) {
				return removeRecord
			}
		}
		return r.fail()
	}
}
