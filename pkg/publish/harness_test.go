// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// node is a Service on a fake mounter, with directories for volumes to be shown at.
type node struct {
	*Service
	*testing.T
	mounter  *mount.Fake
	usage    *usage
	registry *volume.Registry
	dir      string
}

// usage answers for any path, and notes which are asked for and which are forgotten.
type usage struct{ asked, forgotten []string }

func (u *usage) Of(_ context.Context, path string) (volume.Space, error) {
	u.asked = append(u.asked, path)
	return volume.Space{Total: 7}, nil
}

func (u *usage) Forget(path string) { u.forgotten = append(u.forgotten, path) }

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{T: t, dir: t.TempDir(), usage: &usage{}}
	for _, name := range []string{"root/export/v1", "root/export/v2", "pods"} {
		if err := os.MkdirAll(n.at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.mounter = &mount.Fake{Root: n.at("root")}
	n.registry = &volume.Registry{Shares: []volume.Share{{
		Name: "nas1", Servers: []string{"10.0.0.1"}, Path: "/export", MountOptions: []string{"nodev", "nfsvers=4.2"},
	}}}
	n.Service = New(func() *volume.Registry { return n.registry }, n.mounter, n.usage)
	return n
}

func (n *node) at(name string) string { return filepath.Join(n.dir, name) }

func (n *node) stage(directory string) error {
	return n.Stage(context.Background(), volume.Stage{
		ID: "nas1/" + directory, Location: volume.Location{Share: "nas1", Directory: directory}, Path: n.at("stage/" + directory),
	})
}

// publish shows v1 at a target beneath pods.
func (n *node) publish(target string, change func(*volume.Publish)) error {
	r := volume.Publish{ID: "nas1/v1", StagingPath: n.at("stage/v1"), Target: n.at("pods/" + target)}
	if change != nil {
		change(&r)
	}
	return n.Publish(context.Background(), r)
}

func (n *node) unstage(directory string) error {
	return n.Unstage(context.Background(), "nas1/"+directory, n.at("stage/"+directory))
}

func (n *node) unpublish(target string) error {
	return n.Unpublish(context.Background(), "nas1/v1", n.at("pods/"+target))
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// refused fails the test unless err is of that kind.
func (n *node) refused(what string, err, kind error) {
	n.Helper()
	if err == nil || volume.Kind(err) != kind {
		n.Errorf("%s: the error is %v (of kind %v), want kind %v", what, err, volume.Kind(err), kind)
	}
}

// mounted returns what is mounted at a path, and whether there is anything.
func (n *node) mounted(name string) (mount.Entry, bool) {
	n.Helper()
	table, err := n.mounter.Table()
	n.must(err)
	return table.At(n.at(name))
}

// did fails the test unless there have been so many mounts and binds.
func (n *node) did(mounts, binds int) {
	n.Helper()
	if n.mounter.Mounts != mounts || n.mounter.Binds != binds {
		n.Errorf("there were %d mounts and %d binds, want %d and %d", n.mounter.Mounts, n.mounter.Binds, mounts, binds)
	}
}

// absent fails the test if there is anything at a path.
func (n *node) absent(name string) {
	n.Helper()
	if _, err := os.Lstat(n.at(name)); !errors.Is(err, os.ErrNotExist) {
		n.Errorf("%s is still there (%v)", name, err)
	}
}
