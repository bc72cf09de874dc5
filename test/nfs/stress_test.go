// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// crowd is many pods that come and go at random, on a plugin that is killed again and again.
type crowd struct {
	*site
	mu      sync.RWMutex // held to kill the plugin
	node    *lab.Driver
	volumes []*csi.Volume
}

func (c *crowd) capability(volume int) *csi.VolumeCapability {
	if volume < 3 {
		return lab.Mode(csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER)
	}
	return lab.RWX()
}

// target returns the target of a volume in a pod. Like kubelet, it makes the volume's directory before.
func (c *crowd) target(volume, pod int) string {
	return filepath.Join(c.dir, "pods", fmt.Sprint("volume-", volume), fmt.Sprint("pod-", pod))
}

func (c *crowd) publish(volume, pod int, readOnly bool) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, err := c.node.Node.NodePublishVolume(soon(c.t), &csi.NodePublishVolumeRequest{
		VolumeId: c.volumes[volume].VolumeId, VolumeContext: c.volumes[volume].VolumeContext,
		TargetPath: c.target(volume, pod), VolumeCapability: c.capability(volume), Readonly: readOnly,
	})
	return err
}

func (c *crowd) unpublish(volume, pod int) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, err := c.node.Node.NodeUnpublishVolume(soon(c.t), &csi.NodeUnpublishVolumeRequest{VolumeId: c.volumes[volume].VolumeId, TargetPath: c.target(volume, pod)})
	return err
}

// act is one of the pods, with its number.
func (c *crowd) act(rng *rand.Rand, pod int) {
	for range 12 {
		volume, readOnly := rng.IntN(len(c.volumes)), rng.IntN(3) == 0
		err := c.publish(volume, pod, readOnly)
		switch status.Code(err) {
		case codes.OK:
			c.checkPod(volume, pod, readOnly)
		case codes.Aborted, codes.Unavailable, codes.Canceled: // another call is in progress, or the plugin is killed
		case codes.FailedPrecondition:
			if volume >= 3 {
				c.t.Errorf("publish volume %d for pod %d: %v", volume, pod, err)
			}
		default:
			c.t.Errorf("publish volume %d for pod %d: %v", volume, pod, err)
		}
		c.leave(volume, pod)
	}
}

// checkPod writes into the volume in a pod, or expects that this fails, and checks that it is the only pod if
// it must be.
func (c *crowd) checkPod(volume, pod int, readOnly bool) {
	err := os.WriteFile(filepath.Join(c.target(volume, pod), fmt.Sprint("file-", pod)), nil, 0o600)
	if (err != nil) != readOnly {
		c.t.Errorf("pod %d writes into volume %d, which is read-only to it: %v: %v", pod, volume, readOnly, err)
	}
	// A mount(8) of a killed plugin may still mount at the target of a pod that is being removed.
	eventually(c.t, waitTimeout, fmt.Sprintf("a single pod has volume %d", volume), func() bool {
		return volume >= 3 || len(mountsIn(c.t, filepath.Dir(c.target(volume, pod)))) == 1
	})
}

// leave unpublishes the volume until the answer is OK, like kubelet.
func (c *crowd) leave(volume, pod int) {
	for range 1000 {
		err := c.unpublish(volume, pod)
		switch status.Code(err) {
		case codes.OK:
			if _, err := os.Lstat(c.target(volume, pod)); !os.IsNotExist(err) {
				c.t.Errorf("the target of pod %d is still there: %v", pod, err)
			}
			return
		case codes.Aborted, codes.Unavailable, codes.Canceled:
			time.Sleep(10 * time.Millisecond)
		default:
			c.t.Errorf("unpublish volume %d of pod %d: %v", volume, pod, err)
			return
		}
	}
	c.t.Errorf("volume %d stays with pod %d", volume, pod)
}

// TestStress lets 50 pods of ten volumes come and go at random while the plugin is killed. Three of the
// volumes may have only one pod at a time. No mount and no directory remains.
func TestStress(t *testing.T) {
	c := &crowd{site: newSite(t)}
	for i := range 10 {
		c.volumes = append(c.volumes, c.mustCreate(fmt.Sprint("pvc-", i), ""))
		mkdir(t, filepath.Dir(c.target(i, 0)))
	}
	c.node = c.start("node", "node")
	var acting sync.WaitGroup
	for pod := range 50 {
		acting.Go(func() { c.act(rand.New(rand.NewPCG(1, uint64(pod))), pod) })
	}
	done := make(chan struct{})
	go func() { acting.Wait(); close(done) }()
	for kills := 0; ; kills++ {
		select {
		case <-done:
			t.Logf("the plugin was killed %d times", kills)
		case <-time.After(500 * time.Millisecond):
			old := c.node
			c.site.kill(old) // calls are in progress
			c.mu.Lock()
			c.node = c.start("node", "node")
			c.mu.Unlock()
			continue
		}
		break
	}
	if left := mountsIn(t, filepath.Join(c.dir, "pods")); len(left) > 0 {
		t.Errorf("mounted are still %v", left)
	}
	for i := range c.volumes {
		if entries, err := os.ReadDir(filepath.Dir(c.target(i, 0))); err != nil || len(entries) > 0 {
			t.Errorf("of volume %d there are still %v (%v)", i, entries, err)
		}
	}
	if notes, _ := filepath.Glob(filepath.Join(c.dir, "node", "state", "node", "view-*")); len(notes) > 0 {
		t.Errorf("noted are still %q", notes)
	}
}
