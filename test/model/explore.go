// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// A volume is that of a nonce.
type volume struct {
	key      nonce
	dir      nonce // 0: none, for a snapshot, or a volume that is one
	in       nonce // the parent of its directory; 0: the root
	from     nonce // restored: the volume of the tree in the trash
	copyOf   nonce // copied: the source
	shallow  nonce // the snapshot that it is
	retain   bool
	archives bool
	owned    bool // its directory gets an owner
	foreign  bool // a user's directory is in its place
	blank    bool // no pod writes into it
	fixed    bool // its directory gets a project of its own
}

// A task is a request to a process.
type task struct {
	phase phase
	n     nonce // the volume that it makes, or deletes
	when  func(*world) bool
	takes bool // it takes over the unfinished volume of another process
}

// A scenario is the tasks of some processes at the same time.
type scenario struct {
	name    string
	plan    plan
	volumes []volume     // by nonce
	made    []nonce      // existing at the beginning, with data of a pod
	deleted []nonce      // in the trash at the beginning
	setup   func(*world) // before they are made
	litter  func(*world) // after
	tasks   []task
	budget  uint8 // number of calls that the server may execute a second time, late
	limit   int   // of states; 0: none
	cuts    uint8 // how often a process may be interrupted or stop forever; 0: any number
	strict  bool  // includes second calls that pkg/share does not survive
	inOrder bool  // each process begins after the one before it has
	endless bool  // do not check what is left when all processes stop forever
}

// A report is the result of an exploration.
type report struct {
	states    int
	ends      int // number of states that can be left when all processes stop forever
	violation string
	trail     []string
	strays    map[string]int // what is left to administrators, and at how many ends
	whole     bool           // everything was explored
}

// start returns the first world of a scenario.
func (s *scenario) start() world {
	var w world
	for i := root; i < firstFree; i++ {
		w.nodes[i] = node{used: true, dir: true}
	}
	if s.setup != nil {
		s.setup(&w)
	}
	for _, n := range append(append([]nonce{}, s.made...), s.deleted...) {
		s.alone(&w, task{phase: create, n: n})
		if !s.live(&w, n) {
			panic(fmt.Sprintf("%s: volume %d cannot be made", s.name, n))
		}
		if s.vol(n).dir != 0 && !s.vol(n).blank {
			s.alone(&w, task{phase: pod, n: n})
		}
		if s.vol(n).fixed {
			w.nodes[s.dir(&w, n)].fixed = true
		}
	}
	for _, n := range s.deleted {
		s.alone(&w, task{phase: remove, n: n})
	}
	if s.litter != nil {
		s.litter(&w)
	}
	w.budget = s.budget
	w.settle()
	return w
}

// alone runs one process to its end.
func (s *scenario) alone(w *world, t task) outcome {
	solo := *s
	solo.tasks, solo.cuts = []task{t}, 0
	w.procs = [maxProcs]proc{}
	w.budget, w.last, w.cuts = 0, 0, 0
	for range 200 {
		solo.step(w, 0)
		solo.note(w)
		if end := w.procs[0].end; end != running {
			w.procs = [maxProcs]proc{}
			w.settle()
			return end
		}
	}
	panic(fmt.Sprintf("%s: %s %d does not end: %s", s.name, tasks[t.phase], t.n, w.dump()))
}

var tasks = map[phase]string{create: "create", remove: "delete", giveUp: "undo", purge: "purge", update: "update", tidy: "tidy", pod: "pod", intrude: "stranger", unfix: "project of"}

// A next is a world after one step.
type next struct {
	world
	label string
	bad   string // what is wrong with the step
}

// A stepper calls f with every world that is one step from w.
type stepper struct {
	s      *scenario
	w      *world
	labels bool
	f      func(*next)
	x      next
}

func (s *scenario) successors(w *world, labels bool, f func(*next)) {
	st := &stepper{s: s, w: w, labels: labels, f: f}
	for id := range s.tasks {
		if s.private(w, id) && !s.over(w, id) { // it commutes with the steps of all others
			st.process(id)
			return
		}
	}
	for id := range s.tasks {
		p := &w.procs[id]
		if p.end == running && !s.over(w, id) && (p.started || s.begins(w, id)) {
			st.process(id)
		}
	}
	for i := range w.dups[:w.nd] {
		d := w.dups[i]
		st.x = next{world: *w}
		copy(st.x.dups[i:], st.x.dups[i+1:])
		st.x.nd--
		st.x.dups[st.x.nd] = dup{}
		r, died := st.x.do(d.op)
		st.x.bury(died)
		st.emit(int(d.by), did{d.op, r, "", again})
	}
}

// begins reports whether a process may begin.
func (s *scenario) begins(w *world, id int) bool {
	if s.inOrder && id > 0 && !w.procs[id-1].started {
		return false
	}
	return s.tasks[id].when == nil || s.tasks[id].when(w)
}

// private reports whether the next call of a process is about something that no other process uses: what
// it prepares in staging.
func (s *scenario) private(w *world, id int) bool {
	p := &w.procs[id]
	if !p.started || p.end != running || s.plan.inPlace {
		return false
	}
	return p.phase == createOpen || p.phase == createPrepare || p.phase == makeParent && p.n > 0
}

// did is what was done in a step.
type did struct {
	op   op
	res  result
	step string // its name in pkg/share
	how  string
}

// interrupts reports whether a call of this process interrupts another one.
func (w *world) interrupts(id int) bool {
	return w.last != 0 && int(w.last) != id+1 && w.procs[w.last-1].end == running
}

// over reports whether a call of a process would be one interruption too many.
func (s *scenario) over(w *world, id int) bool {
	return s.cuts > 0 && w.cuts >= s.cuts && w.interrupts(id)
}

// again is the late execution of a call.
const again = " (for the second time)"

func (st *stepper) emit(who int, d did) {
	s, x := st.s, &st.x
	if st.labels {
		t := s.tasks[who]
		x.label = fmt.Sprintf("%d %s %d: %s: %s: %s%s", who, tasks[t.phase], t.n, d.step, st.w.call(d.op), d.res.err, d.how)
	}
	s.note(&x.world)
	x.bad = s.judge(st.w, &x.world, who, d.op)
	if s.cuts > 0 && d.how != again {
		if st.w.interrupts(who) {
			x.cuts++
		}
		x.last = uint8(who + 1)
	}
	x.settle()
	st.f(x)
}

// process executes the next call of a process, in each possible way.
func (st *stepper) process(id int) {
	s, w, x := st.s, st.w, &st.x
	*x = next{world: *w}
	if !w.procs[id].started {
		x.procs[id].truth = s.truth(w, id)
	}
	o, r, step := s.step(&x.world, id)
	after := x.world
	st.emit(id, did{o, r, step, ""})
	if w.budget == 0 || !o.repeats() || !s.strict && o.excused() {
		return
	}
	// The network keeps a copy of the call.
	*x = next{world: after}
	x.budget--
	x.dups[x.nd] = dup{o, uint8(id)}
	x.nd++
	st.emit(id, did{o, r, step, " (and will be carried out again)"})
	// It is executed, and the reply is lost: the process will send it again.
	if r.err == ok {
		*x = next{world: *w}
		x.budget--
		_, died := x.do(o)
		x.bury(died)
		st.emit(id, did{o, r, step, " (and the answer is lost)"})
	}
}

func (w *world) call(o op) string {
	at := w.path(o.d1, o.n1)
	switch o.what {
	case opRename:
		return "rename " + at + " -> " + w.path(o.d2, o.n2)
	case opLink:
		d, n := w.where(o.d2)
		return "link " + w.path(d, n) + " -> " + at
	case opPlain:
		return "somebody writes"
	case opAlive, opWrite, opList, opChown, opUnused:
		d, n := w.where(o.d1)
		at = w.path(d, n)
	}
	return [...]string{"nothing", "lookup", "read", "is it unused", "list", "is it there", "mkdir", "create", "write", "chown", "", "", "unlink", "rmdir", ""}[o.what] + " " + at
}

// explore visits every reachable world, nearest first.
func (s *scenario) explore() report {
	rep := report{strays: map[string]int{}}
	first := s.start()
	from := map[uint64]uint64{first.hash(): 0}
	level := []world{first}
	ends := map[uint64]bool{}
	for len(level) > 0 {
		for i := range level {
			if bad := converges(s, &level[i], ends, &rep); bad != "" {
				rep.violation = bad
				rep.trail = s.trail(from, level[i].hash(), "")
				rep.states, rep.ends = len(from), len(ends)
				return rep
			}
		}
		var below []world
		for _, part := range s.below(level, from) {
			for i := range part {
				x := &part[i]
				_, seen := from[x.hash]
				if x.bad != "" {
					rep.violation = x.bad
					from[x.hash] = x.parent
					rep.trail = s.trail(from, x.hash, x.bad)
					rep.states, rep.ends = len(from), len(ends)
					return rep
				}
				if !seen {
					from[x.hash] = x.parent
					below = append(below, x.world)
				}
			}
		}
		rep.states, rep.ends = len(from), len(ends)
		if s.limit > 0 && len(from) > s.limit {
			return rep
		}
		level = below
	}
	rep.whole = true
	return rep
}

type found struct {
	world
	hash, parent uint64
	bad          string
}

// below returns the new worlds one step after a level, in parallel.
func (s *scenario) below(level []world, from map[uint64]uint64) [][]found {
	n := runtime.GOMAXPROCS(0)
	if len(level) < 100 {
		n = 1
	}
	parts := make([][]found, n)
	var wg sync.WaitGroup
	for p := range n {
		wg.Go(func() {
			own := map[uint64]bool{}
			for i := p; i < len(level); i += n {
				h := level[i].hash()
				s.successors(&level[i], false, func(x *next) {
					g := x.world.hash()
					if _, seen := from[g]; x.bad == "" && (seen || own[g]) {
						return
					}
					own[g] = true
					parts[p] = append(parts[p], found{x.world, g, h, x.bad})
				})
			}
		})
	}
	wg.Wait()
	return parts
}

// trail describes the steps to the world with hash last.
func (s *scenario) trail(from map[uint64]uint64, last uint64, bad string) []string {
	var hashes []uint64
	for h := last; h != 0; h = from[h] {
		hashes = append(hashes, h)
	}
	w := s.start()
	var lines []string
	for i := len(hashes) - 2; i >= 0; i-- {
		var to *world
		s.successors(&w, true, func(x *next) {
			if to == nil && x.hash() == hashes[i] && (i > 0 || x.bad == bad) {
				c := x.world
				to = &c
				lines = append(lines, x.label)
			}
		})
		if to == nil {
			return append(lines, "(the trail is lost)")
		}
		w = *to
	}
	return append(lines, w.dump())
}

func (w *world) dump() string {
	var all []string
	for _, e := range w.entries[:w.n] {
		line := w.path(e.dir, e.name)
		if w.isDir(e.ino) {
			line += "/"
		} else {
			line += fmt.Sprintf("=%d", w.nodes[e.ino].val)
		}
		all = append(all, line)
	}
	return "there is: " + strings.Join(all, " ")
}
