// SPDX-License-Identifier: Apache-2.0

package model

// A run takes a process to its next call, through it, and up to the call after that.
type run struct {
	calls
	s    *scenario
	task task
	plan plan
	end  outcome
}

type parked struct{}

// step executes the next call of process id in w, and returns it.
func (s *scenario) step(w *world, id int) (op, result, string) {
	p := &w.procs[id]
	if !p.started {
		p.started, p.phase = true, s.tasks[id].phase
		p.up, p.cu = root, claims
	}
	r := &run{calls: calls{w0: w, id: id, registers: p.registers}, s: s, task: s.tasks[id], plan: s.plan}
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
	// Handles may be dead since the phase began; the registers are those of the earlier replies.
	p.registers, p.phase, p.end = r.registers, next, r.end
	for _, h := range p.handles() {
		if !r.w0.nodes[*h].used {
			*h = gone
		}
	}
	p.n, p.hist = 0, [maxHist]result{}
	return r.end != running
}

// attempt returns a number that no other attempt of any process has.
func (r *run) attempt() nonce { return nonce(r.id*4+int(r.tries)) & 15 }

// sub continues with a part, and returns to then.
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

// again counts the attempts, and reports whether there were enough.
func (r *run) again() bool {
	r.tries++
	return r.tries > maxTries
}

const maxTries = 3

// unique returns a name in the trash that is never used again.
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
