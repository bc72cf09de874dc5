// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets this program be the worker of its tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && (os.Args[1] == "worker" || os.Args[1] == "once") {
		serve := Serve[order]
		if os.Args[1] == "once" {
			serve = ServeOne[order]
		}
		if err := serve(os.Stdin, os.Stdout, fakeCall); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// order is what a worker is to do in tests.
type order struct {
	Wait string `json:"wait,omitempty"` // for somebody to open this FIFO
	Fail string `json:"fail,omitempty"`
	Exit int    `json:"exit,omitempty"`
}

// report is what it answers.
type report struct {
	PID    int
	Dir    string
	Status string
}

func fakeCall(o order) (any, error) {
	if o.Wait != "" {
		fifo, err := os.Open(o.Wait)
		if err != nil {
			return nil, err
		}
		fifo.Close()
	}
	if o.Exit > 0 {
		os.Exit(o.Exit)
	}
	if o.Fail != "" {
		return nil, errors.New(o.Fail)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	status, err := os.ReadFile("/proc/self/status")
	return report{os.Getpid(), dir, string(status)}, err
}

// bench is Workers under test.
type bench struct {
	*testing.T
	*Workers
}

func newBench(t *testing.T) *bench {
	b := &bench{t, NewWorkers(Command{Name: "/proc/self/exe", Args: []string{"worker"}, Unprivileged: true})}
	t.Cleanup(func() {
		b.Close()
		b.soon("the workers are gone", func() bool { return b.Alive() == 0 })
	})
	return b
}

func (b *bench) soon(what string, done func() bool) {
	b.Helper()
	soon(b.T, what, done)
}

// held is a call that a worker makes, until release.
type held struct {
	*bench
	fifo    string
	giveUp  context.CancelCauseFunc
	outcome chan error
	pid     int // who has answered
}

// hold has a worker begin a call that does not come back.
func (b *bench) hold(server, superblock string) *held {
	b.Helper()
	return b.begin(server, superblock, nil)
}

var errGivenUp = errors.New("given up")

// begin returns when the call has begun, or waited is true.
func (b *bench) begin(server, superblock string, waited func() bool) *held {
	b.Helper()
	h := &held{bench: b, fifo: filepath.Join(b.TempDir(), "fifo"), outcome: make(chan error, 1)}
	if err := unix.Mkfifo(h.fifo, 0o600); err != nil {
		b.Fatal(err)
	}
	var ctx context.Context
	ctx, h.giveUp = context.WithCancelCause(context.Background())
	b.Cleanup(func() { h.giveUp(errGivenUp) })
	began := make(chan bool, 1)
	go func() {
		answer, err := b.Do(ctx, Call{server, superblock, order{Wait: h.fifo}}, func() { began <- true })
		var r report
		if err == nil {
			err = json.Unmarshal(answer, &r)
		}
		h.pid = r.PID
		h.outcome <- err
	}()
	b.soon("a call begins", func() bool {
		select {
		case <-began:
			return true
		case err := <-h.outcome:
			b.Fatalf("a call that should not come back has: %v", err)
		default:
		}
		return waited != nil && waited()
	})
	return h
}

// release has the call come back.
func (h *held) release() {
	h.Helper()
	h.soon("the worker opens the FIFO", func() bool {
		fifo, err := unix.Open(h.fifo, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		return unix.Close(fifo) == nil
	})
}

// returns waits for the call, and returns the process that has answered.
func (h *held) returns() int {
	h.Helper()
	if err := <-h.outcome; err != nil {
		h.Errorf("the call returned %v", err)
	}
	return h.pid
}

// abandons gives the call up.
func (h *held) abandons(want error) {
	h.Helper()
	h.giveUp(errGivenUp)
	if err := <-h.outcome; !errors.Is(err, want) {
		h.Errorf("the call that was given up returned %v, not %v", err, want)
	}
}

// answers makes a call that comes back at once, and returns the process that has answered.
func (b *bench) answers(server, superblock string) report {
	b.Helper()
	var r report
	answer, err := b.Do(context.Background(), Call{server, superblock, order{}}, nil)
	if err == nil {
		err = json.Unmarshal(answer, &r)
	}
	if err != nil {
		b.Errorf("a call to %s, %s: %v", server, superblock, err)
	}
	return r
}

func (b *bench) refuses(server, superblock string) {
	b.Helper()
	if _, err := b.Do(context.Background(), Call{server, superblock, order{}}, nil); !errors.Is(err, ErrStuck) {
		b.Errorf("a call to %s, %s: %v", server, superblock, err)
	}
}

func (b *bench) count(started, alive int) {
	b.Helper()
	if b.Started() != started || b.Alive() != alive {
		b.Errorf("%d workers were started and %d are alive, want %d and %d", b.Started(), b.Alive(), started, alive)
	}
}

// TestWorkers has one process answer all.
func TestWorkers(t *testing.T) {
	b := newBench(t)
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	pid := b.answers("nas", "0:1").PID
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if r := b.answers("nas", fmt.Sprint(i%20)); r.PID != pid {
				t.Errorf("process %d has answered, not %d", r.PID, pid)
			}
		})
	}
	all.Wait()
	_, err := b.Do(context.Background(), Call{"nas", "0:1", order{Fail: "no such file"}}, nil)
	if err == nil || err.Error() != "no such file" {
		t.Errorf("the error of a call is %v", err)
	}
	b.count(1, 1)
	if waiting, stuck := b.QueueStats(); waiting > 0 || stuck > 0 {
		t.Errorf("%d calls wait, %d superblocks are in quarantine", waiting, stuck)
	}
}

// TestWorkerIsNobody looks at what a worker may do, and where it is.
func TestWorkerIsNobody(t *testing.T) {
	b := newBench(t)
	r := b.answers("nas", "0:1")
	if r.Dir != "/" {
		t.Errorf("it is in %s", r.Dir)
	}
	for _, line := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(r.Status, "\n"+line+"\n") {
			t.Errorf("its status has no %q:\n%s", line, r.Status)
		}
	}
	if status, _ := os.ReadFile("/proc/self/status"); !strings.Contains(string(status), "NoNewPrivs:\t0") {
		t.Error("and neither may who has started it")
	}
}

// TestFrozenSuperblock gives up a call. Its superblock is left alone, with its worker, until that
// is gone; all others, of the same server too, go on. What the old worker has under way it ends.
func TestFrozenSuperblock(t *testing.T) {
	b := newBench(t)
	frozen, other := b.hold("nas", "0:1"), b.hold("nas", "0:2")
	frozen.abandons(errGivenUp)
	b.refuses("nas", "0:1")
	b.answers("nas", "0:2")
	r := b.answers("nas", "0:3")
	b.count(2, 2)
	if _, stuck := b.QueueStats(); stuck != 1 {
		t.Errorf("%d superblocks are in quarantine", stuck)
	}
	other.release()
	if pid := other.returns(); pid == 0 || pid == r.PID {
		t.Errorf("what was under way is answered by process %d; the new one is %d", pid, r.PID)
	}
	b.soon("the old worker is gone", func() bool { return b.Alive() == 1 })
	b.answers("nas", "0:1")
	b.count(2, 1)
}

// TestLateAnswer has a call come back that was given up, while its worker still has something to
// end: the superblock is asked again at once.
func TestLateAnswer(t *testing.T) {
	b := newBench(t)
	late, other := b.hold("nas", "0:1"), b.hold("nas", "0:2")
	late.abandons(errGivenUp)
	b.refuses("nas", "0:1")
	late.release()
	b.soon("the quarantine is over", func() bool { _, stuck := b.QueueStats(); return stuck == 0 })
	b.answers("nas", "0:1")
	b.count(2, 2)
	other.release()
	other.returns()
}

// TestTwoFrozen has a retired worker lose another call: it goes when the last one is given up.
func TestTwoFrozen(t *testing.T) {
	b := newBench(t)
	first, second := b.hold("nas", "0:1"), b.hold("other", "0:2")
	first.abandons(errGivenUp)
	second.abandons(errGivenUp)
	b.soon("the old worker is gone", func() bool { return b.Alive() == 1 })
	b.count(2, 1)
}

// stop stops a process. kill(2) returns before it has stopped.
func (b *bench) stop(pid int) {
	b.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		b.Fatal(err)
	}
	b.soon("it has stopped", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(stat), ") T ")
	})
}

// TestStopped stops a worker that has nothing to do: another makes the calls.
func TestStopped(t *testing.T) {
	b := newBench(t)
	b.beginTimeout = 100 * time.Millisecond // at worst, the new one is replaced too
	pid := b.answers("nas", "0:1").PID
	b.stop(pid)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if r := b.answers("nas", fmt.Sprint(i)); r.PID == pid {
				t.Error("a stopped process has answered")
			}
		})
	}
	all.Wait()
	b.soon("the stopped worker is gone", func() bool { return b.Alive() == 1 })
}

// TestStoppedMeanwhile stops a worker that has begun a call: that is not the server's fault.
func TestStoppedMeanwhile(t *testing.T) {
	b := newBench(t)
	b.beginTimeout, b.pingAfter = 100*time.Millisecond, time.Hour
	pid := b.answers("nas", "0:1").PID
	call := b.hold("nas", "0:1")
	b.stop(pid)
	w, begun := b.current, (*task)(nil) // nothing else is under way
	for _, begun = range w.calls {
	}
	b.checkOverdue(w, begun)
	b.soon("it owes an answer", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.current.isHung()
	})
	call.abandons(ErrHung)
	b.checkOverdue(w, begun)
	b.answers("nas", "0:1")
	b.soon("the stopped worker is gone", func() bool { return b.Alive() == 1 })
}

// TestDies has a worker die: the call that it was making fails, and the next ones do not.
func TestDies(t *testing.T) {
	b := newBench(t)
	other := b.hold("nas", "0:2")
	_, err := b.Do(context.Background(), Call{"nas", "0:1", order{Exit: 3}}, nil)
	if err == nil || !strings.Contains(err.Error(), "has ended: exit status 3") {
		t.Errorf("the error is %v", err)
	}
	if err := <-other.outcome; err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("the error of the other call is %v", err)
	}
	b.answers("nas", "0:1")
	b.soon("the dead one is gone", func() bool { return b.Alive() == 1 })
	pid := b.answers("nas", "0:1").PID
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := b.answers("nas", "0:1"); r.PID == pid {
		t.Error("a dead process has answered")
	}
}

// TestDoesNotStart has no program, and one that ends at once: there is an error, and no endless
// row of processes.
func TestDoesNotStart(t *testing.T) {
	for program, says := range map[string]string{"/no/such/program": "start /no/such/program", "false": "has ended: exit status 1"} {
		w := NewWorkers(Command{Name: program})
		_, err := w.Do(context.Background(), Call{"nas", "0:1", order{}}, nil)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", program, err)
		}
		if w.Started() > 2 {
			t.Errorf("%s was started %d times", program, w.Started())
		}
		w.Close()
	}
}

// TestBounds has calls wait for those of the same superblock and of the same server, and nobody
// else for them. To give up a call that waits says nothing about its superblock.
func TestBounds(t *testing.T) {
	b := newBench(t)
	waiting := func(want int) func() bool {
		return func() bool { n, _ := b.QueueStats(); return n == want }
	}
	var all []*held
	for range maxCallsPerSuperblock {
		all = append(all, b.hold("nas", "0:1"))
	}
	first := b.begin("nas", "0:1", waiting(1))
	for range maxCallsPerServer - maxCallsPerSuperblock {
		all = append(all, b.hold("nas", "0:2"))
	}
	second := b.begin("nas", "0:3", waiting(2))
	b.answers("other", "0:4")
	for range maxCalls - maxCallsPerServer {
		all = append(all, b.hold("other", "0:5"))
	}
	third := b.begin("third", "0:6", waiting(3))
	second.abandons(errGivenUp)
	if n, stuck := b.QueueStats(); n != 2 || stuck != 0 {
		t.Errorf("%d calls wait, %d superblocks are in quarantine", n, stuck)
	}
	for _, h := range append(all, first, third) {
		h.release()
		h.returns()
	}
	b.count(1, 1)
}

// TestFrozenBeforeOthers has calls wait for one that does not come back: they are refused with it.
func TestFrozenBeforeOthers(t *testing.T) {
	b := newBench(t)
	var all []*held
	for range maxCallsPerSuperblock {
		all = append(all, b.hold("nas", "0:1"))
	}
	waits := b.begin("nas", "0:1", func() bool { n, _ := b.QueueStats(); return n == 1 })
	all[0].abandons(errGivenUp)
	if err := <-waits.outcome; !errors.Is(err, ErrStuck) {
		t.Errorf("the call that has waited returned %v", err)
	}
	for _, h := range all[1:] {
		h.abandons(errGivenUp)
	}
}

// TestAbandonedForOne refuses a server of which two workers are stuck already, and no other.
func TestAbandonedForOne(t *testing.T) {
	b := newBench(t)
	var busy []*held // so that the workers stay
	for i := range maxRetiredPerServer {
		busy = append(busy, b.hold("other", "0:9"))
		b.hold("nas", fmt.Sprint(i)).abandons(errGivenUp)
	}
	b.refuses("nas", "0:8")
	b.answers("other", "0:9")
	for _, h := range busy {
		h.release()
		h.returns()
	}
	b.soon("the workers are gone", func() bool { return b.Alive() == 1 })
	b.answers("nas", "0:8")
}

// TestAbandonedInAll has so many workers stuck that the last one goes on with what it has.
func TestAbandonedInAll(t *testing.T) {
	b := newBench(t)
	lose := func(i int) *held {
		h := b.hold("busy", "0:9")
		b.hold(fmt.Sprint("nas", i), fmt.Sprint(i)).abandons(errGivenUp)
		return h
	}
	var busy []*held
	for i := range maxRetired {
		busy = append(busy, lose(i))
	}
	b.count(maxRetired+1, maxRetired+1)
	busy = append(busy, lose(maxRetired))
	b.count(maxRetired+1, maxRetired+1)
	b.refuses(fmt.Sprint("nas", maxRetired), fmt.Sprint(maxRetired))
	b.answers("other", "0:8")
	for _, h := range busy {
		h.release()
		h.returns()
	}
	b.soon("the retired are gone", func() bool { return b.Alive() == 1 })
	b.answers("nas0", "0")
}

// TestEndsWithItsInput closes a worker's standard input while a call is under way.
func TestEndsWithItsInput(t *testing.T) {
	b := newBench(t)
	call := b.hold("nas", "0:1")
	b.mu.Lock()
	_ = b.current.in.Close()
	b.mu.Unlock()
	if err := <-call.outcome; err == nil || !strings.Contains(err.Error(), "exit status 0") {
		t.Errorf("the error is %v", err)
	}
}
