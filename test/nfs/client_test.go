// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/test/lab"
)

// withDelegations makes the client ask for delegations of directories, as it does by default (Linux
// 6.19), until the test ends. For other tests TestMain turns that off.
func withDelegations(t *testing.T) {
	t.Helper()
	const parameter = "/sys/module/nfsv4/parameters/directory_delegations"
	before, err := os.ReadFile(parameter)
	if os.IsNotExist(err) {
		t.Logf("this kernel has no delegations of directories")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parameter, []byte("Y"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(parameter, bytes.TrimSpace(before), 0) })
}

// TestOneMachine runs controller and pod on one machine. Their mounts are one client to the server
// unless the controller has a client of its own: a server does not recall a delegation because of
// what the same client does.
func TestOneMachine(t *testing.T) {
	for _, version := range versions {
		for _, lists := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the pod lists: %v", version, lists), func(t *testing.T) {
				withDelegations(t)
				s := newSite(t, "mountOptions: [nfsvers="+version+"]")
				m := machine{site: s, version: version, lists: lists}
				m.controller()
				m.volume = m.mustCreate("v", "")
				pod := m.held(s.start("node", "node"), m.volume)
				pod.must(pod.publish("pod", false))
				m.pod = pod.target("pod")
				m.compareViews()
				pod.leave("pod")
			})
		}
	}
}

// TestOneMachineGiven is TestOneMachine for a controller that does not mount: kubelet mounts, with
// another minor version than for pods, as the chart says.
func TestOneMachineGiven(t *testing.T) {
	for pods, controllers := range map[string]string{"4.0": "4.1", "4.1": "4.0", "4.2": "4.1"} {
		t.Run(pods, func(t *testing.T) {
			withDelegations(t)
			s := newSite(t, "mountOptions: [nfsvers="+pods+"]")
			mkdir(t, s.dir+"/shares/nas1")
			s.mount(s.dir+"/shares/nas1", "softerr,timeo=50,retrans=2,lookupcache=positive,nosharecache,nfsvers="+controllers)
			s.ctl = s.start("controller", "controller", "--shares-dir", s.dir+"/shares")
			m := machine{site: s, version: pods}
			m.volume = m.mustCreate("v", "")
			pod := m.held(s.start("node", "node"), m.volume)
			pod.must(pod.publish("pod", false))
			m.pod = pod.target("pod")
			m.compareViews()
			pod.leave("pod")
			s.kill(s.ctl)
		})
	}
}

// TestOneMachineByIPv6 is TestOneMachine with a server address that has no second form in Linux.
func TestOneMachineByIPv6(t *testing.T) {
	withDelegations(t)
	s := newSite(t)
	s.config = strings.Replace(s.config, "["+lab.Server+"]", "['::1']", 1)
	m := machine{site: s}
	m.volume = m.mustCreate("v", "")
	pod := m.held(s.start("node", "node"), m.volume)
	pod.must(pod.publish("pod", false))
	m.pod = pod.target("pod")
	m.compareViews()
	pod.leave("pod")
	if log := s.ctl.Log(); !strings.Contains(log, "another NFS version than pods use") {
		t.Errorf("nothing is said of that in\n%s", log)
	}
}

// TestTwoControllersOnOneMachine lists with one controller what another one makes and deletes: the two
// are one client to the server.
func TestTwoControllersOnOneMachine(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			withDelegations(t)
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			a, b := s.start("controller", "a"), s.start("controller", "b")
			volumes := func(d *lab.Driver) (ids []string) {
				r, err := d.Controller.ListVolumes(soon(t), &csi.ListVolumesRequest{})
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range r.Entries {
					ids = append(ids, e.Volume.VolumeId)
				}
				return ids
			}
			lists := func(d *lab.Driver, wantVolumes, wantSnapshots []string) {
				t.Helper()
				if got := volumes(d); !slices.Equal(got, wantVolumes) {
					t.Errorf("of volumes it lists %q, not %q", got, wantVolumes)
				}
				if got := snapshots(t, d); !slices.Equal(got, wantSnapshots) {
					t.Errorf("of snapshots it lists %q, not %q", got, wantSnapshots)
				}
			}
			var made, taken []string
			lists(b, nil, nil)
			for i := range 4 {
				r, err := a.Controller.CreateVolume(soon(t), request(fmt.Sprint("pvc-", i), nil))
				if err != nil {
					t.Fatal(err)
				}
				taken = append(taken, mustSnapshot(t, a, r.Volume, fmt.Sprint("snap-", i)).SnapshotId)
				made = append(made, r.Volume.VolumeId)
				lists(b, made, taken)
			}
			for len(made) > 0 {
				if _, err := a.Controller.DeleteVolume(soon(t), &csi.DeleteVolumeRequest{VolumeId: made[0]}); err != nil {
					t.Fatal(err)
				}
				if err := deleteSnapshot(t, a, taken[0]); err != nil {
					t.Fatal(err)
				}
				made, taken = made[1:], taken[1:]
				lists(b, made, taken)
			}
		})
	}
}

// machine runs a pod and the active controller.
type machine struct {
	*site
	version string
	lists   bool
	volume  *csi.Volume
	pod     string // where the volume is in the pod
	copies  int
}

// compareViews makes, renames, removes and rewrites files in the pod, and compares each time what is made of
// the volume with what the server has.
func (m *machine) compareViews() {
	t := m.t
	mkdir(t, m.pod+"/q")
	for i := range 4 {
		m.write(fmt.Sprint("q/n", i), fmt.Sprint("content of ", i))
		m.compareCopies("snapshot")
	}
	if err := os.Rename(m.pod+"/q/n0", m.pod+"/q/renamed"); err != nil {
		t.Fatal(err)
	}
	mkdir(t, m.pod+"/q/below")
	m.write("q/below/n", "content")
	m.compareCopies("clone")
	if err := os.Remove(m.pod + "/q/n1"); err != nil {
		t.Fatal(err)
	}
	m.compareCopies("clone")
	for i := range 8 {
		m.write("large", strings.Repeat(fmt.Sprintf("%08d", i), 1<<17))
		m.compareCopies([]string{"snapshot", "clone"}[i%2])
	}
}

// write only writes a file in place and closes it.
func (m *machine) write(name, content string) {
	m.t.Helper()
	f, err := os.OpenFile(filepath.Join(m.pod, name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
	if m.lists {
		if _, err := os.ReadDir(filepath.Dir(f.Name())); err != nil {
			m.t.Fatal(err)
		}
	}
}

// compareCopies makes a snapshot or a clone of the volume, and compares that with what the pod sees.
func (m *machine) compareCopies(kind string) {
	t := m.t
	t.Helper()
	m.copies++
	name := fmt.Sprint(kind, m.copies)
	at := m.at(".mooring/snapshots", name, "data")
	if kind == "snapshot" {
		mustSnapshot(t, m.ctl, m.volume, name)
	} else {
		r, err := m.controller().CreateVolume(soon(t), withSource(request(name, params{"subDir": name}), "volume", m.volume.VolumeId))
		if err != nil {
			t.Fatal(err)
		}
		at = m.at(r.Volume.VolumeContext["subDir"])
	}
	// By file and content: if the test walked the pod's directories, its client would ask the server.
	for _, name := range []string{"q/n0", "q/n1", "q/n2", "q/n3", "q/renamed", "q/below/n", "large"} {
		want, errWant := os.ReadFile(filepath.Join(m.pod, name))
		got, errGot := os.ReadFile(filepath.Join(at, name))
		if os.IsNotExist(errWant) != os.IsNotExist(errGot) || !bytes.Equal(want, got) {
			t.Errorf("%s %d has in %s: %s, %v; the pod has %s, %v", kind, m.copies, name, brief(got), errGot, brief(want), errWant)
		}
	}
}

func brief(content []byte) string {
	return fmt.Sprintf("%d bytes, %.16q", len(content), content)
}
