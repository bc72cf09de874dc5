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

// accident is what happens to a machine's connection. It lasts longer than the 15 s after which a
// client gives a request up.
type accident struct {
	name  string
	lasts time.Duration
	// late: what is sent arrives in the end, given up or not. Else it is lost, and the client
	// sends it again or not.
	late bool
}

var accidents = []accident{
	{name: "cut", lasts: 17 * time.Second},
	{name: "late", lasts: 20 * time.Second, late: true},
}

// TestCut has a machine's connection fail just when it takes a volume's directory away. Meanwhile
// another deletes the volume, purges it and makes one in its place, whose pod writes. Then the
// connection works again. No file of the successor may be touched by what was sent, and when the
// first tries again it has to be told that the volume is deleted.
func TestCut(t *testing.T) {
	needsLab(t)
	// What is delegated to a machine that is silent would keep others waiting until its server
	// expires it. Then all that comes late from there is refused, fence or no fence.
	lab.DelegateDirectories(false)
	t.Cleanup(func() { lab.DelegateDirectories(true) })
	for _, version := range []string{"3", "4.2"} {
		t.Run("nfs"+version, func(t *testing.T) {
			t.Parallel()
			cuts(t, version)
		})
	}
}

// TestExpired is TestCut where the first has delegations, and loses them with all else that the
// server knew of it.
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

// cut is an operation in the middle of which the connection fails.
type cut struct {
	scenarioRun
	accident
	machine *lab.Machine
	began   time.Time
}

// during has it fail at a step of the operation, and another do something meanwhile.
func (c *cut) during(step, deed string) {
	v, before, was := c.newShare()
	// The first has made the volume, and its record may be delegated to it: no more.
	c.open(v.other, "", Options{ReadOnly: true}, func(a *actor) { a.state("v1") })
	p := newPause(stopPoint{step: step})
	c.open(v.first, "", Options{Maker: maker, Lease: over, Step: p.ahead}, func(a *actor) {
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
		a.must(err) // and nothing has to be asked any more before the rename
		c.begin()
		close(p.going)
		c.await("the rename is sent", func(sent lab.Traffic) bool { return sent.Lost > 0 || sent.Waiting > request })
		label := "the connection fails: "
		c.open(v.other, label, Options{Maker: stranger, Lease: over}, func(b *actor) {
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
		c.open(v.other, label, Options{Maker: "33333333", Lease: over}, func(c *actor) { c.deleteEverything() })
	})
}

// request is what a request has at least, in bytes, and what only says that something came has not.
const request = 150

func (c *cut) begin() {
	c.began = time.Now()
	if c.late {
		c.machine.Delay(c.T, c.lasts)
	} else {
		c.machine.Cut(c.T)
	}
}

// end has the connection work again.
func (c *cut) end() {
	if c.late {
		c.await("the rename has arrived", func(sent lab.Traffic) bool { return sent.Arrived > request })
	}
	time.Sleep(time.Until(c.began.Add(c.lasts)))
	c.machine.Heal(c.T)
}

// patience is for what has to happen, however busy the machine is.
const patience = 2 * time.Minute

func (c *cut) await(what string, done func(lab.Traffic) bool) {
	c.Helper()
	for deadline := time.Now().Add(patience); !done(c.machine.Traffic(c.T)); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.Fatalf("not after %v: %s", patience, what)
		}
	}
}

// retried tries the operation, which ended with err, until it succeeds, as the sidecar does.
func (c *cut) retried(a *actor, err error) error {
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
		if k := volume.Kind(err); k != volume.ErrBusy && k != volume.ErrUnavailable {
			break
		}
		_, err = c.run(a)
	}
	if err != nil {
		c.Errorf("tried again it fails: %v", err)
	}
	return err
}
