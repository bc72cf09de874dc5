// SPDX-License-Identifier: Apache-2.0

//go:build lab

package secure

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// rig is the real program, controller and node, with one share.
type rig struct {
	t *testing.T
	*lab.Driver

	dir string
}

// newRig starts a rig until the test ends.
func newRig(t *testing.T, server, path string, options ...string) *rig {
	t.Helper()
	dir := t.TempDir()
	must(0, os.Chmod(filepath.Dir(dir), 0o755)) // for users
	config := fmt.Sprintf("shares:\n  - name: nas1\n    servers: [%s]\n    path: %s\n    mountOptions: [%s]\n", server, path, strings.Join(options, ", "))
	d, err := lab.Start("all", dir, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
		for _, m := range mountsIn(t, dir) {
			_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if t.Failed() {
			log := d.Log()
			t.Logf("the log:\n%s", log[max(0, len(log)-4000):])
		}
	})
	return &rig{t, d, dir}
}

func mountsIn(t *testing.T, dir string) []*mountinfo.Info {
	t.Helper()
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// within returns a context that ends long after a call should.
func (r *rig) within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

// create makes a volume whose directory has its name.
func (r *rig) create(name string, from *csi.VolumeContentSource, more ...string) (*csi.Volume, error) {
	p := map[string]string{"share": "nas1", "subDir": name}
	for i := 0; i+1 < len(more); i += 2 {
		p[more[i]] = more[i+1]
	}
	v, err := r.Controller.CreateVolume(r.within(), &csi.CreateVolumeRequest{
		Name: name, Parameters: p, VolumeContentSource: from,
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20}, VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
	})
	return v.GetVolume(), err
}

// snapshot makes a snapshot of a volume.
func (r *rig) snapshot(name, of string) (string, error) {
	s, err := r.Controller.CreateSnapshot(r.within(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: of})
	return s.GetSnapshot().GetSnapshotId(), err
}

// publish mounts a volume for a pod, and returns the path.
func (r *rig) publish(v *csi.Volume, options ...string) (string, error) {
	at := filepath.Join(r.dir, strings.ReplaceAll(v.GetVolumeId(), "/", "-"))
	_, err := r.Node.NodePublishVolume(r.within(), &csi.NodePublishVolumeRequest{
		VolumeId: v.GetVolumeId(), TargetPath: at, VolumeCapability: lab.RWX(options...), VolumeContext: v.GetVolumeContext(),
	})
	return at, err
}

func (r *rig) unpublish(v *csi.Volume, at string) {
	r.t.Helper()
	if _, err := r.Node.NodeUnpublishVolume(r.within(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.GetVolumeId(), TargetPath: at}); err != nil {
		r.t.Fatal(err)
	}
}

// must panics if there is an error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// fromSnapshot and fromVolume return the source of a volume.
func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// doctor returns the output of mooringctl doctor, on one line.
func (r *rig) doctor() string {
	r.t.Helper()
	out, _ := exec.Command(os.Getenv("MOORINGCTL_BINARY"), "doctor", "--config", filepath.Join(r.dir, "config.yaml")).CombinedOutput()
	return strings.Join(strings.Fields(string(out)), " ")
}

// has checks that a text has all the words.
func (r *rig) has(text string, words ...string) {
	r.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			r.t.Errorf("it does not say %q: %s", word, text)
		}
	}
}

// refuses checks the error of a call: its code and words.
func (r *rig) refuses(err error, code codes.Code, words ...string) {
	r.t.Helper()
	if status.Code(err) != code {
		r.t.Errorf("the code is %v, not %v: %v", status.Code(err), code, err)
	}
	r.has(status.Convert(err).Message(), words...)
}

// life takes a volume through its life: it is written, snapshotted, restored and deleted. Every mount of
// it has the option in the kernel's table.
func (r *rig) life(name, option string) {
	r.t.Helper()
	v := must(r.create(name, nil))
	at := must(r.publish(v))
	if err := os.WriteFile(filepath.Join(at, "file"), []byte("words of "+name), 0o640); err != nil {
		r.t.Fatal(err)
	}
	must(0, os.Chown(filepath.Join(at, "file"), 2000, 2000))
	s := must(r.snapshot(name+"-snap", v.GetVolumeId()))
	restored := must(r.create(name+"-restored", fromSnapshot(s)))
	cloned := must(r.create(name+"-cloned", fromVolume(v.GetVolumeId())))
	for _, copied := range []*csi.Volume{restored, cloned} {
		there := must(r.publish(copied))
		var st unix.Stat_t
		words, err := os.ReadFile(filepath.Join(there, "file"))
		if err != nil || string(words) != "words of "+name || unix.Stat(filepath.Join(there, "file"), &st) != nil || st.Uid != 2000 || st.Mode&0o777 != 0o640 {
			r.t.Errorf("%s: the copy is %q, %v, of %d, %o", copied.GetVolumeId(), words, err, st.Uid, st.Mode)
		}
		r.unpublish(copied, there)
	}
	mounts := mountsIn(r.t, r.dir)
	for _, m := range mounts {
		if !slices.Contains(strings.Split(m.VFSOptions, ","), option) {
			r.t.Errorf("it is mounted without %s: %+v", option, m)
		}
	}
	if len(mounts) != 2 {
		r.t.Errorf("there are %d mounts, and should be the pod's and the controller's", len(mounts))
	}
	r.unpublish(v, at)
	must(r.Controller.DeleteSnapshot(r.within(), &csi.DeleteSnapshotRequest{SnapshotId: s}))
	for _, v := range []*csi.Volume{v, restored, cloned} {
		must(r.Controller.DeleteVolume(r.within(), &csi.DeleteVolumeRequest{VolumeId: v.GetVolumeId()}))
	}
}

// absent is a volume that does not exist.
func absent(name string) *csi.Volume {
	return &csi.Volume{VolumeId: "nas1/" + name, VolumeContext: map[string]string{"share": "nas1", "subDir": name}}
}

// doctorSays checks the output of the doctor.
func (r *rig) doctorSays(words ...string) {
	r.t.Helper()
	r.has(r.doctor(), words...)
}
