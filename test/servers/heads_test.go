// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"github.com/mooring-csi/mooring/test/lab/ground"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

//go:embed heads
var headsScript []byte

// headKinds are the kinds of test/servers/heads, with their text on the page.
var headKinds = map[string]string{
	"ganesha": "**NFS-Ganesha 4.3** (CephFS 16.2), which is killed, so that its address refuses connections",
	"kernel":  "**Linux's NFS server over Linux's CephFS client**, whose machine is cut off, so that nothing answers",
}

const (
	headOne = "10.78.0.1"
	headTwo = "10.78.0.2"
	// provisionings is the number of volumes that are being created when a head fails, and atOnce the number
	// at a time: that of external-provisioner is 10 here.
	provisionings = 50
	atOnce        = 10
	// headPatience is the timeout for what must happen: a dead CephFS client keeps its capabilities for 30
	// seconds here.
	headPatience = 10 * time.Minute
)

// heads are two NFS servers over one CephFS, and a program with two shares: "first" has the first head
// first, "second" the second.
type heads struct {
	t      *testing.T
	kind   string // of test/servers/heads
	script string
	report strings.Builder
	*lab.Driver
}

// TestHeads lets one of two heads fail under pods and creations, return, and be replaced by another
// machine with its address. MOORING_HEADS is their kind. "make heads" runs it.
func TestHeads(t *testing.T) {
	kind := os.Getenv("MOORING_HEADS")
	if kind == "" {
		t.Skip("MOORING_HEADS does not say which: run this by make heads")
	}
	ground.DelegateDirectories(false) // nfs-ganesha#1385
	h := newHeads(t, kind)
	one, two := h.pod("first", "one"), h.pod("second", "two")
	defer one.end()
	defer two.end()
	h.mountedFrom(one, headOne)
	h.mountedFrom(two, headTwo)

	h.lockedOnBoth(one)
	h.failUnderLoad(one, two)
	since := h.at("recover", "1")
	h.goesOn("the first head is back at its address", since, one)
	for _, how := range [][]string{{"1"}, {"1", "forgetful"}} {
		h.replaced(one, how...)
	}
	two.wantWriting(t, "all along")
	h.kept(one, two)
	h.wellFormed()
	h.note("pods of the second head waited at most %.1f s during the run", two.longest().Seconds())
	if err := os.WriteFile(filepath.Join(os.Getenv("MOORING_LAB_WRITE"), "heads-"+kind+".md"), []byte(headKinds[kind]+":\n\n"+h.report.String()), 0o644); err != nil {
		t.Error(err)
	}
}

func newHeads(t *testing.T, kind string) *heads {
	t.Helper()
	h := &heads{t: t, kind: kind, script: filepath.Join(t.TempDir(), "heads")}
	for name, text := range map[string][]byte{"heads": headsScript, "server": script} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(h.script), name), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.must("up")
	config := "shares:\n"
	for _, share := range []struct{ name, servers string }{{"first", headOne + ", " + headTwo}, {"second", headTwo + ", " + headOne}} {
		config += fmt.Sprintf("  - {name: %s, servers: [%s], path: %s, mountOptions: [nfsvers=4.2]}\n", share.name, share.servers, h.must("share", share.name))
	}
	var err error
	if h.Driver, err = lab.Start("all", filepath.Join(t.TempDir(), "driver"), config, "--node-id", "node-1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Stop(); err != nil {
			t.Error(err)
		}
		_ = os.WriteFile(filepath.Join(os.Getenv("MOORING_LAB_WRITE"), "heads-"+kind+".log"), []byte(h.Log()), 0o644)
	})
	return h
}

// must runs test/servers/heads. Daemons that it starts keep the output open, so that it goes to a file.
func (h *heads) must(action string, args ...string) string {
	h.t.Helper()
	out, err := os.CreateTemp(h.t.TempDir(), action)
	if err != nil {
		h.t.Fatal(err)
	}
	defer out.Close()
	said, err := os.CreateTemp(h.t.TempDir(), action)
	if err != nil {
		h.t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.Command(h.script, append([]string{action, h.kind}, args...)...)
	cmd.Stdout, cmd.Stderr = out, said
	err = cmd.Run()
	data, _ := os.ReadFile(out.Name())
	if err != nil {
		text, _ := os.ReadFile(said.Name())
		h.t.Fatalf("heads %s: %v: %s", action, err, text)
	}
	return strings.TrimSpace(string(data))
}

// at runs an action, and returns the time of its end.
func (h *heads) at(action string, args ...string) time.Time {
	h.t.Helper()
	h.must(action, args...)
	return time.Now()
}

// fails makes the first head fail, and returns the time.
func (h *heads) fails() time.Time {
	h.t.Helper()
	said := h.must("fail", "1")
	seconds, err := strconv.ParseFloat(said, 64)
	if err != nil {
		h.t.Fatal(err)
	}
	return time.UnixMicro(int64(seconds * 1e6))
}

func (h *heads) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	h.t.Log(line)
	h.report.WriteString("- " + line + "\n")
}

// failUnderLoad makes the first head fail while volumes are made, and checks that everything new uses the
// second.
func (h *heads) failUnderLoad(one, two *writer) {
	h.t.Helper()
	doomed := h.create("first", "doomed")
	made, finished := make(chan creation, provisionings), make(chan error, 1)
	volumes := make([]*csi.Volume, provisionings)
	began := time.Now()
	go func() { finished <- h.provision(volumes, made) }()
	for range atOnce {
		<-made
	}
	h.note("%d volumes are being created, %d at a time; the first %d exist after %.1f s", provisionings, atOnce, atOnce, time.Since(began).Seconds())
	since := h.fails()
	before := atOnce
	first := <-made
	for ; first.asked.Before(since); first = <-made {
		before++
	}
	h.note("the first head fails when %d volumes exist; the first volume of the second head exists %.1f s after the failure", before, first.made.Sub(since).Seconds())
	if err := <-finished; err != nil {
		h.t.Error(err)
	}
	h.note("all volumes exist %.1f s after the failure", time.Since(since).Seconds())
	began = time.Now()
	next := h.pod("first", "next")
	h.note("a new volume then takes %.1f s from CreateVolume to the first line that its pod writes", time.Since(began).Seconds())
	h.mountedFrom(next, headTwo)
	for what, do := range map[string]func() error{
		"NodeGetVolumeStats for the new volume": func() error {
			_, err := h.Node.NodeGetVolumeStats(h.soon(), &csi.NodeGetVolumeStatsRequest{VolumeId: next.volume.VolumeId, VolumePath: next.dir})
			return err
		},
		"DeleteVolume for an older volume": func() error {
			_, err := h.Controller.DeleteVolume(h.soon(), &csi.DeleteVolumeRequest{VolumeId: doomed.VolumeId})
			return err
		},
	} {
		began := time.Now()
		if err := retried(do); err != nil {
			h.t.Errorf("%s: %v", what, err)
		}
		h.note("%s takes %.1f s", what, time.Since(began).Seconds())
	}
	next.end()
	h.kept(next)
	if last := one.last(); last.After(since.Add(time.Second)) {
		h.t.Errorf("a pod of the first head was told that its line is on disk %v after that had failed", last.Sub(since))
	}
	two.wantWriting(h.t, "while the first head is gone")
	h.eachHasADirectory(volumes)
	h.wellFormed()
}

// creation is that of a volume: the time of the last call, and that of its success.
type creation struct{ asked, made time.Time }

// provision makes the volumes as external-provisioner does, and reports when each exists.
func (h *heads) provision(volumes []*csi.Volume, made chan<- creation) error {
	var all sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	errs := make([]error, len(volumes))
	for i := range volumes {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			var c creation
			errs[i] = retried(func() error {
				c.asked = time.Now()
				r, err := h.Controller.CreateVolume(h.soon(), request(fmt.Sprint("many-", i), map[string]string{"share": "first"}, nil))
				volumes[i] = r.GetVolume()
				return err
			})
			c.made = time.Now()
			made <- c
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// retried repeats a call, like a sidecar, as long as its error asks for a retry.
func retried(do func() error) error {
	for deadline := time.Now().Add(headPatience); ; time.Sleep(time.Second) {
		err := do()
		switch status.Code(err) {
		case codes.Aborted, codes.Unavailable, codes.DeadlineExceeded:
			if time.Now().Before(deadline) {
				continue
			}
		}
		return err
	}
}

// goesOn waits until a pod's writers have written again, and notes the errors that they got.
func (h *heads) goesOn(what string, since time.Time, w *writer) {
	h.t.Helper()
	for _, f := range []*file{w.plain, w.locked} {
		at, seen := f.after(since)
		text := fmt.Sprintf("%s: %s", what, f.what)
		if at.IsZero() {
			h.t.Errorf("%s does not continue; errors: %q", text, seen)
			h.note("%s does not continue; errors: %s", text, strings.Join(seen, ", "))
			continue
		}
		text += fmt.Sprintf(" continues after %.1f s", at.Sub(since).Seconds())
		if seen != nil {
			text += "; errors: " + strings.Join(seen, ", ")
		}
		h.note("%s", text)
	}
}

// replaced makes the first head fail, and gives its address to another machine.
func (h *heads) replaced(w *writer, how ...string) {
	h.t.Helper()
	h.fails()
	since := h.at("replace", how...)
	what := "another machine has the first head's address and its list of clients"
	if len(how) > 1 {
		what = "another machine has the first head's address, and no list of clients"
	}
	h.goesOn(what, since, w)
}
