// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// TestRegistration makes the calls that kubelet makes.
func TestRegistration(t *testing.T) {
	dir := t.TempDir()
	unmasked := unix.Umask(0) // as in the driver
	defer unix.Umask(unmasked)
	var ready atomic.Bool
	server, listener, err := NewRegistration("nfs.csi.mooring.dev", "unix:///var/lib/kubelet/plugins/mooring/csi.sock", dir, ready.Store)
	if err != nil {
		t.Fatal(err)
	}
	// A directory that does not exist is not kubelet's: to make it would hide that.
	if _, _, err := NewRegistration("nfs.csi.mooring.dev", "unix:///csi.sock", filepath.Join(dir, "none"), ready.Store); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("registered in a directory that does not exist: %v", err)
	}
	go func() { _ = server.Serve(listener) }()
	socket := filepath.Join(dir, "nfs.csi.mooring.dev-reg.sock")
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("socket = %v, %v", info.Mode(), err)
	}
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := registerapi.NewRegistrationClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	info, err := client.GetInfo(ctx, &registerapi.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if info.GetType() != "CSIPlugin" || info.GetName() != "nfs.csi.mooring.dev" || info.GetEndpoint() != "/var/lib/kubelet/plugins/mooring/csi.sock" ||
		!slices.Equal(info.GetSupportedVersions(), []string{"1.0.0"}) {
		t.Errorf("plugin = %v", info)
	}
	for _, taken := range []bool{true, false} {
		if _, err := client.NotifyRegistrationStatus(ctx, &registerapi.RegistrationStatus{PluginRegistered: taken, Error: "no"}); err != nil {
			t.Error(err)
		}
		if ready.Load() != taken {
			t.Errorf("registered: %v; ready: %v", taken, ready.Load())
		}
	}
	server.GracefulStop()
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket stays, so that kubelet would still call it: %v", err)
	}
	for _, endpoint := range []string{"tcp://127.0.0.1:1", "csi.sock", "unix:"} {
		if _, _, err := NewRegistration("d", endpoint, dir, ready.Store); err == nil {
			t.Errorf("endpoint %q is accepted", endpoint)
		}
	}
	if _, _, err := NewRegistration("d", "unix:///csi.sock", filepath.Join(dir, "none"), ready.Store); err == nil || !strings.Contains(err.Error(), "register with kubelet") {
		t.Errorf("error = %v", err)
	}
}

// TestAlive calls drivers that are ready, are not ready, and do not exist.
func TestAlive(t *testing.T) {
	endpoint := "unix://" + filepath.Join(t.TempDir(), "csi.sock")
	if err := Alive(context.Background(), endpoint, false); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("without a driver: %v", err)
	}
	listener, err := Listen(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	identity := &Identity{Ready: &atomic.Bool{}}
	server := NewServer(identity, nil, nil, func(string, string, error, time.Duration) {})
	defer server.Stop()
	go func() { _ = server.Serve(listener) }()
	if err := Alive(context.Background(), endpoint, true); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("a driver that is not ready: %v", err)
	}
	if err := Alive(context.Background(), endpoint, false); err != nil {
		t.Errorf("a driver that is ready: %v", err)
	}
	identity.Ready.Store(true)
	if err := Alive(context.Background(), endpoint, true); err != nil {
		t.Error(err)
	}
	if err := Alive(context.Background(), "unix:", false); err == nil {
		t.Error("an invalid endpoint is alive")
	}
}
