// SPDX-License-Identifier: Apache-2.0

package model

import (
	"cmp"
	"hash/maphash"
	"slices"
)

const (
	maxProcs  = 5
	maxNonces = 6
	maxDups   = 2
	maxHist   = 12
	maxStack  = 5
)

// registers are the state of a process.
type registers struct {
	t         nonce // the volume that it works on
	first     nonce // the volume to delete when it began
	has       nonce // the volume of the record that it has read
	source    nonce // the volume that it holds
	at        nonce // the directory whose claim it releases; 0: t's
	parent    nonce // the parent that it tidies
	litter    name
	k, saved  ino // the entry that it works on
	own, f, w ino // the entry that it makes, the record in it, the stage
	x         ino // a claim's directory
	up, cu    ino // the parents of t's directory and of its claim
	src       ino // the directory of holds
	state     state
	tries     uint8
	dead      bool // of t, or being deleted
	leaving   bool
	sealed    bool // the record of the entry is, or was, among the holds
	placing   bool // it has begun to place a tree
	placed    bool // a tree was moved to its place
	committed bool
	made      bool // it has made the directory
	vanished  bool // nothing of t is in the trash
	done      bool
	depth     uint8
	stack     [maxStack]phase // the next phases after a part that several protocols share
}

func (r *registers) handles() []*ino {
	return []*ino{&r.k, &r.saved, &r.own, &r.f, &r.w, &r.x, &r.up, &r.cu, &r.src}
}

type outcome uint8

const (
	running outcome = iota
	succeeded
	failed
)

// A proc is a process. The phase, the registers and the replies in this phase determine its next call.
type proc struct {
	started bool
	truth   bool // its OK was true at some moment since it began
	phase   phase
	end     outcome
	registers
	hist [maxHist]result
	n    uint8
}

// A dup is a call that is still in the network, and that the server will execute again.
type dup struct {
	op
	by uint8
}

// A world is the complete state at a moment.
type world struct {
	files
	procs  [maxProcs]proc
	dups   [maxDups]dup
	nd     uint8
	budget uint8 // number of calls that may still be executed a second time
	last   uint8 // the process of the last call, plus 1; 0: not needed
	cuts   uint8 // how often a process was interrupted
	// Only for the invariants:
	home   [maxNonces]ino // the directory that a volume had when it was committed
	wrote  uint16         // volumes whose pod has written
	purged uint16         // volumes whose data was purged
	begun  uint16         // volumes that were committed at some time
}

// each calls f with every handle of a process.
func (w *world) each(f func(*ino)) {
	for i := range w.procs {
		p := &w.procs[i]
		for _, h := range p.handles() {
			f(h)
		}
		for j := range p.hist[:p.n] {
			f(&p.hist[j].ino)
		}
	}
	for i := range w.dups[:w.nd] {
		f(&w.dups[i].d1)
		f(&w.dups[i].d2)
	}
	for i := range w.home {
		f(&w.home[i])
	}
}

func (w *world) bury(died ino) {
	if died != gone {
		w.each(func(h *ino) {
			if *h == died {
				*h = gone
			}
		})
	}
}

// settle gives the inodes numbers that do not depend on the history, so that equal worlds are equal in
// memory.
func (w *world) settle() {
	// Drop what has no effect any more.
	w.bury(w.forget())
	slices.SortFunc(w.entries[:w.n], func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name))
	})
	var to [maxNodes]ino
	queue := make([]ino, 0, maxNodes)
	next := root
	visit := func(i ino) {
		if to[i] == gone {
			to[i] = next
			next++
			queue = append(queue, i)
		}
	}
	for i := root; i < firstFree; i++ {
		visit(i)
	}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		if !w.nodes[d].dir {
			continue
		}
		for _, e := range w.entries[:w.n] {
			if e.dir == d {
				visit(e.ino)
			}
		}
	}
	var nodes [maxNodes]node
	for i, n := range w.nodes {
		if n.used {
			if to[i] == gone {
				panic("an inode that is nowhere")
			}
			nodes[to[i]] = n
		}
	}
	w.nodes = nodes
	for i := range w.entries[:w.n] {
		e := &w.entries[i]
		e.dir, e.ino = to[e.dir], to[e.ino]
	}
	slices.SortFunc(w.entries[:w.n], func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.name, b.name))
	})
	w.each(func(h *ino) { *h = to[*h] })
	w.rank()
}

// forget drops copies of calls whose directory is gone, and the registers of ended processes.
func (w *world) forget() ino {
	kept := w.dups[:0]
	for _, d := range w.dups[:w.nd] {
		if d.d1 == gone || (d.what == opRename || d.what == opLink) && d.d2 == gone {
			continue
		}
		kept = append(kept, d)
	}
	n := uint8(len(kept))
	for i := n; i < w.nd; i++ {
		w.dups[i] = dup{}
	}
	w.nd = n
	if n == 2 && compareDups(w.dups[0], w.dups[1]) > 0 {
		w.dups[0], w.dups[1] = w.dups[1], w.dups[0]
	}
	for i := range w.procs {
		if p := &w.procs[i]; p.end != running {
			*p = proc{started: true, end: p.end}
		}
	}
	return gone
}

func compareDups(a, b dup) int {
	return cmp.Or(cmp.Compare(a.what, b.what), cmp.Compare(a.d1, b.d1), cmp.Compare(a.n1, b.n1), cmp.Compare(a.d2, b.d2), cmp.Compare(a.n2, b.n2))
}

// rank keeps only the times that processes read: of directories that users see, and of those of volumes'
// claims.
func (w *world) rank() {
	var asked [maxNodes]bool
	for _, e := range w.entries[:w.n] { // a directory comes before its entries
		switch {
		case e.name == taken:
			asked[e.dir] = !w.nodes[e.ino].dir
		case e.name == emptyDir, e.name.kind() == directory && (e.dir == root || asked[e.dir] && e.dir != claims):
			asked[e.ino] = true
		}
	}
	var order [256]uint8
	for i := range w.nodes {
		if n := &w.nodes[i]; asked[i] {
			order[n.mtime] = 1
		} else {
			n.mtime = 0
		}
	}
	w.now = 0
	for t := range order {
		w.now += order[t]
		order[t] = w.now
	}
	for i := range w.nodes {
		if n := &w.nodes[i]; asked[i] {
			n.mtime = order[n.mtime]
		}
	}
}

var seed = maphash.MakeSeed()

// hash returns the hash of a settled world.
func (w *world) hash() uint64 {
	b := make([]byte, 0, 512)
	for _, e := range w.entries[:w.n] {
		n := w.nodes[e.ino]
		b = append(b, byte(e.dir), byte(e.name), byte(e.name>>8), byte(e.ino), bit(n.dir)|bit(n.fixed)<<1, byte(n.val), n.mtime)
	}
	b = append(b, w.n, w.nd, w.budget, w.last, w.cuts, byte(w.wrote), byte(w.purged), byte(w.begun))
	for i := range w.home {
		b = append(b, byte(w.home[i]))
	}
	for _, d := range w.dups[:w.nd] {
		b = append(b, byte(d.what), byte(d.d1), byte(d.d2), byte(d.n1), byte(d.n1>>8), byte(d.n2), byte(d.n2>>8), byte(d.val), d.by)
	}
	for i := range w.procs {
		p := &w.procs[i]
		b = append(b, bit(p.started)|bit(p.truth)<<1|bit(p.dead)<<2|bit(p.leaving)<<3|bit(p.placing)<<4|bit(p.placed)<<5|bit(p.committed)<<6|bit(p.made)<<7,
			bit(p.done)|bit(p.vanished)<<1|bit(p.sealed)<<2|p.depth<<3, byte(p.phase), byte(p.end), byte(p.t), byte(p.first), byte(p.has), byte(p.source), byte(p.at), byte(p.parent),
			byte(p.litter), byte(p.litter>>8), byte(p.state), p.tries, p.n)
		for _, h := range [...]ino{p.k, p.saved, p.own, p.f, p.w, p.x, p.up, p.cu, p.src} {
			b = append(b, byte(h))
		}
		for _, at := range p.stack {
			b = append(b, byte(at))
		}
		for _, r := range p.hist[:p.n] {
			b = append(b, byte(r.err), byte(r.ino), byte(r.val), byte(r.name), byte(r.name>>8))
		}
	}
	return maphash.Bytes(seed, b)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
