// SPDX-License-Identifier: Apache-2.0

package model

// Actions of others than the driver.

func init() {
	// A pod writes into an existing volume.
	phases[pod] = func(r *run) phase {
		r.plain(func() {
			n := r.task.n
			if d := r.s.dir(r.w0, n); r.s.live(r.w0, n) && d != gone && r.w0.empty(d) {
				r.w0.nodes[r.w0.add(d, data, false)].val = n
				r.w0.wrote |= 1 << n
			}
		})
		return r.ok()
	}
	// A user makes the directory of a volume that does not exist yet, or not any more, and puts a file
	// into it.
	phases[intrude] = func(r *run) phase {
		r.plain(func() {
			for n, v := range r.s.each() {
				if v.dir == r.vol(r.task.n).dir && r.s.live(r.w0, n) {
					return
				}
			}
			d := r.w0.get(root, directory.of(r.vol(r.task.n).dir))
			if d == gone {
				d = r.w0.add(root, directory.of(r.vol(r.task.n).dir), true)
			}
			if r.w0.empty(d) {
				r.w0.nodes[r.w0.add(d, data, false)].val = stranger
				r.w0.wrote |= 1 << stranger
			}
		})
		return r.ok()
	}
	// An administrator gives a directory the project of its parent.
	phases[unfix] = func(r *run) phase {
		r.plain(func() {
			if d := r.w0.home[r.task.n]; d != gone {
				r.w0.nodes[d].fixed = false
			}
		})
		return r.ok()
	}
}

// stranger is the owner of files that belong to no volume.
const stranger = 15
