// SPDX-License-Identifier: Apache-2.0

//go:build lab

package torture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// program is a process of the driver that can be killed and started again.
type program struct {
	h                       *history
	name, role, dir, config string
	on                      []string

	mu      sync.RWMutex
	d       *lab.Driver
	spoiled atomic.Int64 // when one of its system calls may have failed last, in Unix seconds
}

// failed reports whether its system calls were made to fail recently. The program keeps the result
// for a while, for example that a share could not be opened.
func (p *program) failed() bool { return time.Now().Unix()-p.spoiled.Load() < 60 }

func (p *program) start() (err error) {
	p.d, err = lab.StartOn(p.on, p.role, p.dir, p.config)
	return err
}

// driver returns the running driver, and waits while there is none.
func (p *program) driver() *lab.Driver {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.d
}

// kill kills the program and starts it again after a while.
func (p *program) kill(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.d.Crash(); err != nil {
		p.h.wrong("%s: %v", p.name, err)
	}
	time.Sleep(after)
	if err := p.start(); err != nil {
		p.h.wrong("%s does not start: %v", p.name, err)
		p.h.FailNow()
	}
}

// victim is a program with one accident after the other.
type victim struct {
	*program
	rng     *rand.Rand
	machine *ground.Machine // whose network can be cut; nil: none
}

// accident is an event that may happen to a controller.
type accident struct {
	what   string
	weight int
	happen func(v *victim)
}

// accidents have weights in percent.
var accidents = []accident{
	{"pause", 30, func(v *victim) { v.pause(between(v.rng, 10*time.Millisecond, 3*time.Second)) }},
	{"long pause", 1, func(v *victim) { v.pause(22 * time.Second) }}, // longer than the lease
	{"kill", 14, func(v *victim) { v.kill(between(v.rng, 0, 3*time.Second)) }},
	{"late system call", 25, (*victim).late},
	{"failing system call", 20, (*victim).fail},
	{"cut", 9, func(v *victim) { v.cut(between(v.rng, 50*time.Millisecond, 3*time.Second)) }},
	{"long cut", 1, func(v *victim) { v.cut(17 * time.Second) }}, // longer than the client tries
}

// between returns a random time between two; short ones are more probable.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	f := rng.Float64()
	return from + time.Duration(f*f*f*float64(to-from))
}

// suffer causes accidents until ctx ends.
func (v *victim) suffer(quit chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case <-time.After(v.rest()):
		}
		if v.role == "node" {
			v.have("kill", func(v *victim) { v.kill(0) })
			continue
		}
		n := v.rng.IntN(100)
		i := slices.IndexFunc(accidents, func(a accident) bool { n -= a.weight; return n < 0 })
		if strings.HasSuffix(accidents[i].what, "cut") && v.machine == nil {
			continue // it shares its network
		}
		v.have(accidents[i].what, accidents[i].happen)
	}
}

// rest returns the time until the next accident.
func (v *victim) rest() time.Duration {
	if v.role == "node" {
		return between(v.rng, 3*time.Second, 40*time.Second)
	}
	return between(v.rng, 20*time.Millisecond, 5*time.Second)
}

func (v *victim) have(what string, happen func(*victim)) {
	v.h.note("%s of %s", what, v.name)
	happen(v)
	v.h.note("%s of %s is over", what, v.name)
	v.h.total.add(what + " of a " + v.role)
}

func (v *victim) cut(length time.Duration) {
	v.machine.Cut(v.h.T)
	time.Sleep(length)
	v.machine.Heal(v.h.T)
}

func (v *victim) late() {
	by := between(v.rng, 100*time.Millisecond, 10*time.Second)
	v.inject(fmt.Sprintf("delay_enter=%d:when=%d+%d", by.Microseconds(), 1+v.rng.IntN(4), 3+v.rng.IntN(10)))
}

func (v *victim) fail() {
	v.spoiled.Store(time.Now().Add(time.Minute).Unix())
	what := []string{"EIO", "ETIMEDOUT", "ENOSPC", "EDQUOT"}[v.rng.IntN(4)]
	v.inject(fmt.Sprintf("error=%s:when=%d+%d", what, 1+v.rng.IntN(4), 2+v.rng.IntN(10)))
	v.spoiled.Store(time.Now().Unix())
}

func (v *victim) pause(length time.Duration) {
	pid := v.d.PID()
	_ = unix.Kill(pid, unix.SIGSTOP)
	time.Sleep(length)
	_ = unix.Kill(pid, unix.SIGCONT)
}

// changing are the system calls that change a share.
const changing = "renameat,renameat2,linkat,unlinkat,mkdirat,openat2,fsync"

// inject makes system calls fail or delays them for a while.
func (v *victim) inject(how string) {
	ctx, cancel := context.WithTimeout(context.Background(), between(v.rng, 500*time.Millisecond, 4*time.Second))
	defer cancel()
	calls := changing
	if v.rng.IntN(2) == 0 {
		calls = []string{"renameat,renameat2", "linkat", "unlinkat", "mkdirat", "openat2", "fsync"}[v.rng.IntN(6)]
	}
	v.h.note("%s: %s:%s", v.name, calls, how)
	cmd := exec.CommandContext(ctx, "strace", "-qq", "-f", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":"+how, "-p", fmt.Sprint(v.d.PID()))
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // so that its tracees continue
	cmd.WaitDelay = 20 * time.Second                                      // sometimes strace does not end: then it is killed
	out, err := cmd.CombinedOutput()
	if ctx.Err() == nil {
		v.h.wrong("strace: %v: %s", err, out)
	}
}
