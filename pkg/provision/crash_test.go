// SPDX-License-Identifier: Apache-2.0

package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"k8s.io/klog/v2"
)

// victim is what a process that is to be killed is told, in its environment.
type victim struct {
	Dir        string
	Step       int // it ends before this change on the share, the first being 1
	Delete     bool
	Copy       string // one of the copies, or ""
	Name       string
	Parameters map[string]string
}

const victimEnv = "MOORING_TEST_VICTIM"

func TestMain(m *testing.M) {
	if told := os.Getenv(victimEnv); told != "" {
		os.Exit(beVictim(told))
	}
	klog.LogToStderr(false) // what is killed on purpose has much to say
	klog.SetOutput(io.Discard)
	os.Exit(m.Run())
}

// beVictim runs one operation in a process of its own, and kills that with SIGKILL at its step.
func beVictim(told string) int {
	var v victim
	if err := json.Unmarshal([]byte(told), &v); err != nil {
		panic(err)
	}
	var steps atomic.Int64
	step := func(string) {
		if steps.Add(1) == int64(v.Step) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	o, err := open(v.Dir, share.Options{Step: step})
	if err == nil {
		s := New(o, o, jobs.NewCopier(o, o, jobs.CopyOptions{Step: step, Workers: 1}), noFault)
		if v.Copy != "" {
			err = copies[v.Copy](s)
		} else if v.Delete {
			err = s.Volumes.Delete(context.Background(), volume.Handle{Share: "nas1", Key: v.Name}, nil)
		} else {
			var w volume.CreateRequest
			if w, err = parseWish(v.Name, v.Parameters); err == nil {
				_, err = s.Volumes.Create(context.Background(), w)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run starts the victim. killed is false where it came to its end before its step.
func (v victim) run(t *testing.T) (killed bool) {
	t.Helper()
	told, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(told), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("the victim failed: %v: %s", err, out)
	}
	return false
}

// cases are volumes of which each takes other steps to be made and deleted.
var cases = []struct {
	name       string
	parameters map[string]string
}{
	{"flat", nil},
	{"nested", map[string]string{"subDir": "teams/${pvc.metadata.namespace}/${pvc.metadata.name}"}},
	{"mode", map[string]string{"mountPermissions": "2770"}},
	{"retain", map[string]string{"onDelete": "retain"}},
	{"archive", map[string]string{"onDelete": "archive", "subDir": "old/${pvc.metadata.name}"}},
	{"adopt", map[string]string{"existingDirectory": "adopt", "subDir": "there"}},
}

// prepare puts on a new share what each case finds there.
func prepare(t *testing.T, g ground.Ground) string {
	t.Helper()
	dir, err := os.MkdirTemp(g.Dir, "share")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Join(dir, "there"), filepath.Join(dir, "stranger")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "there", "data"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	s, _ := controller(t, dir, share.Options{})
	if _, err := s.Volumes.Create(context.Background(), wish(t, "pvc-other", nil)); err != nil {
		t.Fatal(err)
	}
	return dir
}

type operation func(s *Service, w volume.CreateRequest, h volume.Handle) error

func create(s *Service, w volume.CreateRequest, h volume.Handle) error {
	v, err := s.Volumes.Create(context.Background(), w)
	if err == nil && (v.Handle != h || v.Capacity != w.Capacity.Required) {
		err = fmt.Errorf("the answer is %+v", v)
	}
	return err
}

func remove(s *Service, _ volume.CreateRequest, h volume.Handle) error {
	return s.Volumes.Delete(context.Background(), h, nil)
}

// use writes into the volume as a pod would.
func (c scenario) use(t *testing.T, dir string) {
	t.Helper()
	w := wish(t, "pvc-1", c.parameters)
	s, _ := controller(t, dir, share.Options{})
	at, err := s.Volumes.directory(w)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, at, "pod's"), []byte("data"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const lease = 200 * time.Millisecond

// heirs are those who come after the controller that was killed.
var heirs = []struct {
	name  string
	opt   share.Options
	every int // of the steps: to wait for a lease takes time
}{
	{"restarted", share.Options{}, 1},
	{"another", share.Options{Maker: "ffffffff", Lease: lease}, 4},
}

// scenario is an operation that is interrupted at each of its steps.
type scenario struct {
	g          ground.Ground
	name       string
	parameters map[string]string
}

// peace returns what is on a share when the operations have run uninterrupted.
func (c scenario) peace(t *testing.T, operations ...operation) []string {
	t.Helper()
	dir := prepare(t, c.g)
	s, o := controller(t, dir, share.Options{})
	for i, do := range operations {
		if i > 0 {
			c.use(t, dir)
		}
		if err := do(s, wish(t, "pvc-1", c.parameters), handle); err != nil {
			t.Fatal(err)
		}
	}
	o.purge(t)
	o.tidy(t)
	return tree(t, dir)
}

// unused returns what is on a share when a volume that nobody used is deleted.
func (c scenario) unused(t *testing.T) []string {
	t.Helper()
	dir := prepare(t, c.g)
	s, o := controller(t, dir, share.Options{})
	w := wish(t, "pvc-1", c.parameters)
	if err := errors.Join(create(s, w, handle), remove(s, w, handle)); err != nil {
		t.Fatal(err)
	}
	o.purge(t)
	o.tidy(t)
	return tree(t, dir)
}

// interrupt kills a controller before each change that it makes on the share, each time on a
// new one, has an heir do then, twice, and compares what is on the share in the end with the
// ways in which it may be wanted.
func (c scenario) interrupt(t *testing.T, deletion bool, then operation, want ...[]string) {
	t.Helper()
	w := wish(t, "pvc-1", c.parameters)
	for step := 1; ; step++ {
		for _, heir := range heirs {
			if step%heir.every != 0 {
				continue
			}
			dir := prepare(t, c.g)
			if deletion {
				s, _ := controller(t, dir, share.Options{})
				if err := create(s, w, handle); err != nil {
					t.Fatal(err)
				}
				c.use(t, dir)
			}
			v := victim{Dir: dir, Step: step, Delete: deletion, Name: "pvc-1", Parameters: c.parameters}
			if !v.run(t) {
				if step <= 2 {
					t.Errorf("%s: there are only %d steps", c.name, step-1)
				}
				return
			}
			what := fmt.Sprintf("%s, killed at step %d, %s", c.name, step, heir.name)
			s, o := controller(t, dir, heir.opt)
			for range 2 {
				if err := eventually(func() error { return then(s, w, handle) }); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			o.purge(t)
			o.tidy(t)
			got := tree(t, dir)
			if heir.opt.Maker != "" { // the asides of the dead one go when they are old
				got = slices.DeleteFunc(got, func(e string) bool { return strings.HasPrefix(e, ".mooring/staging/") })
			}
			if slices.ContainsFunc(want[1:], func(or []string) bool { return slices.Equal(got, or) }) {
				continue
			}
			same(t, what, got, want[0])
		}
	}
}

var handle = volume.Handle{Share: "nas1", Key: "pvc-1"}

// TestKill kills a controller with SIGKILL before each change that it makes on the share. The
// end is to be as if nothing had happened.
func TestKill(t *testing.T) {
	for name, kill := range map[string]func(t *testing.T, c scenario){
		"create, and create again": func(t *testing.T, c scenario) { c.interrupt(t, false, create, c.peace(t, create)) },
		// Ready when it was killed or not, a volume that is to be kept is kept or never was.
		"create, and delete":       func(t *testing.T, c scenario) { c.interrupt(t, false, remove, c.peace(t), c.unused(t)) },
		"delete, and delete again": func(t *testing.T, c scenario) { c.interrupt(t, true, remove, c.peace(t, create, remove)) },
	} {
		t.Run(name, func(t *testing.T) {
			ground.Ends(t, func(t *testing.T, g ground.Ground) {
				for _, c := range cases {
					kill(t, scenario{g, c.name, c.parameters})
				}
			})
		})
	}
}
