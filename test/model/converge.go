// SPDX-License-Identifier: Apache-2.0

package model

import "fmt"

// converges stops all processes forever, and lets one process alone remove everything: it deletes every
// volume, undoes unfinished creations, tidies, and purges. It returns what must not be left, and counts
// what may be.
func converges(s *scenario, w *world, seen map[uint64]bool, rep *report) string {
	if s.endless {
		return ""
	}
	c := world{files: w.files}
	c.settle()
	h := c.hash()
	if seen[h] {
		return ""
	}
	seen[h] = true
	for was := uint64(0); was != c.hash(); { // until nothing changes any more
		was = c.hash()
		clearAll(s, &c)
	}
	for _, e := range c.entries[:c.n] {
		if e.dir >= firstFree || e.ino < firstFree {
			continue
		}
		what := remains(s, &c, e)
		if what == "" {
			return "when all is deleted and purged there still is " + c.path(e.dir, e.name) + "; " + c.dump()
		}
		if what != expected {
			rep.strays[what]++
		}
	}
	for n, v := range s.each() {
		again := c
		if v.from != 0 || v.copyOf != 0 || v.shallow != 0 || dirty(s, &again, n) {
			continue
		}
		if s.alone(&again, task{phase: create, n: n, takes: true}) != succeeded {
			return fmt.Sprintf("when all is deleted and purged volume %d cannot be made; %s", n, c.dump())
		}
	}
	return ""
}

const expected = "what is to stay"

// remains names what may be left when everything is deleted; "" for anything else.
func remains(s *scenario, c *world, e entry) string {
	switch {
	case e.dir == root && mayStay(s, c, e):
		return expected
	case e.dir == root && c.hollow(e.ino):
		return "an empty directory"
	case e.dir == trash && e.name.kind() == stray && (c.empty(e.ino) || c.get(e.ino, data) != gone && c.nodes[c.get(e.ino, data)].val == stranger):
		return "a stray"
	case e.dir == claims && c.empty(e.ino):
		return "an empty directory of claims"
	case e.dir == claims && ownerless(s, c, e.ino):
		return "a claim of a dead volume"
	}
	return ""
}

// dirty reports whether something is in the place of a volume's directory.
func dirty(s *scenario, c *world, n nonce) bool {
	v := s.volumes[n]
	return v.dir != 0 && (s.dir(c, n) != gone || v.in == 0 && c.get(root, directory.of(v.dir)) != gone)
}

// clearAll deletes, undoes, tidies and purges, once.
func clearAll(s *scenario, c *world) {
	for n := range s.each() {
		s.alone(c, task{phase: remove, n: n, takes: true})
	}
	for n := range s.each() {
		s.alone(c, task{phase: purge, n: n})
	}
	for n, v := range s.each() {
		if v.in != 0 {
			s.alone(c, task{phase: tidy, n: n})
		}
	}
	for i := 0; i < int(c.n); i++ { // entries that are swept by age, and purged at once
		e := c.entries[i]
		if e.dir == staging || e.dir == trash && e.name.kind() == leftover {
			c.removeAll(e.dir, e.name)
			i = -1
		}
	}
	c.settle()
}

func (f *files) removeAll(d ino, n name) {
	i := f.get(d, n)
	for f.isDir(i) && !f.empty(i) {
		f.removeAll(i, f.raw(i))
	}
	f.drop(f.find(d, n))
}

// raw returns some name in a directory.
func (f *files) raw(d ino) name {
	for _, e := range f.entries[:f.n] {
		if e.dir == d {
			return e.name
		}
	}
	return 0
}

// ownerless reports whether a directory of claims has only claims: their volumes are dead.
func ownerless(s *scenario, c *world, x ino) bool {
	for _, e := range c.entries[:c.n] {
		if e.dir == x && c.isDir(e.ino) && !ownerless(s, c, e.ino) || e.dir == x && c.isFile(e.ino) && c.nodes[e.ino].val == 0 {
			return false
		}
	}
	return true
}

// hollow reports whether a directory has only directories.
func (f *files) hollow(d ino) bool {
	if !f.isDir(d) {
		return false
	}
	for _, e := range f.entries[:f.n] {
		if e.dir == d && !f.hollow(e.ino) {
			return false
		}
	}
	return true
}

// mayStay reports whether a directory may be left when everything is deleted.
func mayStay(s *scenario, c *world, e entry) bool {
	for _, v := range s.each() {
		if (v.retain || v.foreign) && e.name == directory.of(v.dir) || v.archives && e.name == directory.of(archiveDir) {
			return true
		}
	}
	f := c.get(e.ino, data)
	return f != gone && c.nodes[f].val == stranger
}
