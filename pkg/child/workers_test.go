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

// TestMain lets the test program run as a worker.
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

// order is a call for a worker in tests.
type order struct {
	Wait string `json:"wait,omitempty"` // for a writer of this FIFO
	Fail string `json:"fail,omitempty"`
	Exit int    `json:"exit,omitempty"`
}

// report is the answer to an order.
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

// bench has the Workers under test.
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

// held is a call that stays in a worker until release.
type held struct {
	*bench
	fifo    string
	giveUp  context.CancelCauseFunc
	outcome chan error
	pid     int // of the process that has answered
}

// hold makes a worker begin a call that does not return.
func (b *bench) hold(server, superblock string) *held {
	b.Helper()
	return b.begin(server, superblock, nil)
}

var errGivenUp = errors.New("given up")

// begin returns when the call has begun, or when waited returns true.
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
			b.Fatalf("a call that must not return has returned: %v", err)
		default:
		}
		return waited != nil && waited()
	})
	return h
}

// release makes the call return.
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

// returns waits for the call, and returns the pid of the process that has answered.
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
		h.Errorf("the abandoned call returned %v, want %v", err, want)
	}
}

// answers makes a call that returns at once, and returns its report.
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

// TestWorkers checks that one process answers all calls.
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
				t.Errorf("process %d has answered, want %d", r.PID, pid)
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

// TestWorkerUnprivileged checks the capabilities and the working directory of a worker.
func TestWorkerUnprivileged(t *testing.T) {
	b := newBench(t)
	r := b.answers("nas", "0:1")
	if r.Dir != "/" {
		t.Errorf("the working directory is %s", r.Dir)
	}
	for _, line := range []string{"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
		if !strings.Contains(r.Status, "\n"+line+"\n") {
			t.Errorf("the status has no %q:\n%s", line, r.Status)
		}
	}
	if status, _ := os.ReadFile("/proc/self/status"); !strings.Contains(string(status), "NoNewPrivs:\t0") {
		t.Error("the test process also has NoNewPrivs set")
	}
}

// TestFrozenSuperblock gives up a call. Its superblock stays in quarantine until its worker ends;
// all other calls, also those to the same server, go on. The old worker finishes its other calls.
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
		t.Errorf("process %d has answered the old call; the new worker is %d", pid, r.PID)
	}
	b.soon("the old worker is gone", func() bool { return b.Alive() == 1 })
	b.answers("nas", "0:1")
	b.count(2, 1)
}

// TestLateAnswer lets an abandoned call return while its worker still makes another call: the
// quarantine of the superblock ends at once.
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

// TestTwoFrozen abandons another call of a retired worker: the worker ends with its last call.
func TestTwoFrozen(t *testing.T) {
	b := newBench(t)
	first, second := b.hold("nas", "0:1"), b.hold("other", "0:2")
	first.abandons(errGivenUp)
	second.abandons(errGivenUp)
	b.soon("the old worker is gone", func() bool { return b.Alive() == 1 })
	b.count(2, 1)
}

// stop stops a process, and waits until it has stopped: kill(2) returns earlier.
func (b *bench) stop(pid int) {
	b.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		b.Fatal(err)
	}
	b.soon("the process has stopped", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(stat), ") T ")
	})
}

// TestWorkerStopped stops a worker without calls: another one makes the calls.
func TestWorkerStopped(t *testing.T) {
	b := newBench(t)
	b.beginTimeout = 100 * time.Millisecond // at worst, Workers replaces the new one, too
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

// TestWorkerStoppedInCall stops a worker that has begun a call: the error must not blame the
// server.
func TestWorkerStoppedInCall(t *testing.T) {
	b := newBench(t)
	b.beginTimeout, b.pingAfter = 100*time.Millisecond, time.Hour
	pid := b.answers("nas", "0:1").PID
	call := b.hold("nas", "0:1")
	b.stop(pid)
	w, begun := b.current, (*task)(nil) // there is no other call
	for _, begun = range w.calls {
	}
	b.checkOverdue(w, begun)
	b.soon("the ping is overdue", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.current.isHung()
	})
	call.abandons(ErrHung)
	b.checkOverdue(w, begun)
	b.answers("nas", "0:1")
	b.soon("the stopped worker is gone", func() bool { return b.Alive() == 1 })
}

// TestWorkerDies kills a worker: its current call fails, and later ones do not.
func TestWorkerDies(t *testing.T) {
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
	b.soon("the dead worker is gone", func() bool { return b.Alive() == 1 })
	pid := b.answers("nas", "0:1").PID
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := b.answers("nas", "0:1"); r.PID == pid {
		t.Error("a dead process has answered")
	}
}

// TestStartFails uses a program that does not exist, and one that ends at once: the call must fail,
// without an endless series of processes.
func TestStartFails(t *testing.T) {
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

// TestBounds checks that only calls to the same superblock and to the same server wait for each
// other. A call that is given up while it waits says nothing about its superblock.
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

// TestFrozenBeforeOthers checks that calls that wait for an abandoned one fail with it.
func TestFrozenBeforeOthers(t *testing.T) {
	b := newBench(t)
	var all []*held
	for range maxCallsPerSuperblock {
		all = append(all, b.hold("nas", "0:1"))
	}
	waits := b.begin("nas", "0:1", func() bool { n, _ := b.QueueStats(); return n == 1 })
	all[0].abandons(errGivenUp)
	if err := <-waits.outcome; !errors.Is(err, ErrStuck) {
		t.Errorf("the waiting call returned %v", err)
	}
	for _, h := range all[1:] {
		h.abandons(errGivenUp)
	}
}

// TestTooManyStuck gets so many workers stuck that the last one goes on with its free threads.
func TestTooManyStuckForServer(t *testing.T) {
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

// TestTooManyStuck has so many workers stuck that the last one goes on with what it has.
func TestTooManyStuck(t *testing.T) {
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
	b.soon("the retired workers are gone", func() bool { return b.Alive() == 1 })
	b.answers("nas0", "0")
}

// TestEndsWithItsInput closes a worker's standard input during a call.
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
