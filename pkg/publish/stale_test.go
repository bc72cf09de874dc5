// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/probe"
	"github.com/mooring-csi/mooring/pkg/volume"
	"golang.org/x/sys/unix"
)

// markStale makes a mount answer with a stale file handle.
func (n *node) markStale(name string) {
	n.probes.mounts[n.at(name)] = volume.Errorf(volume.ErrUnavailable, "%w", unix.ESTALE)
}

// health returns the reasons of v1's conditions: for one pod or, without one, for all.
func (n *node) health(pod string) []volume.Reason {
	n.Helper()
	path := ""
	if pod != "" {
		path = n.at("pods/" + pod)
	}
	conditions, err := n.Health.Volume(context.Background(), "nas1/v1", path)
	n.must(err)
	var reasons []volume.Reason
	for _, c := range conditions {
		if reasons = append(reasons, c.Reason); c.Severity == 0 || c.Message == "" {
			n.Errorf("incomplete condition: %+v", c)
		}
	}
	return reasons
}

func (n *node) wantReasons(pod string, want ...volume.Reason) {
	n.Helper()
	if got := n.health(pod); !slices.Equal(got, want) {
		n.Errorf("reasons = %q, want %q", got, want)
	}
}

// TestStale makes a pod's mount stale: the next pod gets a new one, which others share.
func TestStale(t *testing.T) {
	for what, between := range map[string]func(n *node){
		"at once":         func(*node) {},
		"after a restart": func(n *node) { n.Service = n.service(n.mounter) },
	} {
		t.Run(what, func(t *testing.T) {
			n := newNode(t)
			n.must(n.publish("a", nil))
			n.markStale("pods/a")
			n.wantReasons("a", volume.StaleFileHandle)
			between(n)
			n.must(n.publish("b", nil))
			n.must(n.publish("c", nil))
			n.wantMounts(2, 1)
			n.wantReasons("a", volume.StaleFileHandle)
			n.wantReasons("b")
			n.wantReasons("", volume.StaleFileHandle)
			// The pod with the stale mount counts, and its request can be repeated.
			n.must(n.publish("a", nil))
			n.must(n.unpublish("b"))
			n.must(n.unpublish("c"))
			n.refused("a second pod", n.publish("b", single), volume.ErrPrecondition)
			n.must(n.unpublish("a"))
			n.must(n.publish("b", single))
		})
	}
}

// TestMountGone unmounts a pod's volume behind the driver's back.
func TestMountGone(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.must(n.mounter.Unmount(context.Background(), n.at("pods/a")))
	n.wantReasons("a", volume.NotMounted)
	n.must(n.publish("b", single))
	n.wantMounts(2, 0)
	n.must(n.unpublish("a"))
	n.must(n.unpublish("b"))
	for _, path := range []string{"", n.at("pods/a")} {
		_, err := n.Health.Volume(context.Background(), "nas1/v1", path)
		n.refused("health", err, volume.ErrNotFound)
	}
}

// TestServerDies stops the server of a pod's mount, while another server answers, or none.
func TestServerDies(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.probes.mounts[n.at("pods/a")] = volume.Errorf(volume.ErrUnavailable, "it does not answer")
	err := n.publish("b", nil)
	n.refused("publish", err, volume.ErrUnavailable)
	for _, part := range []string{"nas1/v1", "10.0.0.1:/export/v1", "when the server is back"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
	n.absent("pods/b")
	n.registry.Shares[0].Servers = []string{"10.0.0.1", "10.0.0.2"}
	n.probes.servers["10.0.0.1:2049"] = volume.Errorf(volume.ErrUnavailable, "the server does not answer")
	n.must(n.publish("b", nil))
	if e, _ := n.mounted("pods/b"); e.Source != "10.0.0.2:/export/v1" {
		t.Errorf("mount = %+v", e)
	}
}

// TestServersDown uses a share with two servers, of which one or both are down.
func TestServersDown(t *testing.T) {
	n := newNode(t)
	n.registry.Shares[0].Servers = []string{"10.0.0.8", "10.0.0.1"}
	down := volume.Errorf(volume.ErrUnavailable, "the server 10.0.0.8 does not answer")
	n.probes.servers["10.0.0.8:2049"] = down
	n.must(n.publish("a", nil))
	if e, _ := n.mounted("pods/a"); e.Source != "10.0.0.1:/export/v1" {
		t.Errorf("mount = %s", e.Source)
	}
	c := n.Health.Shares(context.Background())
	if len(c) != 1 || c[0].Severity != volume.Degraded || c[0].Reason != volume.ServerUnreachable || !strings.Contains(c[0].Message, "10.0.0.8") {
		t.Errorf("conditions of the shares = %+v", c)
	}
	n.probes.servers["10.0.0.1:2049"] = volume.Errorf(volume.ErrUnavailable, "10.0.0.1 does not answer")
	err := n.publish("b", v2)
	n.refused("publish", err, volume.ErrUnavailable)
	for _, part := range []string{"nas1/v2", "share nas1", "10.0.0.8 does not answer", "10.0.0.1 does not answer"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error: %v", part, err)
		}
	}
	if c = n.Health.Shares(context.Background()); len(c) != 1 || c[0].Severity != volume.Inaccessible {
		t.Errorf("conditions of the shares = %+v", c)
	}
	n.wantMounts(1, 0)
}

// TestReasons provokes the reasons that probes and the registry can give.
func TestReasons(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	at := n.at("pods/a")
	for want, c := range map[volume.Reason]struct {
		err    error
		answer probe.MountStatus
		server error
	}{
		volume.AccessDenied:      {err: unix.EACCES},
		volume.FileSystemError:   {err: unix.EREMOTEIO},
		volume.DiskFailing:       {err: unix.EIO},
		volume.ServerUnreachable: {err: errors.New("no answer"), server: errors.New("silent")},
		volume.SlowResponses:     {err: errors.New("no answer")},
		volume.ReadOnlyServer:    {answer: probe.MountStatus{ReadOnly: true}},
	} {
		n.probes.mounts[at], n.probes.answers[at], n.probes.servers["10.0.0.1:2049"] = c.err, c.answer, c.server
		n.wantReasons("", want)
	}
	delete(n.probes.servers, "10.0.0.1:2049")
	n.probes.mounts[at], n.probes.answers[at] = nil, probe.MountStatus{Latency: 2 * time.Second}
	n.wantReasons("a", volume.SlowResponses)
	n.probes.answers[at] = probe.MountStatus{}
	n.probes.mounts[at] = unix.ESTALE
	n.wantReasons("a", volume.StaleFileHandle)
	delete(n.probes.mounts, at)
	n.registry.Shares[0].Servers = []string{"10.0.0.9"}
	n.wantReasons("a", volume.ServerMoved)
	n.registry.Shares[0].Name = "nas2"
	n.wantReasons("a", volume.ShareNotRegistered)
	_, err := n.Health.Volume(context.Background(), "nas1/v1", "relative")
	n.refused("a relative path", err, volume.ErrInvalid)
}

// TestUnknownError makes a server answer with an error that Linux does not know, as NFS-Ganesha does: the
// condition says what to do.
func TestUnknownError(t *testing.T) {
	n := newNode(t)
	n.must(n.publish("a", nil))
	n.probes.mounts[n.at("pods/a")] = unix.EREMOTEIO
	conditions, err := n.Health.Volume(t.Context(), "nas1/v1", n.at("pods/a"))
	n.must(err)
	if len(conditions) != 1 || !strings.Contains(conditions[0].Message, "nfsvers=4.0") {
		t.Errorf("conditions = %+v", conditions)
	}
}
