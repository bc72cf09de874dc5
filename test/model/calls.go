// SPDX-License-Identifier: Apache-2.0

package model

// calls are the calls of a process to the server. Earlier calls of this phase get the same replies
// again, then one is executed, and the process parks.
type calls struct {
	w0 *world
	id int
	registers
	replayed uint8
	executed bool
	op       op
	res      result
	doing    string // the code's name of the next change
	did      string // the same of op
}

func (r *calls) call(o op) result {
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

// drop removes a dead handle from the registers of this process too.
func (r *calls) drop(died ino) {
	for _, h := range r.handles() {
		if *h == died {
			*h = gone
		}
	}
}

// step sets the name of the next change in pkg/share: see Options.Step there.
func (r *calls) step(what string) { r.doing = what }

func (r *calls) lookup(d ino, n name) (ino, errno) {
	x := r.call(op{what: opLookup, d1: d, n1: n})
	return x.ino, x.err
}

func (r *calls) read(d ino, n name) (nonce, errno) {
	x := r.call(op{what: opRead, d1: d, n1: n})
	return x.val, x.err
}

func (r *calls) unused(d, x ino) errno        { return r.call(op{what: opUnused, d1: d, d2: x}).err }
func (r *calls) alive(d ino) bool             { return r.call(op{what: opAlive, d1: d}).err == ok }
func (r *calls) mkdir(d ino, n name) errno    { return r.call(op{what: opMkdir, d1: d, n1: n}).err }
func (r *calls) unlink(d ino, n name) errno   { return r.call(op{what: opUnlink, d1: d, n1: n}).err }
func (r *calls) write(f ino, val nonce) errno { return r.call(op{what: opWrite, d1: f, val: val}).err }

// rmdir looks the name up if it may be a file, and then removes it: NFSv4 removes either.
func (r *calls) rmdir(d ino, n name) errno {
	switch n.kind() {
	case deletion, taken, tree, deadDir:
		if i, err := r.lookup(d, n); err != ok {
			return err
		} else if !r.w0.isDir(i) {
			return notdir
		}
	}
	return r.call(op{what: opRmdir, d1: d, n1: n}).err
}

func (r *calls) list(d ino) name { return r.call(op{what: opList, d1: d}).name }

// chown is never refused: it uses the handle.
func (r *calls) chown(d ino, of nonce) { r.call(op{what: opChown, d1: d, val: of}) }

func (r *calls) create(d ino, n name) (ino, errno) {
	x := r.call(op{what: opCreate, d1: d, n1: n})
	return x.ino, x.err
}

func (r *calls) link(f, d ino, n name) errno {
	return r.call(op{what: opLink, d1: d, n1: n, d2: f}).err
}

func (r *calls) rename(d1 ino, n1 name, d2 ino, n2 name) errno {
	return r.call(op{what: opRename, d1: d1, n1: n1, d2: d2, n2: n2}).err
}

// plain is a step that is not a call of the driver, for example of a pod.
func (r *calls) plain(f func()) {
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
