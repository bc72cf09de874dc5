// SPDX-License-Identifier: Apache-2.0

//go:build lab

package torture

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"golang.org/x/sys/unix"
)

// waitTimeout is the timeout for what must happen. Leases end within 20 s, but the machine may be slow or
// busy.
const waitTimeout = 10 * time.Minute

const owners = 3

// machines are that of a controller and a node, that of the other controller, and that of the other
// node.
type machines [3]*ground.Machine

// history is a share, the programs that use it, and its expected content.
type history struct {
	*testing.T
	seed        uint64
	path        string // of the share: exported, and local on the server
	dir         string // local
	version     string // of NFS
	trash       bool   // deleted volumes can be restored
	controllers [2]*program
	nodes       [2]*program
	remote      *ground.Machine // the second controller's
	total       *tally

	mu    sync.Mutex
	lines []string        // what happened
	taken map[string]bool // directories of existing volumes
	late  map[string]bool // names with a canceled request, and those requests: they may be executed later
}

func newHistory(t *testing.T, seed uint64, on machines, total *tally) *history {
	h := &history{T: t, seed: seed, total: total, remote: on[1], taken: map[string]bool{}, late: map[string]bool{}}
	rng := h.random(0)
	h.version = []string{"3", "4.0", "4.1", "4.2", "4.2", "4.2"}[rng.IntN(6)]
	h.trash = rng.IntN(2) == 0
	h.path = fmt.Sprintf("%s/history%d", lab.Exports, seed)
	h.dir = t.TempDir()
	h.must(os.Mkdir(h.path, 0o755))
	t.Cleanup(h.clean)
	for i, m := range []int{0, 1} {
		h.controllers[i] = h.program("controller", fmt.Sprint("controller", i), on[m])
	}
	for i, m := range []int{0, 2} {
		h.nodes[i] = h.program("node", fmt.Sprint("node", i), on[m])
	}
	return h
}

// random returns the generator of an actor, from the seed.
func (h *history) random(actor uint64) *rand.Rand { return rand.New(rand.NewPCG(h.seed, actor)) }

func (h *history) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// program starts a program.
func (h *history) program(role, name string, on *ground.Machine) *program {
	h.Helper()
	options := "nfsvers=" + h.version
	if h.version == "3" {
		options += ",nolock"
	}
	config := fmt.Sprintf("shares:\n  - name: nas1\n    servers: [%s]\n    path: %s\n    inline: true\n    mountOptions: [%s]\n", on.Server(), h.path, strings.ReplaceAll(options, ",", ", "))
	p := &program{h: h, name: name, role: role, dir: filepath.Join(h.dir, name), config: config, on: on.In()}
	h.must(p.start())
	return p
}

// live runs the whole history.
func (h *history) live() {
	start := time.Now()
	quit := make(chan struct{})
	var suffering, acting sync.WaitGroup
	for i, v := range []*victim{
		{program: h.controllers[0]}, {program: h.controllers[1], machine: h.remote},
		{program: h.nodes[0]}, {program: h.nodes[1]},
	} {
		v.rng = h.random(100 + uint64(i))
		suffering.Go(func() { v.suffer(quit) })
	}
	o := make([]*owner, owners)
	for i := range o {
		o[i] = newOwner(h, i)
		acting.Go(o[i].act)
	}
	acting.Wait()
	close(quit)
	suffering.Wait()
	h.note("the accidents are over")
	then := aftermath{h}
	for _, stage := range []func(){
		func() { each(o, (*owner).verifyAll) },
		h.check,
		func() { each(o, (*owner).end) },
		then.sweep,
		then.checkEmpty,
		then.restart, then.empty, then.recreateAll, then.stopAll,
	} {
		if h.Failed() {
			break
		}
		stage()
	}
	if h.Failed() {
		h.tell()
		return
	}
	fmt.Printf("seed %d is green, %.0f s\n", h.seed, time.Since(start).Seconds())
}

func each(all []*owner, do func(*owner)) {
	var done sync.WaitGroup
	for _, o := range all {
		done.Go(func() { do(o) })
	}
	done.Wait()
}

// wrong reports a fault.
func (h *history) wrong(format string, args ...any) {
	h.Helper()
	h.note("WRONG: "+format, args...)
	h.Errorf(format, args...)
}

var began = time.Now()

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf("%8.3f ", time.Since(began).Seconds())+fmt.Sprintf(format, args...))
}

// tell prints what happened at once, and not when all histories are over, hours later.
func (h *history) tell() {
	h.mu.Lock()
	lines := slices.Clone(h.lines)
	h.mu.Unlock()
	fmt.Printf("seed %d is red: NFS %s, trash %v:\n%s\n", h.seed, h.version, h.trash, strings.Join(lines, "\n"))
	for _, p := range append(h.controllers[:], h.nodes[:]...) {
		log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
		fmt.Printf("seed %d: the log of %s:\n%s\n", h.seed, p.name, log[max(0, len(log)-20000):])
	}
}

// clean ends the programs and mounts that are left.
func (h *history) clean() {
	for _, p := range append(h.controllers[:], h.nodes[:]...) {
		if p != nil && p.d != nil {
			_ = p.d.Crash()
		}
	}
	mounts, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(h.dir))
	for _, m := range slices.Backward(mounts) {
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	_ = os.RemoveAll(h.path)
}

// mooringctl runs mooringctl on the share.
func (h *history) mooringctl(args ...string) (string, error) {
	config := filepath.Join(h.dir, "controller0", "config.yaml")
	cmd := exec.Command(os.Getenv("MOORINGCTL_BINARY"), append([]string{"--config", config}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually waits for a state, and reports the current one after the timeout.
func (h *history) eventually(what string, done func() (instead string)) {
	h.Helper()
	pause := 250 * time.Millisecond
	for deadline := time.Now().Add(waitTimeout); ; time.Sleep(pause) {
		pause = min(2*pause, 4*time.Second) // the queries must not keep the machine busy
		instead := done()
		if instead == "" {
			return
		}
		if time.Now().After(deadline) {
			h.wrong("not after %v: %s: %s", waitTimeout, what, instead)
			return
		}
	}
}

// check checks that mooringctl check finds nothing broken, with everything that exists.
func (h *history) check() {
	h.eventually("mooringctl check is content with all that there is", func() string { return h.findings("error") })
}

// findings returns what mooringctl check prints if it finds something of these severities.
func (h *history) findings(severities ...string) string {
	out, err := h.mooringctl("check", "-o", "json")
	for _, severity := range severities {
		if strings.Contains(out, `"severity": "`+severity+`"`) {
			return out
		}
	}
	if err != nil && !strings.Contains(out, `"severity"`) {
		return out
	}
	return ""
}

// at returns a local path on the server.
func (h *history) at(elements ...string) string {
	return filepath.Join(append([]string{h.path}, elements...)...)
}

// claimed notes that a volume has a directory from now on. It is a fault if that directory, a parent of it
// or a directory in it belongs to another volume.
func (h *history) claimed(name, dir string) {
	h.mu.Lock()
	var other string
	for d := range h.taken {
		if d == dir || strings.HasPrefix(d, dir+"/") || strings.HasPrefix(dir, d+"/") {
			other = d
		}
	}
	h.taken[dir] = true
	h.mu.Unlock()
	if other != "" {
		h.wrong("volume %s has got %s, and there is a volume in %s", name, dir, other)
	}
}

func (h *history) released(dir string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.taken, dir)
}

func (h *history) givenUp(what, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.late[name] = true
	h.late[what+" "+name] = true
}

// mayBeLate reports whether a request was canceled: for a name, or one such as "delete volume pvc-a1".
func (h *history) mayBeLate(request string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.late[request]
}

// lateShallow returns the shallow volumes of an owner that a canceled request may have made after their deletion.
func (h *history) lateShallow(owner string) (names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for request := range h.late {
		if name, found := strings.CutPrefix(request, "shallow "); found && strings.HasPrefix(name, "pvc-"+owner) {
			names = append(names, name)
		}
	}
	return names
}

// entry describes the entry of a volume or a snapshot on the server, for messages.
func (h *history) entry(kind, name string) string {
	found, err := filepath.Glob(h.at(".mooring", kind, name, "*"))
	for i, path := range found {
		found[i] = filepath.Base(path)
	}
	return fmt.Sprintf("%q %v", found, err)
}

// tree is the content of each file in a directory.
type tree map[string]string

// read reads a tree on the server.
func read(dir string) (tree, error) {
	all := tree{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(data)
		return err
	})
	return all, err
}

// differs describes the difference of a tree from the expected one; "" if there is none. Optional files
// may be incomplete.
func (got tree) differs(want tree, may func(name string) bool) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		content, there := got[name]
		switch {
		case !there:
			lines = append(lines, name+" is missing")
		case content != want[name]:
			lines = append(lines, fmt.Sprintf("%s holds %s, not %s", name, brief(content), brief(want[name])))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, wanted := want[name]; !wanted && (may == nil || !may(name)) {
			lines = append(lines, fmt.Sprintf("%s is there, and holds %s", name, brief(got[name])))
		}
	}
	return strings.Join(lines, "\n")
}

func brief(content string) string { return fmt.Sprintf("%d bytes, %.40q", len(content), content) }

// tally counts successful calls and accidents.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func newTally() *tally { return &tally{counts: map[string]int{}} }

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[what]++
}

func (c *tally) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[what]
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(c.counts)) {
		all = append(all, fmt.Sprintf("%d %s", c.counts[what], what))
	}
	return strings.Join(all, ", ")
}
