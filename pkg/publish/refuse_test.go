// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestStageRefuses(t *testing.T) {
	n := newNode(t)
	n.must(os.WriteFile(n.at("file"), []byte("kept"), 0o644))
	n.must(os.Symlink(n.at("root"), n.at("link")))
	n.must(n.stage("v2"))
	n.must(os.MkdirAll(n.at("root/v1"), 0o755))
	for what, c := range map[string]struct {
		change func(*volume.Stage)
		kind   error
	}{
		"an unknown share":        {func(r *volume.Stage) { r.Location.Share = "nas9" }, volume.ErrConflict},
		"an unregistered export":  {func(r *volume.Stage) { r.Location.Share = "10.0.0.1:/other" }, volume.ErrConflict},
		"no directory":            {func(r *volume.Stage) { r.Location.Directory = "" }, volume.ErrInvalid},
		"a directory above":       {func(r *volume.Stage) { r.Location.Directory = "v1/../.." }, volume.ErrInvalid},
		"Mooring's own directory": {func(r *volume.Stage) { r.Location.Directory = ".mooring/trash" }, volume.ErrInvalid},
		"options that rebind":     {func(r *volume.Stage) { r.Options = []string{"ro,bind"} }, volume.ErrInvalid},
		"options with an address": {func(r *volume.Stage) { r.Options = []string{"addr=10.0.0.9"} }, volume.ErrInvalid},
		"a relative path":         {func(r *volume.Stage) { r.Path = "stage" }, volume.ErrInvalid},
		"no path":                 {func(r *volume.Stage) { r.Path = "" }, volume.ErrInvalid},
		"a file in the way":       {func(r *volume.Stage) { r.Path = n.at("file") }, volume.ErrConflict},
		"a file as a parent":      {func(r *volume.Stage) { r.Path = n.at("file/v1") }, volume.ErrConflict},
		"a link in the way":       {func(r *volume.Stage) { r.Path = n.at("link") }, volume.ErrConflict},
		"another volume's stage":  {func(r *volume.Stage) { r.Path = n.at("stage/v2") }, volume.ErrIncompatible},
		"no such directory":       {func(r *volume.Stage) { r.Location.Directory = "v3" }, volume.ErrConflict},
	} {
		r := volume.Stage{ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: "v1"}, Path: n.at("stage/v1")}
		c.change(&r)
		n.refused(what, n.Stages.Stage(context.Background(), r), c.kind)
	}
	n.did(1, 0)
	if data, err := os.ReadFile(n.at("file")); string(data) != "kept" {
		t.Errorf("the file in the way holds %q, %v", data, err)
	}

	n.registry.Unregistered = true
	n.registry.MountOptions = []string{"nosuid"}
	r := volume.Stage{ID: "10.0.0.2:/export/v1", Location: volume.Location{Share: "10.0.0.2:/export", Directory: "v1"}, Path: n.at("stage/u")}
	n.must(n.Stages.Stage(context.Background(), r))
	if e, _ := n.mounted("stage/u"); e.Source != "10.0.0.2:/export/v1" {
		t.Errorf("of an unregistered export, mounted is %+v", e)
	}
}

func TestPublishRefuses(t *testing.T) {
	n := newNode(t)
	n.refused("a volume that is not staged", n.publish("a", nil), volume.ErrConflict)
	n.absent("pods/a")
	n.must(n.stage("v1"))
	n.must(n.stage("v2"))
	n.must(n.publish("a", nil))
	n.must(n.publish("ro", func(r *volume.Publish) { r.ReadOnly = true }))
	n.must(os.WriteFile(n.at("pods/file"), []byte("kept"), 0o644))
	n.must(os.Symlink(n.at("root"), n.at("pods/link")))
	for what, c := range map[string]struct {
		target string
		change func(*volume.Publish)
		kind   error
	}{
		"a stage elsewhere":        {"new", func(r *volume.Publish) { r.StagingPath = n.at("stage/v3") }, volume.ErrConflict},
		"a relative target":        {"", func(r *volume.Publish) { r.Target = "pods/new" }, volume.ErrInvalid},
		"a relative stage":         {"new", func(r *volume.Publish) { r.StagingPath = "stage/v1" }, volume.ErrInvalid},
		"no parent":                {"none/new", nil, volume.ErrConflict},
		"a file in the way":        {"file", nil, volume.ErrConflict},
		"a file as a parent":       {"file/new", nil, volume.ErrConflict},
		"a link in the way":        {"link", nil, volume.ErrConflict},
		"another volume's target":  {"a", func(r *volume.Publish) { r.StagingPath = n.at("stage/v2") }, volume.ErrIncompatible},
		"read-only now":            {"a", func(r *volume.Publish) { r.ReadOnly = true }, volume.ErrIncompatible},
		"writable now":             {"ro", nil, volume.ErrIncompatible},
		"a single pod's, of three": {"new", func(r *volume.Publish) { r.SingleWriter = true }, volume.ErrConflict},
	} {
		n.refused(what, n.publish(c.target, c.change), c.kind)
	}
	n.did(2, 2)
	n.absent("pods/new")
	n.absent("pods/none")
	if data, err := os.ReadFile(n.at("pods/file")); string(data) != "kept" {
		t.Errorf("the file in the way holds %q, %v", data, err)
	}
}

// TestReadOnlyStage has a PV with the mount option ro: then every pod's view is read-only.
func TestReadOnlyStage(t *testing.T) {
	n := newNode(t)
	n.must(n.Stages.Stage(context.Background(), volume.Stage{
		ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: "v1"}, Path: n.at("stage/v1"), Options: []string{"ro"},
	}))
	for range 2 {
		n.must(n.publish("a", nil))
	}
	n.did(1, 1)
}

func TestSingleWriter(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	n.must(n.stage("v2"))
	single := func(r *volume.Publish) { r.SingleWriter = true }
	for range 2 {
		n.must(n.publish("a", single))
	}
	err := n.publish("b", single)
	n.refused("a second pod", err, volume.ErrConflict)
	if err != nil && !strings.Contains(err.Error(), n.at("pods/a")) {
		t.Errorf("%v does not say which pod has the volume", err)
	}
	n.absent("pods/b")
	n.must(n.publish("c", func(r *volume.Publish) { // another volume
		r.ID, r.StagingPath, r.SingleWriter = "nas1/v2", n.at("stage/v2"), true
	}))
	n.must(n.unpublish("a"))
	n.must(n.publish("b", single))
}

func TestUnpublishRefuses(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.refused("a relative target", n.Pods.Unpublish(ctx, "nas1/v1", "pods/a"), volume.ErrInvalid)
	n.refused("a relative stage", n.Stages.Unstage(ctx, "nas1/v1", "stage"), volume.ErrInvalid)
	n.must(os.MkdirAll(n.at("pods/full/data"), 0o755))
	n.must(os.WriteFile(n.at("pods/file"), []byte("kept"), 0o644))
	n.must(os.Symlink(n.at("root"), n.at("pods/link")))
	for _, target := range []string{"full", "file", "link"} {
		n.refused(target, n.unpublish(target), volume.ErrConflict)
		if _, err := os.Lstat(n.at("pods/" + target)); err != nil {
			t.Errorf("what is not ours was removed: %v", err)
		}
	}
	n.must(n.unpublish("none/a"))

	n.must(n.stage("v1"))
	n.must(n.publish("a", nil))
	wrong := errors.New("no")
	n.mounter.Fail = func(string, string) error { return wrong }
	n.probes.forgotten = nil
	if err := n.unpublish("a"); !errors.Is(err, wrong) {
		t.Errorf("an unmount that failed is %v", err)
	}
	if err := n.unstage("v1"); !errors.Is(err, wrong) {
		t.Errorf("an unmount that failed is %v", err)
	}
	if len(n.probes.forgotten) > 0 {
		t.Errorf("what is still mounted is forgotten: %q", n.probes.forgotten)
	}
}

// TestBusy has a mount hang: that volume and that path are busy, and nothing else is.
func TestBusy(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v2"))
	hangs, end := make(chan string), make(chan struct{})
	slow := n.service(&hanging{n.mounter, hangs, end})
	stage := volume.Stage{ID: "nas1/v1", Location: volume.Location{Share: "nas1", Directory: "v1"}, Path: n.at("stage/v1")}
	done := make(chan error)
	go func() { done <- slow.Stages.Stage(context.Background(), stage) }()
	<-hangs

	n.Service = slow
	n.refused("stage again", n.stage("v1"), volume.ErrBusy)
	n.refused("publish", n.publish("a", nil), volume.ErrBusy)
	n.refused("unpublish", n.unpublish("a"), volume.ErrBusy)
	n.refused("unstage", n.unstage("v1"), volume.ErrBusy)
	n.refused("another volume on the same path", slow.Stages.Unstage(context.Background(), "nas1/v2", n.at("stage/v1/")), volume.ErrBusy)
	other := volume.Publish{ID: "nas1/v2", StagingPath: n.at("stage/v2"), Target: n.at("pods/other")}
	n.must(slow.Pods.Publish(context.Background(), other))
	n.must(slow.Pods.Unpublish(context.Background(), other.ID, other.Target))

	close(end)
	n.must(<-done)
	n.must(n.publish("a", nil))
}

// TestPodsDoNotWait has a bind hang: the volume's other pods go on, and its stage stays.
func TestPodsDoNotWait(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	hangs, end := make(chan string), make(chan struct{})
	n.Service = n.service(&hanging{n.mounter, hangs, end})
	done := make(chan error)
	go func() { done <- n.publish("slow", nil) }()
	<-hangs
	n.must(n.publish("a", nil))
	n.must(n.unpublish("a"))
	n.refused("the same pod", n.publish("slow", nil), volume.ErrBusy)
	n.refused("unstage under a pod", n.unstage("v1"), volume.ErrBusy)
	n.refused("a single pod's", n.publish("b", func(r *volume.Publish) { r.SingleWriter = true }), volume.ErrBusy)
	close(end)
	n.must(<-done)
	n.must(n.unstage("v1"))
}

// hanging is a Mounter of which some calls say on a channel that they hang, and do until
// another is closed: mounts, and binds at a target that is named slow.
type hanging struct {
	Mounter
	hangs chan<- string
	end   <-chan struct{}
}

func (h *hanging) Mount(ctx context.Context, s mount.Spec) error {
	h.hangs <- s.Target
	<-h.end
	return h.Mounter.Mount(ctx, s)
}

func (h *hanging) Bind(ctx context.Context, source, target string, readOnly bool) error {
	if filepath.Base(target) == "slow" {
		h.hangs <- target
		<-h.end
	}
	return h.Mounter.Bind(ctx, source, target, readOnly)
}
