// SPDX-License-Identifier: Apache-2.0

package model

import "slices"

// live reports whether a volume existed at some time.
func live(n nonce) func(*world) bool {
	return func(w *world) bool {
		return w.begun>>n&1 == 1
	}
}

type vols []volume

// scenarios returns all scenarios. Those with the same first letter come from one function, which is named
// after their subject.
func scenarios() []scenario {
	return slices.Concat(deletions(), successors(), creations(), restores(), updates(), copies(), retained(), nested(), projects())
}

func deletions() []scenario {
	one := vols{1: {key: 1, dir: 1}, 2: {key: 2, dir: 1}}
	return []scenario{
		{name: "a1", volumes: one, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}}},
		{name: "a2", budget: 1, volumes: one, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}, {phase: pod, n: 2, when: live(2)}}},
		{name: "a3", volumes: one, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}, {phase: purge, n: 1}}},
		{name: "a4", volumes: one, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: intrude, n: 1}}},
		{name: "a5", volumes: one, made: []nonce{1}, litter: littered,
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}}},
		{name: "a6", volumes: vols{1: {key: 1, dir: 1, blank: true}}, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: intrude, n: 1, when: inTrash}, {phase: remove, n: 1, when: intruded}}},
		{name: "ap", budget: 1, volumes: one, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: purge, n: 1}, {phase: create, n: 2}, {phase: pod, n: 2, when: live(2)}}},
	}
}

func successors() []scenario {
	same := vols{1: {key: 1, dir: 1}, 2: {key: 1, dir: 1}, 3: {key: 2, dir: 1}, 4: {key: 1, dir: 1}}
	return []scenario{
		{name: "b", budget: 1, volumes: same, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}, {phase: pod, n: 2, when: live(2)}}},
		{name: "b1", volumes: same, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}}},
		{name: "b2", volumes: same, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}, {phase: create, n: 4, takes: true}}},
	}
}

func creations() []scenario {
	same := vols{1: {key: 1, dir: 1}, 2: {key: 1, dir: 1}, 3: {key: 2, dir: 1}, 4: {key: 1, dir: 1}}
	owned := vols{1: {key: 1, dir: 1, owned: true}, 2: {key: 1, dir: 1}}
	foreign := vols{1: {key: 1, dir: 1, foreign: true}}
	return []scenario{
		{name: "c1", budget: 1, volumes: same,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 2, takes: true}}},
		{name: "c2", volumes: same,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 2, takes: true}, {phase: create, n: 3, takes: true}}},
		{name: "c3", volumes: same,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 2, takes: true}, {phase: remove, n: 2}, {phase: create, n: 3, takes: true}, {phase: pod, n: 3, when: live(3)}}},
		{name: "c4", volumes: same,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 2, takes: true}, {phase: remove, n: 2}, {phase: create, n: 4, takes: true}}},
		{name: "c5", volumes: owned,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 2, takes: true}}},
		{name: "c6", volumes: foreign, setup: occupied,
			tasks: []task{{phase: create, n: 1}, {phase: remove, n: 1}, {phase: giveUp, n: 1}}},
		{name: "c7", volumes: vols{1: {key: 1, dir: 1, owned: true}, 2: {key: 2, dir: 1}},
			tasks: []task{{phase: create, n: 1}, {phase: giveUp, n: 1}, {phase: create, n: 2}}},
	}
}

func restores() []scenario {
	restored := vols{1: {key: 1, dir: 1}, 2: {key: 2, dir: 1, from: 1}, 3: {key: 3, dir: 1}}
	return []scenario{
		{name: "d1", budget: 1, volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: purge, n: 1}, {phase: remove, n: 2}}},
		{name: "d2", budget: 1, volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: purge, n: 1}}},
		{name: "d3", volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: remove, n: 2}, {phase: create, n: 3, takes: true}}},
		{name: "d4", budget: 1, volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 2}, {phase: remove, n: 2}}},
		{name: "d5", volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: giveUp, n: 2}, {phase: purge, n: 1}}},
		{name: "d6", volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: giveUp, n: 2}, {phase: intrude, n: 2}}},
		{name: "d7", budget: 1, volumes: restored, deleted: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}}},
	}
}

func updates() []scenario {
	same := vols{1: {key: 1, dir: 1}, 2: {key: 1, dir: 1}, 3: {key: 2, dir: 1}, 4: {key: 1, dir: 1}}
	return []scenario{
		{name: "e1", budget: 1, volumes: same, made: []nonce{1},
			tasks: []task{{phase: update, n: 1, takes: true}, {phase: remove, n: 1, takes: true}, {phase: create, n: 2}}},
		{name: "e2", volumes: same, made: []nonce{1},
			tasks: []task{{phase: update, n: 1, takes: true}, {phase: update, n: 1, takes: true}, {phase: remove, n: 1, takes: true}, {phase: remove, n: 1, takes: true}}},
	}
}

func copies() []scenario {
	copied := vols{1: {key: 1, dir: 1}, 2: {key: 2, dir: 2, copyOf: 1}, 3: {key: 3, dir: 1}, 4: {key: 4, dir: 2}}
	shallow := vols{1: {key: 1}, 2: {key: 2, shallow: 1}}
	return []scenario{
		{name: "f1", budget: 1, volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 1, takes: true}, {phase: create, n: 3}}},
		{name: "f2", budget: 1, volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: remove, n: 1, takes: true}}},
		{name: "f3", volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2}, {phase: remove, n: 1, takes: true}, {phase: create, n: 4, takes: true}}},
		{name: "f4", budget: 2, volumes: shallow, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 1, takes: true}, {phase: remove, n: 1, takes: true}}},
		{name: "f5", budget: 1, volumes: shallow, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 1, takes: true}, {phase: remove, n: 2, takes: true}, {phase: giveUp, n: 2}}},
		{name: "f6", budget: 1, volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 1, takes: true}, {phase: remove, n: 1, takes: true}}},
		{name: "f7", volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: giveUp, n: 2, when: placing}, {phase: intrude, n: 2}, {phase: giveUp, n: 2, when: intruded}}},
		{name: "f8", volumes: copied, made: []nonce{1},
			tasks: []task{{phase: create, n: 2}, {phase: remove, n: 1, takes: true}, {phase: purge, n: 1, when: inTrash}}},
	}
}

func retained() []scenario {
	retained := vols{1: {key: 1, dir: 1, retain: true}, 2: {key: 2, dir: 1}, 3: {key: 1, dir: 1}}
	archive := vols{1: {key: 1, dir: 1, archives: true}, 2: {key: 2, dir: 1}, 3: {key: 3, dir: archiveDir}}
	return []scenario{
		{name: "g1", budget: 1, volumes: retained, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}}},
		{name: "g2", budget: 1, volumes: archive, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: create, n: 2}, {phase: create, n: 3}}},
		{name: "g3", volumes: archive, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: create, n: 2}, {phase: create, n: 3}}},
	}
}

func nested() []scenario {
	nested := vols{1: {key: 1, dir: 2, in: 1}, 2: {key: 2, dir: 2, in: 1}, 3: {key: 3, dir: 1}}
	return []scenario{
		{name: "h1", budget: 1, volumes: nested,
			tasks: []task{{phase: create, n: 1}, {phase: tidy, n: 1}, {phase: tidy, n: 1}}},
		{name: "h2", volumes: nested, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: tidy, n: 1}, {phase: tidy, n: 1}, {phase: create, n: 2}}},
		{name: "h3", volumes: nested, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: tidy, n: 1}, {phase: create, n: 2}, {phase: create, n: 3}}},
		{name: "h4", budget: 1, volumes: nested, made: []nonce{3},
			tasks: []task{{phase: remove, n: 3}, {phase: create, n: 1}, {phase: tidy, n: 1}}},
		{name: "h5", budget: 1, volumes: nested, made: []nonce{3},
			tasks: []task{{phase: remove, n: 3}, {phase: remove, n: 3}, {phase: create, n: 1}, {phase: tidy, n: 1}}},
		{name: "h6", volumes: nested, made: []nonce{3},
			tasks: []task{{phase: remove, n: 3}, {phase: create, n: 1}, {phase: tidy, n: 1}}},
		{name: "i1", budget: 1, volumes: nested,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 3, takes: true}}},
		{name: "i2", volumes: nested,
			tasks: []task{{phase: create, n: 1}, {phase: create, n: 3, takes: true}, {phase: giveUp, n: 1}, {phase: tidy, n: 1}}},
	}
}

func projects() []scenario {
	fixed := vols{1: {key: 1, dir: 1, fixed: true}, 2: {key: 2, dir: 1}, 3: {key: 3, dir: 1, from: 1}}
	return []scenario{
		{name: "k1", volumes: fixed, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: purge, n: 1, when: dueInPlace}, {phase: purge, n: 1, when: dueInPlace}, {phase: create, n: 2}, {phase: pod, n: 2, when: live(2)}}},
		{name: "k2", budget: 1, volumes: fixed, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: purge, n: 1, when: dueInPlace}, {phase: create, n: 2}, {phase: pod, n: 2, when: live(2)}}},
		{name: "k3", volumes: fixed, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: purge, n: 1, when: dueInPlace}, {phase: unfix, n: 1, when: dueInPlace}, {phase: remove, n: 1}, {phase: create, n: 3, when: inTrash}}},
		{name: "k4", volumes: fixed, made: []nonce{1},
			tasks: []task{{phase: remove, n: 1}, {phase: remove, n: 1}, {phase: purge, n: 1, when: dueInPlace}, {phase: unfix, n: 1, when: dueInPlace}, {phase: create, n: 2}}},
	}
}

// occupied puts a directory with content in the place of a volume's directory.
func occupied(w *world) {
	d := w.add(root, directory.of(1), true)
	w.nodes[w.add(d, data, false)].val = stranger
	w.wrote |= 1 << stranger
}

// littered leaves an empty directory in the entry of volume 1, as a late mkdir does.
func littered(w *world) { w.add(w.get(volumes, key.of(1)), claim, true) }

// inTrash reports whether there is a tree of volume 1, or a leftover.
func inTrash(w *world) bool {
	return w.get(trash, trashed.of(1)) != gone || w.get(trash, leftover.of(1)) != gone
}

// dueInPlace reports whether volume 1 is in the trash and its tree is not.
func dueInPlace(w *world) bool { return w.get(trash, trashJSON.of(1)) != gone && !inTrash(w) }

// intruded reports whether a user has made something.
func intruded(w *world) bool { return w.wrote>>stranger&1 == 1 }

// placing reports whether a tree is being moved to its place.
func placing(w *world) bool {
	for _, e := range w.entries[:w.n] {
		if e.name == placingFile {
			return true
		}
	}
	return false
}
