// SPDX-License-Identifier: Apache-2.0

//go:build lab

package share

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
	lab "github.com/mooring-csi/mooring/test/lab/ground"
)

// accident is a failure of a machine's connection. It lasts longer than the 15 s after which a client stops
// waiting for a request.
type accident struct {
	name  string
	lasts time.Duration
	// late: what is sent arrives in the end, whether the client still waits or not. Otherwise it is lost, and the
	// client sends it again or not.
	late bool
}

var accidents = []accident{
	{name: "cut", lasts: 17 * time.Second},
	{name: "late", lasts: 20 * time.Second, late: true},
}

// TestCut lets a machine's connection fail just when it moves a volume's directory away. Meanwhile another
// machine deletes the volume, purges it and makes one in its place, whose pod writes. Then the connection
// works again. What was sent must not touch a file of the successor, and the retry of the first machine must
// report that the volume is deleted.
func TestCut(t *testing.T) {
	needsLab(t)
	// A delegation to a silent machine would block others until the server expires it. Then everything that
	// arrives late from there is refused, with or without a fence.
	lab.DelegateDirectories(false)
	t.Cleanup(func() { lab.DelegateDirectories(true) })
	for _, version := range []string{"3", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			t.Parallel()
			cuts(t, version)
		})
	}
}

// TestExpired is TestCut with delegations to the first machine. It loses them, and its whole state on the
// server.
func TestExpired(t *testing.T) {
	needsLab(t)
	t.Parallel()
	cuts(t, "4.2")
}

func cuts(t *testing.T, version string) {
	all := scenarios()
	deleting := all[slices.IndexFunc(all, func(sc scenario) bool { return sc.name == "delete" })]
	for _, how := range accidents {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			server, machine := lab.Exported(t), lab.NewMachine(t)
			where := serverDir{server, machine.Mount(t, version, server), lab.ThisMachine().Mount(t, version, server)}
			c := &cut{scenarioRun: scenarioRun{t, deleting, where.newViews}, accident: how, machine: machine}
			c.during("take the directory away", "purge, another's successor")
		})
	}
}

// cut is an operation during which the connection fails.
type cut struct {
	scenarioRun
	accident
	machine *lab.Machine
	began   time.Time
}

// during lets the connection fail at a step of the operation, while another machine does something.
func (c *cut) during(step, deed string) {
	v, before, was := c.newShare()
	// The first machine has made the volume. It must not keep a delegation of the record.
	c.open(v.other, "", Options{ReadOnly: true}, func(a *actor) { a.state("v1") })
	p := newPause(stopPoint{step: step})
	c.open(v.first, "", Options{Maker: maker, Lease: expiredLease, Step: p.ahead}, func(a *actor) {
		past := history{[][]string{before}, a.copies("data", "of v1")}
		a.was = was
		var told outcome
		done := make(chan struct{})
		go func() {
			defer close(done)
			told.fact, told.err = c.run(a)
		}()
		<-p.there
		_, err := os.Lstat(filepath.Join(a.dir, "team/x/a"))
		a.must(err) // and no request is necessary before the rename
		c.begin()
		close(p.going)
		c.await("the rename is sent", func(sent lab.Traffic) bool { return sent.Lost > 0 || sent.Waiting > request })
		label := "the connection fails: "
		c.open(v.other, label, Options{Maker: otherMaker, Lease: expiredLease}, func(b *actor) {
			b.was = maps.Clone(was)
			c.runMeanwhile(b, c.action(c.T, deed), past, func() outcome {
				c.Logf("the successor is there after %v", time.Since(c.began))
				c.end()
				<-done
				c.Logf("after %v: %v", time.Since(c.began), told.err)
				told.err = c.retried(a, told.err)
				return told
			})
		})
		c.open(v.other, label, Options{Maker: "33333333", Lease: expiredLease}, func(c *actor) { c.deleteEverything() })
	})
}

// request is the minimum size of a request, in bytes. A bare acknowledgement is smaller.
const request = 150

func (c *cut) begin() {
	c.began = time.Now()
	if c.late {
		c.machine.Delay(c.T, c.lasts)
	} else {
		c.machine.Cut(c.T)
	}
}

// end lets the connection work again.
func (c *cut) end() {
	if c.late {
		c.await("the rename has arrived", func(sent lab.Traffic) bool { return sent.Arrived > request })
	}
	time.Sleep(time.Until(c.began.Add(c.lasts)))
	c.machine.Heal(c.T)
}

// waitTimeout is the timeout for what must happen, however busy the machine is.
const waitTimeout = 2 * time.Minute

func (c *cut) await(what string, done func(lab.Traffic) bool) {
	c.Helper()
	for deadline := time.Now().Add(waitTimeout); !done(c.machine.Traffic(c.T)); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}

// retried retries the operation, which ended with err, until it succeeds, as the sidecar does.
func (c *cut) retried(a *actor, err error) error {
	for deadline := time.Now().Add(waitTimeout); err != nil && time.Now().Before(deadline); {
		if k := volume.Kind(err); k != volume.ErrBusy && k != volume.ErrUnavailable {
			break
		}
		_, err = c.run(a)
	}
	if err != nil {
		c.Errorf("the retry fails: %v", err)
	}
	return err
}
