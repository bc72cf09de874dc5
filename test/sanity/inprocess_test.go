// SPDX-License-Identifier: Apache-2.0

//go:build !lab

// Package sanity runs the CSI conformance suite, csi-sanity, with nothing skipped: here in
// process, on a temporary directory that a fake mounter mounts as an NFS share, and with the
// build tag lab against the real program and a real server.
package sanity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/driver"
	"github.com/mooring-csi/mooring/pkg/jobs"
	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/pool"
	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/provision"
	"github.com/mooring-csi/mooring/pkg/publish"
	"github.com/mooring-csi/mooring/pkg/share"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

func TestInProcess(t *testing.T) {
	dir := t.TempDir()
	endpoint := "unix://" + filepath.Join(dir, "csi.sock")
	if err := os.Mkdir(filepath.Join(dir, "export"), 0o755); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, endpoint)
	sanity.Test(t, testConfig(dir, endpoint))
	if left := leftOn(t, filepath.Join(dir, "export")); len(left) > 0 {
		t.Errorf("left on the share: %v", left)
	}
}

// serve starts controller and node like "mooring all", with another mounter and statfs.
func serve(t *testing.T, dir, endpoint string) {
	t.Helper()
	source, err := config.Open(writeConfig(t, dir, "127.0.0.1", "/export"))
	if err != nil {
		t.Fatal(err)
	}
	mounter := &mount.Fake{Root: dir}
	shares := pool.New(source.Current, mounter, filepath.Join(dir, "state"), pool.Options{Share: share.Options{Maker: "0a1b2c3d"}})
	purger := jobs.NewPurger(shares)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); purger.Run(ctx) }()
	copier := jobs.NewCopier(shares, purger, jobs.CopyOptions{})
	copied := make(chan struct{})
	go func() { defer close(copied); copier.Run(ctx) }()
	service := provision.New(shares, purger, copier, jobs.NewWatcher(shares).Fault)
	ready := &atomic.Bool{}
	ready.Store(true)
	node, err := publish.New(source.Current, mounter, probe.NewMounts(probe.NewServers(answers), statfs), filepath.Join(dir, "node"), func(ctx context.Context, r publish.ChildRequest) error {
		return mounter.Mount(ctx, mount.Spec{Source: r.Share.Source(r.Server, r.Directory), Target: r.Target, Options: r.Options})
	})
	if err != nil {
		t.Fatal(err)
	}
	server := driver.NewServer(
		&driver.Identity{Name: "nfs.csi.mooring.dev", Version: "test", Controller: true, Ready: ready},
		&driver.Controller{
			SnapshotController: driver.SnapshotController{Snapshots: service.Snapshots},
			Volumes:            service.Volumes, Groups: service.Groups, Health: service.Health,
		},
		&driver.Node{Pods: node.Pods, Health: node.Health, ID: "node-1", MaxVolumes: 100},
		func(string, string, error, time.Duration) {},
	)
	listener, err := driver.Listen(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() {
		server.Stop()
		cancel()
		<-done
		<-copied
		shares.Close()
	})
}

// answers lets probes of servers succeed that do not exist.
func answers(context.Context, probe.Endpoint) error { return nil }

func statfs(_ context.Context, m probe.Mount, began func()) (probe.MountStatus, error) {
	began()
	var st unix.Statfs_t
	err := unix.Statfs(m.Path, &st)
	return probe.MountStatus{Space: volume.NewSpace(st.Frsize, st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree)}, err
}

// writeConfig registers one share, nas1, and returns the path of the file.
func writeConfig(t *testing.T, dir, server, path string) string {
	t.Helper()
	file := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("shares:\n  - {name: nas1, servers: [%s], path: %s}\n", server, path)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
