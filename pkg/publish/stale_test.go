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

// stales has a mount answer as one does whose directory is no more.
func (n *node) stales(name string) {
	n.probes.mounts[n.at(name)] = volume.Errorf(volume.ErrUnavailable, "%w", unix.ESTALE)
}

// health returns the reasons that are given for v1, staged, and published at a target.
func (n *node) health(target string) []volume.Reason {
	n.Helper()
	if target != "" {
		target = n.at("pods/" + target)
	}
	conditions, err := n.Health.Volume(context.Background(), "nas1/v1", n.at("stage/v1"), target)
	n.must(err)
	var reasons []volume.Reason
	for _, c := range conditions {
		if reasons = append(reasons, c.Reason); c.Severity == 0 || c.Message == "" {
			n.Errorf("this says too little: %+v", c)
		}
	}
	return reasons
}

func (n *node) unwell(target string, want ...volume.Reason) {
	n.Helper()
	if got := n.health(target); !slices.Equal(got, want) {
		n.Errorf("the reasons are %q, want %q", got, want)
	}
}

// TestStaleStage has a stage go stale, noticed by one and by another.
func TestStaleStage(t *testing.T) {
	for what, notice := range map[string]func(n *node){
		"publish": func(n *node) { n.must(n.publish("b", nil)) },
		"stage":   func(n *node) { n.must(n.stage("v1")) },
		"health":  func(n *node) { n.unwell("", volume.StaleFileHandle) },
		"after a restart": func(n *node) {
			n.Service = n.service(n.mounter)
			n.must(n.publish("b", nil))
		},
	} {
		t.Run(what, func(t *testing.T) {
			n := newNode(t)
			n.must(n.stage("v1"))
			n.must(n.publish("a", nil))
			n.stales("stage/v1")
			notice(n)
			n.must(n.publish("b", nil))
			n.did(2, 2)
			stage, _ := n.mounted("stage/v1")
			for pod, same := range map[string]bool{"a": false, "b": true} {
				if e, _ := n.mounted("pods/" + pod); (e.Device == stage.Device) != same {
					t.Errorf("pod %s has %s, the stage %s", pod, e.Device, stage.Device)
				}
			}
			// The pod before counts as one, and can be asked for again.
			n.must(n.publish("a", nil))
			single := func(r *volume.Publish) { r.SingleWriter = true }
			n.must(n.unpublish("b"))
			n.refused("a second pod", n.publish("b", single), volume.ErrConflict)
			n.must(n.unpublish("a"))
			n.must(n.publish("b", single))
		})
	}
}

// TestStageGone has somebody unmount a stage: it is mounted again where it is needed.
func TestStageGone(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	n.must(n.mounter.Unmount(context.Background(), n.at("stage/v1")))
	n.unwell("", volume.NotMounted)
	n.must(n.publish("a", nil))
	n.did(2, 1)
	n.unwell("a")
	n.must(n.unpublish("a"))
	n.must(n.unstage("v1"))
	n.refused("publish", n.publish("a", nil), volume.ErrConflict)
	_, err := n.Health.Volume(context.Background(), "nas1/v1", n.at("stage/v1"), "")
	n.refused("health", err, volume.ErrNotFound)
}

// TestServersAway has a share with two servers, of which one or both are away.
func TestServersAway(t *testing.T) {
	n := newNode(t)
	n.registry.Shares[0].Servers = []string{"10.0.0.8", "10.0.0.1"}
	away := volume.Errorf(volume.ErrUnavailable, "the server 10.0.0.8 does not answer")
	n.probes.servers["10.0.0.8:2049"] = away
	n.must(n.stage("v1"))
	if e, _ := n.mounted("stage/v1"); e.Source != "10.0.0.1:/export/v1" {
		t.Errorf("mounted is %s", e.Source)
	}
	c := n.Health.Shares(context.Background())
	if len(c) != 1 || c[0].Severity != volume.Degraded || c[0].Reason != volume.ServerUnreachable || !strings.Contains(c[0].Message, "10.0.0.8") {
		t.Errorf("the storage is %+v", c)
	}
	n.probes.servers["10.0.0.1:2049"] = volume.Errorf(volume.ErrUnavailable, "nor does 10.0.0.1")
	err := n.stage("v2")
	n.refused("stage", err, volume.ErrUnavailable)
	for _, says := range []string{"nas1/v2", "share nas1", "10.0.0.8 does not answer", "nor does 10.0.0.1"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("the error does not say %q: %v", says, err)
		}
	}
	if c = n.Health.Shares(context.Background()); len(c) != 1 || c[0].Severity != volume.Inaccessible {
		t.Errorf("the storage is %+v", c)
	}
	n.did(1, 0)
}

// TestReasons provokes what a probe can find, and what the registry can say.
func TestReasons(t *testing.T) {
	n := newNode(t)
	n.must(n.stage("v1"))
	n.must(n.publish("a", nil))
	stage := n.at("stage/v1")
	for want, c := range map[volume.Reason]struct {
		err    error
		answer probe.Answer
		server error
	}{
		volume.AccessDenied:      {err: unix.EACCES},
		volume.FileSystemError:   {err: unix.EIO},
		volume.ServerUnreachable: {err: errors.New("no answer"), server: errors.New("silent")},
		volume.SlowResponses:     {err: errors.New("no answer")},
		volume.ReadOnlyServer:    {answer: probe.Answer{ReadOnly: true}},
	} {
		n.probes.mounts[stage], n.probes.answers[stage], n.probes.servers["10.0.0.1:2049"] = c.err, c.answer, c.server
		n.unwell("", want)
	}
	delete(n.probes.servers, "10.0.0.1:2049")
	n.probes.mounts[stage], n.probes.answers[stage] = nil, probe.Answer{Took: 2 * time.Second}
	n.unwell("a", volume.SlowResponses)
	n.probes.answers[stage] = probe.Answer{}
	n.probes.mounts[n.at("pods/a")] = unix.ESTALE
	n.unwell("a", volume.StaleFileHandle)
	delete(n.probes.mounts, n.at("pods/a"))
	n.registry.Shares[0].Servers = []string{"10.0.0.9"}
	n.unwell("a", volume.ServerMoved)
	n.registry.Shares[0].Name = "nas2"
	n.unwell("a", volume.ShareNotRegistered)
	_, err := n.Health.Volume(context.Background(), "nas1/v1", "relative", "")
	n.refused("a relative path", err, volume.ErrInvalid)
	if conditions, err := n.Health.Volume(context.Background(), "nas1/v1", "", ""); err != nil || len(conditions) != 1 {
		t.Errorf("without a path: %v, %v", conditions, err)
	}
}
