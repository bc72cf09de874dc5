// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// patience is the timeout for what must happen. It is shorter after a failure.
const patience, impatience = 3 * time.Minute, 20 * time.Second

// site is an empty share of the server, and the program that uses it.
type site struct {
	t     *testing.T
	guest *guest
	run   try
	out   *result
	part  string
	dir   string
	path  string // exported path of the share
	file  string // configuration file
	*lab.Driver
}

func (g *guest) site(t *testing.T, r try, out *result, part string) *site {
	t.Helper()
	s := &site{t: t, guest: g, run: r, out: out, part: part, dir: t.TempDir(), path: g.share()}
	var err error
	s.Driver, err = lab.Start("all", filepath.Join(s.dir, "driver"), config(r, s.path), "--node-id", "node-1", "--max-volumes-per-node", "20")
	if err != nil {
		t.Fatal(err)
	}
	s.file = filepath.Join(s.Dir, "config.yaml")
	return s
}

// broken notes the error of a step, and reports whether there was one.
func (s *site) broken(step string, err error) bool {
	if err != nil {
		s.out.Broken = append(s.out.Broken, fmt.Sprintf("%s: %s: %v", s.part, step, err))
	}
	return err != nil
}

// end checks that nothing is left on the share or mounted, and that the program ends without an error.
func (s *site) end() {
	if !s.run.hopeless {
		s.broken("the end", s.emptied())
		s.broken("check", s.check())
	}
	s.broken("the end of the program", s.Stop())
	if n, _ := lab.Mounts(os.Getpid()); n != 0 {
		s.broken("the end", fmt.Errorf("%d NFS mounts are left", n))
	}
	log := filepath.Join(os.Getenv("MOORING_LAB_WRITE"), fmt.Sprintf("%s-%s-%s.log", s.guest.server.name, strings.ReplaceAll(s.run.name(), " ", ""), s.part))
	if err := os.WriteFile(log, []byte(s.Log()), 0o644); err != nil {
		s.t.Error(err)
	}
}

// soon returns a context for a call.
func (s *site) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

// again is [again] with a shorter timeout after a failure of the part.
func (s *site) again(do func() error) error {
	if len(s.out.faultsOf(s.part)) > 0 {
		return again(impatience, do)
	}
	return again(patience, do)
}

// again repeats a failing call, like a sidecar, and returns the last error after the timeout.
func again(limit time.Duration, do func() error) error {
	var err error
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = do(); err == nil {
			return nil
		}
	}
	return err
}

// layout is Mooring's own files on an empty share.
var layout = map[string]bool{
	".": true, ".mooring": true, ".mooring/format.json": true, ".mooring/id.json": true, ".mooring/heartbeat": true, ".mooring/volumes": true, ".mooring/claims": true,
	".mooring/parents": true, ".mooring/snapshots": true, ".mooring/groups": true, ".mooring/jobs": true, ".mooring/staging": true, ".mooring/trash": true,
}

// emptied waits until the share has only the layout.
func (s *site) emptied() error {
	return s.again(func() error {
		var left []string
		err := s.look(func(dir string) error {
			return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) && path != dir {
					return nil // purged meanwhile
				}
				if name, _ := filepath.Rel(dir, path); err == nil && !layout[name] {
					left = append(left, name)
				}
				return err
			})
		})
		if err == nil && left != nil {
			err = fmt.Errorf("left on the share: %q", left[:min(len(left), 10)])
		}
		return err
	})
}

// mountAs mounts as the NFS client of a host name: servers identify NFSv4 clients by it. "" is this machine's.
func mountAs(host, source, dir, options string) error {
	out, err := exec.Command("unshare", "--uts", "sh", "-c", `[ -z "$1" ] || hostname "$1"; exec mount -t nfs -o "$2" "$3" "$4"`,
		"sh", host, options, source, dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	return nil
}

// look mounts the share for do. Each call makes a new mount, without caches.
func (s *site) look(do func(dir string) error) error {
	dir, err := os.MkdirTemp(s.dir, "look")
	if err != nil {
		return err
	}
	if err := mountAs("", lab.Server+":"+s.path, dir, "nosharecache,softerr,timeo=50,retrans=2,"+s.run.all()); err != nil {
		return err
	}
	defer func() { _ = exec.Command("umount", "-l", dir).Run() }()
	return do(dir)
}

// check checks that mooringctl check finds nothing, not even notes. Interrupted work is reported for a
// while. A killed server may leave a part of a creation, which is removed with its volume. That the
// share belongs to another user than root is what root_squash means.
func (s *site) check() error {
	return s.again(func() error {
		out, said, err := mooringctl(s.file, "check", "-o", "json")
		var found []struct{ What, Remedy string }
		if bad := json.Unmarshal(out, &found); bad != nil {
			return fmt.Errorf("%w: %v: %s", bad, err, said)
		}
		err = nil // the exit code says that there are findings
		for _, f := range found {
			left := s.part == "outage" && strings.HasPrefix(f.Remedy, "nothing has to be done")
			squashed := strings.HasSuffix(s.guest.server.name, "-squash") && strings.HasPrefix(f.What, "it belongs to the user")
			if !left && !squashed {
				err = errors.Join(err, errors.New("a problem was found"))
				break
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s %s", err, out, said)
		}
		return nil
	})
}

func request(name string, more map[string]string, from *csi.VolumeContentSource) *csi.CreateVolumeRequest {
	params := map[string]string{
		"share": "nas1", "csi.storage.k8s.io/pvc/name": "claim-" + name, "csi.storage.k8s.io/pvc/namespace": "team", "csi.storage.k8s.io/pv/name": name,
	}
	maps.Copy(params, more)
	return &csi.CreateVolumeRequest{
		Name: name, Parameters: params, VolumeCapabilities: []*csi.VolumeCapability{lab.RWX()},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30}, VolumeContentSource: from,
	}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// create makes a volume; nil after a failure, which it notes.
func (s *site) create(r *csi.CreateVolumeRequest) *csi.Volume {
	made, err := repeated(func() (*csi.CreateVolumeResponse, error) { return s.Controller.CreateVolume(s.soon(), r) })
	if s.broken("create "+r.Name, err) {
		return nil
	}
	return made.Volume
}

// repeated makes a call up to three times if its error asks for a retry: on a busy machine the server may
// answer late.
func repeated[T any](call func() (T, error)) (answer T, err error) {
	for range 3 {
		answer, err = call()
		if !slices.Contains([]codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Aborted}, status.Code(err)) {
			break
		}
	}
	return answer, err
}

func (s *site) snapshot(name string, v *csi.Volume) *csi.Snapshot {
	made, err := repeated(func() (*csi.CreateSnapshotResponse, error) {
		return s.Controller.CreateSnapshot(s.soon(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v.VolumeId})
	})
	if s.broken("snapshot", err) {
		return nil
	}
	return made.Snapshot
}

func (s *site) delete(volumes ...*csi.Volume) {
	for _, v := range volumes {
		if v != nil {
			_, err := repeated(func() (*csi.DeleteVolumeResponse, error) {
				return s.Controller.DeleteVolume(s.soon(), &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
			})
			s.broken("delete "+v.VolumeId, err)
		}
	}
}

func (s *site) deleteSnapshot(snap *csi.Snapshot) {
	if snap != nil {
		_, err := repeated(func() (*csi.DeleteSnapshotResponse, error) {
			return s.Controller.DeleteSnapshot(s.soon(), &csi.DeleteSnapshotRequest{SnapshotId: snap.SnapshotId})
		})
		s.broken("delete the snapshot", err)
	}
}

// pod publishes the volume in a pod and calls do with its directory.
func (s *site) pod(step string, v *csi.Volume, c *csi.VolumeCapability, do func(dir string) error) {
	if v == nil {
		return
	}
	target := filepath.Join(s.dir, "pods", filepath.Base(v.VolumeId))
	if s.broken(step, os.MkdirAll(filepath.Dir(target), 0o755)) {
		return
	}
	_, err := s.Node.NodePublishVolume(s.soon(), &csi.NodePublishVolumeRequest{
		VolumeId: v.VolumeId, TargetPath: target, VolumeCapability: c, VolumeContext: v.VolumeContext,
	})
	if !s.broken(step+": publish", err) {
		s.broken(step, do(target))
	}
	_, err = s.Node.NodeUnpublishVolume(s.soon(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.VolumeId, TargetPath: target})
	s.broken(step+": unpublish", err)
}
