// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"context"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/pkg/doctor"
	"github.com/mooring-csi/mooring/pkg/probe"
	onshare "github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestMain lets tests that wait run in parallel: with the lab's one CPU, package testing would not. And
// it turns off delegations of directories in the client, since they hide changes that the tests make on
// the server. Older kernels do not have this parameter.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == doctor.ChildCommand {
		doctorsChild()
	}
	if len(os.Args) == 2 && os.Args[1] == probe.ChildCommand {
		if err := probe.Child(os.Stdin, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	_ = os.WriteFile("/sys/module/nfsv4/parameters/directory_delegations", []byte("N"), 0)
	m.Run()
}

// site is a share, nas1, in a directory of the lab's server, and the programs that use it.
type site struct {
	t      *testing.T
	path   string // exported path
	export string // local path on the server
	dir    string // local
	config string
	ctl    *lab.Driver
	killed map[*lab.Driver]bool
}

// newSite makes an empty share for the test. lines are added to its entry in the registry.
func newSite(t *testing.T, lines ...string) *site {
	t.Helper()
	path := lab.Exports + "/" + strings.Trim(regexp.MustCompile(`[^a-zA-Z0-9.]+`).ReplaceAllString(t.Name(), "-"), "-")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return newSiteAt(t, path, path, lines...)
}

// newSiteAt is newSite for an existing directory.
func newSiteAt(t *testing.T, path, export string, lines ...string) *site {
	t.Helper()
	return &site{t: t, path: path, export: export, dir: localDir(t), config: lab.Registry("nas1", path, lines...), killed: map[*lab.Driver]bool{}}
}

// localDir is t.TempDir that never removes what is still mounted in it when the test ends.
func localDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		for _, m := range mountsIn(t, dir) {
			t.Errorf("%s is still mounted at %s", m.Source, m.Mountpoint)
			_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	})
	return dir
}

// mountsIn lists the mounts under dir, from the mount table only.
func mountsIn(t *testing.T, dir string) []*mountinfo.Info {
	t.Helper()
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mount mounts the whole export as another client until the test ends.
func (s *site) mount(at, options string) {
	s.t.Helper()
	if out, err := exec.Command("mount", "-t", "nfs", "-o", options, lab.Server+":"+s.path, at).CombinedOutput(); err != nil {
		s.t.Fatalf("mount %s: %v: %s", at, err, out)
	}
	s.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
}

// start runs the program in a role until the test ends.
func (s *site) start(role, name string, args ...string) *lab.Driver {
	s.t.Helper()
	d, err := lab.Start(role, filepath.Join(s.dir, name), s.config, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if !s.killed[d] {
			if err := d.Stop(); err != nil {
				s.t.Errorf("%s %s did not end well: %v", role, name, err)
			}
		}
		if log := d.Log(); s.t.Failed() || strings.Contains(log, "panic") {
			s.t.Errorf("the log of %s:\n%s", name, log[max(0, len(log)-3000):])
		}
	})
	return d
}

// controller returns the site's controller, and starts it the first time.
func (s *site) controller() csi.ControllerClient {
	s.t.Helper()
	if s.ctl == nil {
		s.ctl = s.start("controller", "controller")
	}
	return s.ctl.Controller
}

// kill ends a program and its children like a crash.
func (s *site) kill(d *lab.Driver) {
	s.t.Helper()
	s.killed[d] = true
	if err := d.Crash(); err != nil {
		s.t.Fatal(err)
	}
}

// restart kills the controller and starts it again.
func (s *site) restart() {
	s.t.Helper()
	s.controller()
	s.kill(s.ctl)
	s.ctl = s.start("controller", "controller")
}

// open initializes the share as the first volume does, and makes the controller mount it.
func (s *site) open() csi.ControllerClient {
	s.t.Helper()
	sh, err := onshare.Open(s.export, volume.Share{Name: "nas1", Path: s.path}, onshare.Options{Maker: "test", Initialize: true})
	if err != nil {
		s.t.Fatal(err)
	}
	sh.Close()
	if _, err := s.controller().GetCapacity(soon(s.t), &csi.GetCapacityRequest{}); err != nil {
		s.t.Fatal(err)
	}
	return s.ctl.Controller
}

// soon returns a context that ends long after any call should.
func soon(t *testing.T) context.Context { return within(t, time.Minute) }

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// params are the parameters of a class.
type params map[string]string

// with returns p and more parameters: key, value, key, value.
func (p params) with(more ...string) params {
	q := maps.Clone(p)
	for pair := range slices.Chunk(more, 2) {
		q[pair[0]] = pair[1]
	}
	return q
}

// request is that of external-provisioner for the PVC claim-NAME in namespace team, on share nas1 unless
// p names another one.
func request(name string, p params, options ...string) *csi.CreateVolumeRequest {
	all := params{
		"csi.storage.k8s.io/pvc/name":      "claim-" + name,
		"csi.storage.k8s.io/pvc/namespace": "team",
		"csi.storage.k8s.io/pv/name":       name,
		"share":                            "nas1",
	}
	maps.Copy(all, p)
	return &csi.CreateVolumeRequest{
		Name: name, Parameters: all,
		CapacityRange:      &csi.CapacityRange{RequiredBytes: 1 << 30},
		VolumeCapabilities: []*csi.VolumeCapability{lab.RWX(options...)},
	}
}

func (s *site) create(name string, p params) (*csi.Volume, error) {
	r, err := s.controller().CreateVolume(soon(s.t), request(name, p))
	return r.GetVolume(), err
}

// mustCreate makes a volume with the directory dir; "" for the default.
func (s *site) mustCreate(name, dir string, more ...string) *csi.Volume {
	s.t.Helper()
	p := params{}.with(more...)
	if dir != "" {
		p["subDir"] = dir
	}
	v, err := s.create(name, p)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := v.GetVolumeContext()["subDir"]; dir != "" && got != dir {
		s.t.Fatalf("volume %s got the directory %q, not %q", name, got, dir)
	}
	return v
}

func (s *site) delete(id string) error {
	_, err := s.controller().DeleteVolume(soon(s.t), &csi.DeleteVolumeRequest{VolumeId: id})
	return err
}

func (s *site) mustDelete(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		if err := s.delete(id); err != nil {
			s.t.Fatalf("delete %s: %v", id, err)
		}
	}
}

// at returns the local path on the server of a name on the share.
func (s *site) at(elements ...string) string {
	return filepath.Join(append([]string{s.export}, elements...)...)
}

// wantCode checks the error of an RPC: its code, and that the message has all the words.
func wantCode(t *testing.T, err error, code codes.Code, words ...string) {
	t.Helper()
	if !wantError(t, err, code, words...) {
		t.FailNow()
	}
}

// wantError is wantCode for goroutines that must not end the test.
func wantError(t *testing.T, err error, code codes.Code, words ...string) (right bool) {
	t.Helper()
	if status.Code(err) != code {
		t.Errorf("the code is %v, not %v: %v", status.Code(err), code, err)
		return false
	}
	if code == codes.OK {
		return true
	}
	message := status.Convert(err).Message()
	if len(words) == 0 || strings.TrimSpace(message) == "" {
		t.Errorf("a test has to say what the message tells: %q", message)
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the message does not say %q: %s", word, message)
		}
	}
	return true
}

// waitTimeout is the timeout for what must happen, no matter how soon: the machine may be slow or busy.
const waitTimeout = 2 * time.Minute

// expiry is longer than the node uses what it last heard from a server or mount: upTTL of pkg/probe,
// healthyTTL of pkg/publish.
const expiry = 6 * time.Second

// prompt is the timeout of a call that must not wait for a dead server. One that does waits for minutes,
// or forever.
const prompt = 30 * time.Second

// eventually waits for something that happens in the background.
func eventually(t *testing.T, timeout time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(timeout); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", timeout, what)
		}
	}
}
