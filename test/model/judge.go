// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"iter"
	"slices"
)

// each returns the volumes that a scenario has.
func (s *scenario) each() iter.Seq2[nonce, volume] {
	return func(yield func(nonce, volume) bool) {
		for n, v := range s.volumes {
			if v.key != 0 && !yield(nonce(n), v) {
				return
			}
		}
	}
}

func (s *scenario) vol(n nonce) volume {
	if int(n) < len(s.volumes) {
		return s.volumes[n]
	}
	return volume{}
}

// keyDir returns the directory of a committed or dying volume's key.
func (s *scenario) keyDir(w *world, n nonce) ino { return w.get(volumes, key.of(s.volumes[n].key)) }

// live reports whether the volume exists: its record does, without a mark.
func (s *scenario) live(w *world, n nonce) bool {
	k := s.keyDir(w, n)
	r := w.get(k, recordFile)
	return w.isFile(r) && w.nodes[r].val == n && !w.isFile(w.get(k, deletion))
}

// place returns the parent of a volume's directory, on the share and under claims, and its name.
func (s *scenario) place(w *world, n nonce) (up, claimsUp ino, d name) {
	v := s.volumes[n]
	up, claimsUp = root, claims
	if v.in != 0 {
		p := directory.of(v.in)
		up, claimsUp = w.get(root, p), w.get(w.get(claims, p), taken)
	}
	return up, claimsUp, directory.of(v.dir)
}

func (s *scenario) dir(w *world, n nonce) ino {
	up, _, d := s.place(w, n)
	return w.get(up, d)
}

// note records the history that the invariants need.
func (s *scenario) note(w *world) {
	for n := range s.each() {
		if s.live(w, n) && w.begun>>n&1 == 0 {
			w.begun |= 1 << n
			if s.volumes[n].dir != 0 {
				w.home[n] = s.dir(w, n)
			}
		}
	}
	for i := range s.tasks {
		p := &w.procs[i]
		p.truth = p.started && (p.truth || s.truth(w, i))
	}
}

// truth reports whether the OK of process i would be true now.
func (s *scenario) truth(w *world, i int) bool {
	t := s.tasks[i]
	v := s.volumes[t.n]
	switch t.phase {
	case create, update:
		for n, o := range s.each() {
			if o.key == v.key && s.live(w, n) {
				return true
			}
		}
		return false
	case remove:
		k := w.get(volumes, key.of(v.key))
		for _, f := range []name{recordFile, makingFile, placingFile, deletion, holds} {
			i := w.get(k, f)
			if f == holds {
				i = w.get(w.get(k, deletion), recordFile)
			}
			if w.isFile(i) && !promised(s, w, w.nodes[i].val) {
				return false
			}
		}
		for n, o := range s.each() {
			if o.key == v.key && o.dir != 0 && !o.retain && !promised(s, w, n) && w.begun>>n&1 == 1 && w.isDir(s.dir(w, n)) && s.dir(w, n) == w.home[n] {
				return false
			}
		}
		return true
	}
	return true
}

// promised reports whether a directory of n is kept in its place until it is purged.
func promised(s *scenario, w *world, n nonce) bool {
	return s.vol(n).fixed && w.get(trash, trashJSON.of(n)) != gone
}

// judge returns the violation of a step, or "".
func (s *scenario) judge(before, after *world, who int, o op) string {
	for i := range s.tasks {
		if before.procs[i].end == running && after.procs[i].end == succeeded && !after.procs[i].truth {
			return fmt.Sprintf("process %d says OK, and it never was so", i)
		}
	}
	t, first := s.tasks[who], before.procs[who].first
	for n, v := range s.each() {
		if s.live(before, n) && !s.live(after, n) && (t.phase != remove || s.volumes[t.n].key != v.key || first != 0 && first != n) {
			return fmt.Sprintf("volume %d is gone by a step of process %d", n, who)
		}
		if before.begun>>n&1 == 1 && !s.live(before, n) && s.live(after, n) {
			return fmt.Sprintf("volume %d lives again", n)
		}
		if s.live(after, n) {
			if bad := lacks(s, after, n); bad != "" {
				return fmt.Sprintf("volume %d, which is live: %s", n, bad)
			}
		}
	}
	if o.what == opChown {
		for n := range s.each() {
			if n != o.val && s.live(before, n) && o.d1 != gone && before.home[n] == o.d1 {
				return fmt.Sprintf("the directory of volume %d gets another owner", n)
			}
		}
	}
	for n := range s.each() {
		if after.wrote>>n&1 == 1 && after.purged>>n&1 == 0 {
			if bad := lostData(s, before, after, n); bad != "" {
				return fmt.Sprintf("the data of volume %d %s", n, bad)
			}
		}
	}
	if after.wrote>>stranger&1 == 1 && !untouched(after) {
		return "what a stranger has is taken for a volume's: " + after.dump()
	}
	return ""
}

// untouched reports whether a user's files in a directory are in their place, or where an administrator
// searches for them, or on their way there.
func untouched(w *world) bool {
	for _, e := range w.entries[:w.n] {
		if e.name == data && w.nodes[e.ino].val == stranger {
			up, in := w.where(e.dir)
			return up == root || in.kind() == tree || in.kind() == deadDir || in.kind() == stray
		}
	}
	return false
}

// lacks returns what a live volume lacks.
func lacks(s *scenario, w *world, n nonce) string {
	v := s.volumes[n]
	if v.shallow != 0 && !s.live(w, v.shallow) {
		return "its snapshot is gone"
	}
	if v.dir == 0 {
		return ""
	}
	_, claimsUp, d := s.place(w, n)
	dir := s.dir(w, n)
	switch {
	case !w.isDir(dir):
		return "its directory is not in its place"
	case w.home[n] != dir:
		return "another directory is in its place"
	}
	c := w.get(w.get(claimsUp, d), taken)
	if s.plan.claimFile {
		c = w.get(claimsUp, d)
	}
	if !w.isFile(c) || w.nodes[c].val != n {
		return "its claim is not there"
	}
	f := w.get(dir, data)
	has := nonce(0)
	if f != gone {
		has = w.nodes[f].val
	}
	want := nonce(0)
	switch {
	case w.wrote>>n&1 == 1:
		want = n
	case v.from != 0:
		want = v.from
	case v.copyOf != 0:
		want = v.copyOf | copied
	}
	if has != want {
		return fmt.Sprintf("it has the data of %d, and not of %d", has, want)
	}
	for _, e := range w.entries[:w.n] {
		if e.dir == dir && e.name.kind() == directory && !w.hollow(e.ino) { // an empty one is that of a late mkdir
			return "another's directory lies in it"
		}
	}
	for m, o := range s.each() {
		if m != n && s.live(w, m) && v.in != 0 && o.in == 0 && o.dir == v.in {
			return fmt.Sprintf("it lies within volume %d", m)
		}
	}
	return ""
}

// lostData describes data of a volume that no volume or trash entry refers to.
func lostData(s *scenario, before, w *world, n nonce) string {
	for _, e := range w.entries[:w.n] {
		if e.name == data && w.nodes[e.ino].val == n && answered(s, w, e.dir, n) {
			return ""
		}
	}
	for _, e := range before.entries[:before.n] {
		if e.name == data && before.nodes[e.ino].val == n {
			if up, in := before.where(e.dir); up == trash && in.kind() == purging || e.dir == w.home[n] && promised(s, before, n) {
				w.purged |= 1 << n
				return ""
			}
		}
	}
	return "is lost, or lies where nobody looks: " + w.dump()
}

// answered reports whether a volume or an entry refers to data of volume n in a directory.
func answered(s *scenario, w *world, d ino, n nonce) bool {
	up, in := w.where(d)
	switch in.kind() {
	case directory:
		return kept(s, w, n)
	case trashed, purging, stray:
		return up == trash
	case tree, unstaged:
		if _, of := w.where(up); of == stage {
			up, _ = w.where(up)
		}
		top, _ := w.where(up)
		return top == volumes || top == staging
	}
	return false
}

// kept reports whether the data of n in the place of volumes belongs to an entry of n, or of the volume to
// which it is restored, or was retained.
func kept(s *scenario, w *world, n nonce) bool {
	if s.volumes[n].retain || s.volumes[n].archives {
		return true
	}
	for _, e := range w.entries[:w.n] {
		if slices.Contains(records, e.name) && w.isFile(e.ino) {
			up, in := w.where(e.dir)
			if in == deletion {
				up, _ = w.where(up)
			}
			if v := w.nodes[e.ino].val; (up == volumes || up == staging) && (v == n || s.vol(v).from == n) {
				return true
			}
		}
	}
	return false
}
