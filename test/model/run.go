// SPDX-License-Identifier: Apache-2.0

package model

// A run carries a process to its next call, through it, and up to the call after that.
type run struct {
	s    *scenario
	w0   *world
	id   int
	task task
	plan plan
	registers
	replayed uint8
	executed bool
	op       op
	res      result
	doing    string // what the code calls the next change
	did      string // the same, of op
	end      outcome
}

type parked struct{}

// step carries out the next call of process id in w, and returns it.
func (s *scenario) step(w *world, id int) (op, result, string) {
	p := &w.procs[id]
	if !p.started {
		p.started, p.phase = true, s.tasks[id].phase
		p.up, p.cu = root, claims
	}
	r := &run{s: s, w0: w, id: id, task: s.tasks[id], plan: s.plan, registers: p.registers}
	for p.end == running && !r.phase(p) {
	}
	return r.op, r.res, r.did
}

// phase runs a phase until it parks (true) or is over.
func (r *run) phase(p *proc) (waits bool) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case parked:
			waits = true
		default:
			panic(e)
		}
	}()
	r.replayed = 0
	r.registers = p.registers
	r.doing = ""
	next := phases[p.phase](r)
	// Handles may have gone since the phase began; its registers are as fresh as what it was told.
	p.registers, p.phase, p.end = r.registers, next, r.end
	for _, h := range p.handles() {
		if !r.w0.nodes[*h].used {
			*h = gone
		}
	}
	p.n, p.hist = 0, [maxHist]result{}
	return r.end != running
}

func (r *run) call(o op) result {
	p := &r.w0.procs[r.id]
	if r.replayed < p.n {
		r.replayed++
		return p.hist[r.replayed-1]
	}
	if r.executed {
		panic(parked{})
	}
	r.executed = true
	r.op, r.did = o, r.doing
	res, died := r.w0.do(o)
	r.w0.bury(died)
	if died != gone {
		r.drop(died)
	}
	r.res = res
	p.hist[p.n] = res
	p.n++
	r.replayed++
	return res
}

// drop lets this process know, too, that a handle of its registers is gone.
func (r *run) drop(died ino) {
	for _, h := range r.handles() {
		if *h == died {
			*h = gone
		}
	}
}

// step says what pkg/share calls the change that comes next: see Options.Step there.
func (r *run) step(what string) { r.doing = what }

func (r *run) lookup(d ino, n name) (ino, errno) {
	x := r.call(op{what: opLookup, d1: d, n1: n})
	return x.ino, x.err
}

func (r *run) read(d ino, n name) (nonce, errno) {
	x := r.call(op{what: opRead, d1: d, n1: n})
	return x.val, x.err
}

func (r *run) unused(d, x ino) errno        { return r.call(op{what: opUnused, d1: d, d2: x}).err }
func (r *run) alive(d ino) bool             { return r.call(op{what: opAlive, d1: d}).err == ok }
func (r *run) mkdir(d ino, n name) errno    { return r.call(op{what: opMkdir, d1: d, n1: n}).err }
func (r *run) unlink(d ino, n name) errno   { return r.call(op{what: opUnlink, d1: d, n1: n}).err }
func (r *run) rmdir(d ino, n name) errno    { return r.call(op{what: opRmdir, d1: d, n1: n}).err }
func (r *run) write(f ino, val nonce) errno { return r.call(op{what: opWrite, d1: f, val: val}).err }

func (r *run) list(d ino) name { return r.call(op{what: opList, d1: d}).name }

// chown is refused by nobody: it goes by the handle.
func (r *run) chown(d ino) { r.call(op{what: opChown, d1: d, val: r.task.n}) }

func (r *run) create(d ino, n name) (ino, errno) {
	x := r.call(op{what: opCreate, d1: d, n1: n})
	return x.ino, x.err
}

func (r *run) link(f, d ino, n name) errno {
	return r.call(op{what: opLink, d1: d, n1: n, d2: f}).err
}

func (r *run) rename(d1 ino, n1 name, d2 ino, n2 name) errno {
	return r.call(op{what: opRename, d1: d1, n1: n1, d2: d2, n2: n2}).err
}

// plain is a step that is no call of ours: what a pod does.
func (r *run) plain(f func()) {
	p := &r.w0.procs[r.id]
	if r.replayed < p.n {
		r.replayed++
		return
	}
	if r.executed {
		panic(parked{})
	}
	r.executed = true
	r.op, r.did = op{what: opPlain}, r.doing
	f()
	p.n++
	r.replayed++
}

// attempt is a number that no other attempt of anybody has.
func (r *run) attempt() nonce { return nonce(r.id*4+int(r.tries)) & 15 }

// sub goes on with a part, and comes back to then.
func (r *run) sub(part, then phase) phase {
	if r.depth == maxStack {
		panic("parts within parts")
	}
	r.stack[r.depth] = then
	r.depth++
	return part
}

func (r *run) back() phase {
	r.depth--
	next := r.stack[r.depth]
	r.stack[r.depth] = 0
	return next
}

// again counts how often something was tried. It says when that is enough.
func (r *run) again() bool {
	r.tries++
	return r.tries > maxTries
}

const maxTries = 3

// unique returns a name in the trash that nothing else ever has.
func (r *run) unique(kind name) name {
	for i := nonce(1); i < 15; i++ {
		if r.w0.get(trash, kind.of(i)) == gone {
			return kind.of(i)
		}
	}
	return kind
}

func (r *run) stop(end outcome) phase {
	r.end = end
	return stopped
}

func (r *run) ok() phase   { return r.stop(succeeded) }
func (r *run) fail() phase { return r.stop(failed) }

func (r *run) vol(n nonce) volume { return r.s.vol(n) }
