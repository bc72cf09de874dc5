// SPDX-License-Identifier: Apache-2.0

//go:build lab

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"github.com/mooring-csi/mooring/test/lab"
	"golang.org/x/sys/unix"
)

func (h *heads) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	h.t.Cleanup(cancel)
	return ctx
}

func (h *heads) create(share, name string) (v *csi.Volume) {
	h.t.Helper()
	err := retried(func() error {
		r, err := h.Controller.CreateVolume(h.soon(), request(name, map[string]string{"share": share}, nil))
		v = r.GetVolume()
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// pod makes a volume and publishes it. It returns when a pod has written there.
func (h *heads) pod(share, name string) *writer {
	h.t.Helper()
	v := h.create(share, name)
	target := filepath.Join(h.t.TempDir(), name)
	err := retried(func() error {
		_, err := h.Node.NodePublishVolume(h.soon(), &csi.NodePublishVolumeRequest{
			VolumeId: v.VolumeId, TargetPath: target, VolumeCapability: lab.RWX(), VolumeContext: v.VolumeContext,
		})
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	w := startWriter(h.t, v, target)
	h.t.Cleanup(func() {
		w.end()
		if _, err := h.Node.NodeUnpublishVolume(h.soon(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.VolumeId, TargetPath: target}); err != nil {
			h.t.Error(err)
		}
	})
	return w
}

// mountedFrom checks that a pod's volume is mounted from a head.
func (h *heads) mountedFrom(w *writer, head string) {
	h.t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(w.dir))
	if err != nil {
		h.t.Fatal(err)
	}
	if len(mounts) == 0 {
		h.t.Errorf("%s is not mounted", w.dir)
	} else if !strings.Contains(mounts[0].VFSOptions, "addr="+head) {
		h.t.Errorf("the pod's volume is not mounted from %s: %+v", head, mounts[0])
	}
}

// look mounts the share of a volume from the second head, in a mount without caches.
func (h *heads) look(v *csi.Volume) string {
	h.t.Helper()
	dir := h.t.TempDir()
	share, _, _ := strings.Cut(v.VolumeId, "/")
	out, err := exec.Command("mount", "-t", "nfs", "-o", "nosharecache,nfsvers=4.0", headTwo+":/cephfs/"+share, dir).CombinedOutput()
	if err != nil {
		h.t.Fatalf("mount: %v: %s", err, out)
	}
	h.t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	return dir
}

// kept checks that the second head has everything that was acknowledged. The pods have ended.
func (h *heads) kept(all ...*writer) {
	h.t.Helper()
	for _, w := range all {
		w.end()
		dir := h.look(w.volume)
		for _, f := range []*file{w.plain, w.locked} {
			if err := f.kept(filepath.Join(dir, w.volume.VolumeContext["subDir"])); err != nil {
				h.t.Error(err)
			}
		}
	}
}

func (h *heads) eachHasADirectory(volumes []*csi.Volume) {
	h.t.Helper()
	dir, whose := h.look(volumes[0]), map[string]string{}
	for i, v := range volumes {
		if v == nil {
			h.t.Errorf("there is no volume %d", i)
			continue
		}
		at := v.VolumeContext["subDir"]
		if other, taken := whose[at]; taken || at == "" {
			h.t.Errorf("%s has the directory %q, as has %q", v.VolumeId, at, other)
		}
		whose[at] = v.VolumeId
		if info, err := os.Stat(filepath.Join(dir, at)); err != nil || !info.IsDir() {
			h.t.Errorf("the directory of %s: %v", v.VolumeId, err)
		}
	}
}

// lockedOnBoth checks whether a file that a pod has locked on the first head is locked on the second too.
func (h *heads) lockedOnBoth(w *writer) {
	h.t.Helper()
	f, err := os.OpenFile(filepath.Join(h.look(w.volume), w.volume.VolumeContext["subDir"], "locked"), os.O_WRONLY, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if !errors.Is(err, unix.EAGAIN) {
		h.t.Errorf("a lock that the first head has given is given by the second as well: %v", err)
		return
	}
	h.note("a file that is locked through one head is locked through the other, too")
}

// wellFormed checks that mooringctl check finds nothing. Interrupted work is reported for a while.
func (h *heads) wellFormed() {
	h.t.Helper()
	err := again(patience, func() error {
		out, said, err := mooringctl(filepath.Join(h.Dir, "config.yaml"), "check", "-o", "json")
		var found []any
		if err := errors.Join(err, json.Unmarshal(out, &found)); err != nil || len(found) > 0 {
			return fmt.Errorf("mooringctl check: %w: %s %s", err, out, said)
		}
		return nil
	})
	if err != nil {
		h.t.Error(err)
	}
}
