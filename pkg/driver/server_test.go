// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// dial serves identity and controller on a socket and returns a connection to it.
func dial(t *testing.T, v Volumes, observe Observer) *grpc.ClientConn {
	t.Helper()
	endpoint := "unix://" + filepath.Join(socketDir(t), "csi.sock")
	listener, err := Listen(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(&Identity{Name: "d", Ready: &atomic.Bool{}}, &Controller{Volumes: v}, nil, observe)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); server.Stop(); <-done })
	return conn
}

// socketDir returns a directory with a short path: a socket's path has at most 107 bytes (unix(7)).
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// logTo writes the log of a verbosity to a buffer.
func logTo(t *testing.T, verbosity string) *buffer {
	t.Helper()
	state := klog.CaptureState()
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "alsologtostderr": "false", "stderrthreshold": "FATAL", "v": verbosity} {
		if err := flags.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	b := &buffer{}
	klog.SetOutput(b)
	t.Cleanup(state.Restore)
	return b
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	klog.Flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestLog checks that the log has the useful parts of an RPC, and no secret.
func TestLog(t *testing.T) {
	log := logTo(t, "5")
	var seen []string
	observe := func(method, code string, err error, took time.Duration) {
		if took <= 0 {
			t.Errorf("%s took %v", method, took)
		}
		if !slices.Contains(Codes(), code) || code != status.Code(err).String() {
			t.Errorf("%v is observed as %s", err, code)
		}
		seen = append(seen, method+" "+code)
	}
	v := volumes{&double{}}
	c := csi.NewControllerClient(dial(t, v, observe))
	request := &csi.CreateVolumeRequest{
		Name: "v1", Parameters: map[string]string{"share": "nas1"}, VolumeCapabilities: []*csi.VolumeCapability{capable(modeRWX)},
		Secrets: map[string]string{"mountOptions": "soft", "password": "hunter2"},
	}
	if _, err := c.CreateVolume(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	request.Secrets["mountOptions"] = "hun ter2"
	if _, err := c.CreateVolume(context.Background(), request); status.Code(err) != codes.InvalidArgument {
		t.Errorf("error of a bad secret = %v", err)
	}
	v.err = volume.Errorf(volume.ErrFull, "no space is left")
	if _, err := c.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: "nas1/v1"}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("error of a full share = %v", err)
	}
	text := log.String()
	for _, part := range []string{"RPC begins", "***stripped***", `rpc="CreateVolume"`, `name="v1"`, `rpc="DeleteVolume"`, `volume="nas1/v1"`, "RPC done", "RPC failed", "no space is left", `code="ResourceExhausted"`} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in the log", part)
		}
	}
	for _, secret := range []string{"hunter2", "hun ter2", "soft"} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret %q is in the log", secret)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	const prefix = "/csi.v1.Controller/"
	want := prefix + "CreateVolume OK, " + prefix + "CreateVolume InvalidArgument, " + prefix + "DeleteVolume ResourceExhausted"
	if got := strings.Join(seen, ", "); got != want {
		t.Errorf("observed = %s", got)
	}
}

// TestMethods checks the initial series of metrics: every method of the server and no other, and every
// code. docs/metrics.md has the number of series.
func TestMethods(t *testing.T) {
	identity, observe := &Identity{Name: "d", Ready: &atomic.Bool{}}, func(string, string, error, time.Duration) {}
	controller := Methods(NewServer(identity, &Controller{}, nil, observe))
	node := Methods(NewServer(identity, nil, &Node{}, observe))
	for _, method := range []string{"/csi.v1.Identity/Probe", "/csi.v1.Controller/CreateVolume", "/csi.v1.GroupController/CreateVolumeGroupSnapshot"} {
		if !slices.Contains(controller, method) {
			t.Errorf("%s is not among the controller's methods %q", method, controller)
		}
	}
	if !slices.Contains(node, "/csi.v1.Node/NodePublishVolume") || slices.Contains(node, "/csi.v1.Controller/CreateVolume") {
		t.Errorf("a node's methods = %q", node)
	}
	for _, code := range []codes.Code{codes.OK, codes.Internal, codes.Unknown} {
		if !slices.Contains(Codes(), code.String()) {
			t.Errorf("%v is not among the codes %q", code, Codes())
		}
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	c, n, k := len(controller), len(node), len(Codes())
	sentence := fmt.Sprintf("A controller has %d methods, a node has %d, and there are %d codes: %d and %d series.", c, n, k, c*k, n*k)
	if !strings.Contains(strings.Join(strings.Fields(string(page)), " "), sentence) {
		t.Errorf("docs/metrics.md does not have the sentence: %s", sentence)
	}
}

// TestQuiet checks that frequent RPCs are not in the log, except failures.
func TestQuiet(t *testing.T) {
	log := logTo(t, "2")
	conn := dial(t, volumes{&double{err: errors.New("no")}}, func(string, string, error, time.Duration) {})
	if _, err := csi.NewIdentityClient(conn).Probe(context.Background(), &csi.ProbeRequest{}); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); text != "" {
		t.Errorf("log = %s", text)
	}
	if _, err := csi.NewControllerClient(conn).GetCapacity(context.Background(), &csi.GetCapacityRequest{}); status.Code(err) != codes.Internal {
		t.Errorf("code of an error of no kind: %v", err)
	}
	if text := log.String(); !strings.Contains(text, "RPC failed") {
		t.Errorf("log = %s", text)
	}
}

// panics is a Volumes that panics.
type panics struct{ Volumes }

func (panics) Get(context.Context, volume.Handle) (*volume.Volume, error) { panic("oops") }

func TestPanic(t *testing.T) {
	log := logTo(t, "0")
	var seen atomic.Int64
	c := csi.NewControllerClient(dial(t, panics{}, func(_, _ string, err error, _ time.Duration) { seen.Store(int64(status.Code(err))) }))
	for range 2 { // the process survives
		_, err := c.ControllerGetVolume(context.Background(), &csi.ControllerGetVolumeRequest{VolumeId: "nas1/v1"})
		if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "oops") || codes.Code(seen.Load()) != codes.Internal {
			t.Errorf("error = %v, observed as %v", err, codes.Code(seen.Load()))
		}
	}
	if text := log.String(); !strings.Contains(text, "server_test.go") {
		t.Errorf("the log has no stack: %s", text)
	}
}

// TestDeadlines makes calls with late, early, and no deadlines.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			method        string
			timeout, want time.Duration // timeout 0: the caller sets no deadline
		}{
			{"CreateVolume", 0, 59 * time.Second}, {"CreateVolume", 10 * time.Minute, 59 * time.Second},
			{"CreateVolume", 20 * time.Second, 19 * time.Second}, {"CreateVolume", time.Second, 900 * time.Millisecond},
			{"NodeUnpublishVolume", 2 * time.Minute, 29 * time.Second}, {"NodeUnstageVolume", 0, 29 * time.Second},
			{"NodeGetVolumeStats", time.Minute, 4500 * time.Millisecond}, {"NodeGetVolumeHealth", 0, 4500 * time.Millisecond}, {"NodeGetVolumeStats", 2 * time.Second, 1800 * time.Millisecond},
		} {
			ctx, cancel := context.Background(), func() {}
			if c.timeout > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.timeout)
			}
			handler := func(ctx context.Context, _ any) (any, error) {
				deadline, ok := ctx.Deadline()
				if left := time.Until(deadline); !ok || left != c.want {
					t.Errorf("%s with timeout %v has %v left, want %v", c.method, c.timeout, left, c.want)
				}
				return nil, nil
			}
			_, _ = limitTime(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/csi.v1.X/" + c.method}, handler)
			cancel()
		}
	})
}

func TestListen(t *testing.T) {
	socket := filepath.Join(socketDir(t), "csi.sock")
	for _, endpoint := range []string{"unix://" + socket, "unix:" + socket, socket} {
		l, err := Listen(endpoint)
		if err != nil {
			t.Fatalf("%s: %v", endpoint, err)
		}
		if l.Addr().String() != socket {
			t.Errorf("%s is %s", endpoint, l.Addr())
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false) // a process that was killed
		_ = l.Close()
		if _, err := os.Lstat(socket); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket exists after Close (%v)", err)
	}

	inNew, err := Listen(filepath.Join(filepath.Dir(socket), "new", "csi.sock"))
	if err != nil {
		t.Fatal(err)
	}
	_ = inNew.Close()
	if _, err := Listen(filepath.Join(filepath.Dir(socket), "new", "newer", "newest", "csi.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory whose parent does not exist: %v", err)
	}

	other, err := Listen(filepath.Join(socketDir(t), "other.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, make := range []func() error{
		func() error { return os.WriteFile(socket, []byte("kept"), 0o600) },
		func() error { return os.Mkdir(socket, 0o700) },
		func() error { return os.Symlink("/nowhere", socket) },
		func() error { return os.Symlink(other.Addr().String(), socket) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if l, err := Listen("unix://" + socket); err == nil {
			_ = l.Close()
			t.Error("Listen replaced a file that is not a socket")
		}
		if err := os.Remove(socket); err != nil {
			t.Error(err)
		}
	}
	for _, endpoint := range []string{"", "unix://", "unix:", "http://x", "tcp:/x://y"} {
		_, err := Listen(endpoint)
		refused(t, endpoint, err, volume.ErrInvalid, "neither")
	}
	if _, err := Listen("unix:///no/such/directory/csi.sock"); err == nil {
		t.Error("Listen succeeds in a directory that does not exist")
	}
	tcp, err := Listen("tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if _, ok := tcp.Addr().(*net.TCPAddr); !ok {
		t.Errorf("address = %v, want TCP", tcp.Addr())
	}
}

func TestIdentity(t *testing.T) {
	ctx, ready := context.Background(), &atomic.Bool{}
	i := &Identity{Name: "nfs.csi.example", Version: "v1", Ready: ready}
	if info, err := i.GetPluginInfo(ctx, nil); err != nil || info.Name != i.Name || info.VendorVersion != "v1" {
		t.Errorf("plugin = %v, %v", info, err)
	}
	for _, want := range []bool{false, true} {
		ready.Store(want)
		if r, err := i.Probe(ctx, nil); err != nil || r.Ready.GetValue() != want {
			t.Errorf("ready is %v, %v, want %v", r, err, want)
		}
	}
	if r, err := i.GetPluginCapabilities(ctx, nil); err != nil || len(r.Capabilities) != 0 {
		t.Errorf("capabilities of a node = %v, %v", r, err)
	}
	i.Controller = true
	r, err := i.GetPluginCapabilities(ctx, nil)
	if err != nil || len(r.Capabilities) != 3 || r.Capabilities[0].GetService().GetType() != csi.PluginCapability_Service_CONTROLLER_SERVICE {
		t.Errorf("capabilities of a controller = %v, %v", r, err)
	}
}
