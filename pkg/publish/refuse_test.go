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

func TestPublishRefuses(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.must(n.publish("ro", readOnly))
	n.must(n.publish("other", v2))
	n.must(os.WriteFile(n.at("pods/file"), []byte("kept"), 0o644))
	n.must(os.Symlink(n.at("root"), n.at("pods/link")))
	n.must(os.MkdirAll(n.at("root/v1"), 0o755))
	for what, c := range map[string]struct {
		target string
		change func(*volume.PublishRequest)
		kind   error
	}{
		"an unknown share":          {"new", func(r *volume.PublishRequest) { r.Location.Share = "nas9" }, volume.ErrPrecondition},
		"an unregistered export":    {"new", func(r *volume.PublishRequest) { r.Location.Share = "10.0.0.1:/other" }, volume.ErrPrecondition},
		"no directory":              {"new", func(r *volume.PublishRequest) { r.Location.Directory = "" }, volume.ErrInvalid},
		"a directory above":         {"new", func(r *volume.PublishRequest) { r.Location.Directory = "v1/../.." }, volume.ErrInvalid},
		"Mooring's own directory":   {"new", func(r *volume.PublishRequest) { r.Location.Directory = ".mooring/trash" }, volume.ErrInvalid},
		"options that rebind":       {"new", func(r *volume.PublishRequest) { r.Options = []string{"ro,bind"} }, volume.ErrInvalid},
		"options with an address":   {"new", func(r *volume.PublishRequest) { r.Options = []string{"addr=10.0.0.9"} }, volume.ErrInvalid},
		"no such directory":         {"new", func(r *volume.PublishRequest) { r.ID, r.Location.Directory = "nas1/v3", "v3" }, volume.ErrPrecondition},
		"another place, of this id": {"new", func(r *volume.PublishRequest) { r.Location.Directory = "v2" }, volume.ErrPrecondition},
		"a relative target":         {"", func(r *volume.PublishRequest) { r.Target = "pods/new" }, volume.ErrInvalid},
		"a name that is too long":   {strings.Repeat("x", 256), nil, volume.ErrInvalid},
		"a path that is too long":   {strings.Repeat("x/", 2100), nil, volume.ErrInvalid},
		"a NUL":                     {"ne\x00w", nil, volume.ErrInvalid},
		"no parent":                 {"none/new", nil, volume.ErrPrecondition},
		"a file as target":          {"file", nil, volume.ErrPrecondition},
		"a file as a parent":        {"file/new", nil, volume.ErrPrecondition},
		"a link as target":          {"link", nil, volume.ErrPrecondition},
		"another volume's target":   {"other", nil, volume.ErrExists},
		"read-only now":             {"a", readOnly, volume.ErrExists},
		"writable now":              {"ro", nil, volume.ErrExists},
		"a single pod's, of three":  {"new", single, volume.ErrPrecondition},
	} {
		n.refused(what, n.publish(c.target, c.change), c.kind)
	}
	n.wantMounts(2, 1)
	n.absent("pods/new")
	n.absent("pods/none")
	n.wantRecords(3)
	if data, err := os.ReadFile(n.at("pods/file")); string(data) != "kept" {
		t.Errorf("the file holds %q, %v", data, err)
	}

	n.registry.Unregistered = true
	n.registry.MountOptions = []string{"nosuid"}
	n.must(n.publish("u", func(r *volume.PublishRequest) { r.ID, r.Location.Share = "10.0.0.2:/export/v1", "10.0.0.2:/export" }))
	if e, _ := n.mounted("pods/u"); e.Source != "10.0.0.2:/export/v1" {
		t.Errorf("mount of an unregistered export = %+v", e)
	}
}

func TestSingleWriter(t *testing.T) {
	n := newNode(t)
	for range 2 {
		n.must(n.publish("a", single))
	}
	for what, meanwhile := range map[string]func(){
		"at once":            func() {},
		"after a restart":    func() { n.Service = n.service(n.mounter) },
		"without the record": func() { n.must(os.RemoveAll(n.at("state"))); n.Service = n.service(n.mounter) },
		"moved, without the record": func() {
			n.must(os.RemoveAll(n.at("state")))
			n.Service = n.service(n.mounter)
			n.registry.Shares[0].Servers = []string{"nas.example"}
		},
	} {
		meanwhile()
		err := n.publish("b", single)
		n.refused("a second pod, "+what, err, volume.ErrPrecondition)
		if err != nil && !strings.Contains(err.Error(), n.at("pods/a")) {
			t.Errorf("%v does not name the pod that has the volume", err)
		}
	}
	n.absent("pods/b")
	n.must(n.publish("c", func(r *volume.PublishRequest) { v2(r); single(r) })) // another volume
	n.registry.Shares[0].Servers = []string{"10.0.0.1"}
	n.registry.Shares = append(n.registry.Shares, volume.Share{Name: "nas2", Servers: []string{"10.0.0.2"}, Path: "/export"})
	n.must(n.publish("d", func(r *volume.PublishRequest) { r.ID, r.Location.Share = "nas2/v1", "nas2"; single(r) })) // of another server
	n.must(n.unpublish("a"))
	n.must(n.publish("b", single))
}

func TestUnpublishRefuses(t *testing.T) {
	n := newNode(t)
	ctx := context.Background()
	n.refused("a relative target", n.Pods.Unpublish(ctx, "nas1/v1", "pods/a"), volume.ErrInvalid)
	n.must(os.MkdirAll(n.at("pods/full/data"), 0o755))
	n.must(os.WriteFile(n.at("pods/file"), []byte("kept"), 0o644))
	n.must(os.Symlink(n.at("root"), n.at("pods/link")))
	for _, target := range []string{"full", "file", "link"} {
		n.refused(target, n.unpublish(target), volume.ErrPrecondition)
		if _, err := os.Lstat(n.at("pods/" + target)); err != nil {
			t.Errorf("removed what is not ours: %v", err)
		}
	}
	n.must(n.unpublish("none/a"))

	n.must(n.publish("a", nil))
	wrong := errors.New("no")
	n.mounter.Fail = func(string, string) error { return wrong }
	n.probes.forgotten = nil
	if err := n.unpublish("a"); !errors.Is(err, wrong) {
		t.Errorf("error of a failed unmount = %v", err)
	}
	if len(n.probes.forgotten) > 0 {
		t.Errorf("forgotten while mounted: %q", n.probes.forgotten)
	}
}

// TestBusy makes a mount hang: its path is busy, and nothing else is.
func TestBusy(t *testing.T) {
	n := newNode(t)
	ownSingle := func(r *volume.PublishRequest) { own(r); single(r) }
	hangs, end := make(chan string), make(chan struct{})
	n.Service = n.service(&hanging{n.mounter, hangs, end})
	done := make(chan error)
	go func() { done <- n.publish("slow", own) }()
	<-hangs
	n.refused("the same pod", n.publish("slow", own), volume.ErrBusy)
	n.refused("the pod goes", n.unpublish("slow"), volume.ErrBusy)
	n.refused("to be the only pod", n.publish("b", ownSingle), volume.ErrBusy)
	n.must(n.publish("a", own))
	n.must(n.unpublish("a"))
	n.must(n.publish("c", v2))
	close(end)
	n.must(<-done)
	n.must(n.unpublish("slow"))
	n.must(n.publish("b", ownSingle))
}

// hanging is a Mounter whose mounts at a target named "slow" send on hangs and wait until end is closed.
type hanging struct {
	Mounter
	hangs chan<- string
	end   <-chan struct{}
}

func (h *hanging) Mount(ctx context.Context, s mount.Spec) error {
	if filepath.Base(s.Target) == "slow" {
		h.hangs <- s.Target
		<-h.end
	}
	return h.Mounter.Mount(ctx, s)
}

// TestOtherOptions requests other mount options than those of an existing mount: it is not shared, and a
// process without a record does not adopt it at the target.
func TestOtherOptions(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.registry.Shares[0].MountOptions = []string{"nodev", "nfsvers=4.1"}
	n.must(n.publish("a", nil)) // a change of the registry affects only the next pod
	n.must(n.publish("b", nil))
	n.wantMounts(2, 0)
	n.must(os.RemoveAll(n.at("state")))
	n.Service = n.service(n.mounter)
	n.refused("by another version", n.publish("a", nil), volume.ErrPrecondition)
	n.must(n.publish("b", nil))
}

// TestRegistryChanges changes a share while a pod has a volume of it: kubelet can repeat its request,
// as it does after a restart.
func TestRegistryChanges(t *testing.T) {
	for what, change := range map[string]func(s *volume.Registry){
		"another path":   func(r *volume.Registry) { r.Shares[0].Path = "/elsewhere" },
		"another server": func(r *volume.Registry) { r.Shares[0].Servers = []string{"10.0.0.9"} },
		"no such share":  func(r *volume.Registry) { r.Shares = nil },
	} {
		n := newNode(t)
		n.must(n.publish("a", readOnly))
		change(n.registry)
		n.must(n.publish("a", readOnly))
		n.Service = n.service(n.mounter)
		n.must(n.publish("a", func(r *volume.PublishRequest) { readOnly(r); r.Options = []string{"noatime"} }))
		if err := n.publish("a", readOnly); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := n.publish("a", nil); err == nil {
			t.Errorf("%s: a request to write succeeds on a read-only mount", what)
		}
	}
}

// TestLinkOnServer publishes a directory that is a symbolic link on the server, which the table shows.
func TestLinkOnServer(t *testing.T) {
	n := newNode(t)
	follow := &following{Fake: n.mounter, from: "/export/v1", to: "/export/v2"}
	n.Service = n.service(follow)
	err := n.publish("a", nil)
	n.refused("a link", err, volume.ErrPrecondition)
	n.absent("pods/a")
	n.wantRecords(0)
	follow.from, follow.to = "/export", "/volume1/export" // the share's own path may lead elsewhere
	for range 2 {
		n.must(n.publish("a", nil))
	}
	n.must(n.publish("b", nil))
	if n.mounter.Binds != 1 {
		t.Error("the mount is not shared")
	}
}

// following is a mounter whose table has another path than the request to mount.
type following struct {
	*mount.Fake
	from, to string
}

func (f *following) Table() (mount.Table, error) {
	table, err := f.Fake.Table()
	for i, e := range table {
		table[i].Source = strings.Replace(e.Source, f.from, f.to, 1)
	}
	return table, err
}

// TestInsideVolume uses paths inside a mounted volume, and /.
func TestInsideVolume(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	inside := func(r *volume.PublishRequest) { r.Target = n.at("pods/a/b") }
	n.refused("publish", n.publish("", inside), volume.ErrInvalid)
	n.refused("unpublish", n.unpublish("a/b/c"), volume.ErrInvalid)
	_, err := n.Health.Usage(context.Background(), "nas1/v1", n.at("pods/a/b"))
	n.refused("usage", err, volume.ErrNotFound)
	n.refused("unpublish /", n.Pods.Unpublish(context.Background(), "nas1/v1", "/"), volume.ErrInvalid)
}

// TestTwoIDs publishes one directory as two volumes with two ids, each for a single pod.
func TestTwoIDs(t *testing.T) {
	n := newNode(t)
	hangs, end := make(chan string), make(chan struct{})
	n.Service = n.service(&hanging{n.mounter, hangs, end})
	done := make(chan error)
	go func() { done <- n.publish("slow", single) }()
	<-hangs
	other := func(r *volume.PublishRequest) { r.ID = "other"; single(r) }
	n.refused("at once", n.publish("b", other), volume.ErrBusy)
	close(end)
	n.must(<-done)
	n.refused("afterwards", n.publish("b", other), volume.ErrPrecondition)
}
