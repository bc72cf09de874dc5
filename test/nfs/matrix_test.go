// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

var versions = []string{"3", "4.0", "4.1", "4.2"}

// TestVersions takes volumes through their lives with each version of NFS, set in the share's entry in
// the registry or in the class.
func TestVersions(t *testing.T) {
	for _, version := range versions {
		t.Run("share "+version, func(t *testing.T) {
			s := newSite(t, "mountOptions: [nfsvers="+version+"]")
			s.open()
			if m := mountsIn(t, s.dir); len(m) != 1 || !hasVersion(m[0].VFSOptions, version) {
				t.Errorf("the controller has not mounted the share once by version %s: %+v", version, m)
			}
			life(s, version)
		})
		t.Run("class "+version, func(t *testing.T) {
			life(newSite(t), version, "nfsvers="+version)
		})
	}
}

// life is that of a volume, from its creation to its purge.
func life(s *site, version string, options ...string) {
	t := s.t
	r, err := s.controller().CreateVolume(soon(t), request("pvc-1", nil, options...))
	if err != nil {
		t.Fatal(err)
	}
	v := r.GetVolume()
	if v.VolumeId != "nas1/pvc-1" || v.CapacityBytes != 1<<30 || v.VolumeContext["share"] != "nas1" || v.VolumeContext["subDir"] != "team-claim-pvc-1-pvc-1" {
		t.Fatalf("the volume is %v", v)
	}
	a := s.held(s.start("node", "a", "--node-id", "a"), v, options...)
	b := s.held(s.start("node", "b", "--node-id", "b"), v, append(options, "nosharecache")...) // caches of its own, as on another machine
	if am, bm := a.mount(a.target(holder)), b.mount(b.target(holder)); !hasVersion(am.VFSOptions, version) || !hasVersion(bm.VFSOptions, version) || am.Minor == bm.Minor {
		t.Errorf("not two mounts by version %s: %+v, %+v", version, am, bm)
	}
	share(a, b)
	expand(s, v)
	s.mustDelete(v.VolumeId)
	s.empty()
}

func hasVersion(options, version string) bool {
	return slices.Contains(strings.Split(options, ","), "vers="+version)
}

// share writes and reads a volume in pods of two nodes.
func share(a, b *seat) {
	t := a.t
	a.must(a.publish("pod", false))
	b.must(b.publish("pod", false))
	b.must(b.publish("reader", true))
	text := strings.Repeat("said by a\n", 1000)
	if err := os.WriteFile(a.target("pod/said"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"pod", "reader"} {
		if data, err := os.ReadFile(b.target(pod + "/said")); string(data) != text {
			t.Errorf("%s reads %d bytes, not %d (%v)", pod, len(data), len(text), err)
		}
	}
	for _, err := range []error{
		os.WriteFile(b.target("reader/said"), nil, 0o600),
		os.WriteFile(b.target("reader/more"), nil, 0o600),
		os.Remove(b.target("reader/said")),
		os.Mkdir(b.target("reader/more"), 0o700),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("the reader may change the volume: %v", err)
		}
	}
	for _, path := range []string{a.target("pod"), b.target("reader"), a.target(holder)} {
		r, err := a.stats(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range r.Usage {
			if u.Total <= 0 || u.Used <= 0 || u.Available <= 0 || u.Available > u.Total || u.Used > u.Total {
				t.Errorf("the usage is %v", u)
			}
		}
		if len(r.Usage) != 2 {
			t.Errorf("the usage is %v", r.Usage)
		}
	}
	a.leave("pod")
	b.leave("pod", "reader")
}

func expand(s *site, v *csi.Volume) {
	t := s.t
	for _, c := range []struct {
		required, limit, want int64
		code                  codes.Code
		says                  string
	}{
		{required: 2 << 30, want: 2 << 30},
		{required: 2 << 30, want: 2 << 30},
		{required: 1 << 30, want: 2 << 30},
		{limit: 1 << 30, code: codes.OutOfRange, says: "do not shrink"},
		{required: 2, limit: 1, code: codes.InvalidArgument, says: "inverted"},
		{required: -1, code: codes.InvalidArgument, says: "negative"},
	} {
		r, err := s.controller().ControllerExpandVolume(soon(t), &csi.ControllerExpandVolumeRequest{
			VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: c.required, LimitBytes: c.limit},
		})
		wantCode(t, err, c.code, c.says)
		if r.GetCapacityBytes() != c.want || r.GetNodeExpansionRequired() {
			t.Errorf("expanded to %v, not to %d", r, c.want)
		}
	}
	r, err := s.controller().ControllerGetVolume(soon(t), &csi.ControllerGetVolumeRequest{VolumeId: v.VolumeId})
	if err != nil || r.GetVolume().GetCapacityBytes() != 2<<30 {
		t.Errorf("the expanded volume is %v (%v)", r, err)
	}
}

// TestIncumbentsClass uses an unchanged class of csi-driver-nfs, without registered shares.
func TestIncumbentsClass(t *testing.T) {
	for _, server := range []string{"127.0.0.1", "::1"} {
		t.Run(server, func(t *testing.T) { incumbentsClass(t, server) })
	}
}

func incumbentsClass(t *testing.T, server string) {
	s := newSite(t)
	s.config = ""
	class := params{
		"server": server, "share": s.path, "subDir": "${pvc.metadata.namespace}/${pvc.metadata.name}",
		"onDelete": "archive", "mountPermissions": "0777",
	}
	r, err := s.controller().CreateVolume(soon(t), request("pvc-1", class, "nfsvers=4.1"))
	if err != nil {
		t.Fatal(err)
	}
	v := r.GetVolume()
	id := server + ":" + s.path + "/pvc-1"
	if server == "::1" {
		id = "[::1]:" + s.path + "/pvc-1"
	}
	if c := v.VolumeContext; v.VolumeId != id || c["server"] != server || c["share"] != s.path || c["subDir"] != "team/claim-pvc-1" {
		t.Fatalf("the volume is %v", v)
	}
	if m := mountsIn(t, s.dir); len(m) != 1 || hasVersion(m[0].VFSOptions, "4.1") == (server == "::1") {
		t.Errorf("the controller's mount is not the class's, or for an IPv6 address by another version: %+v", m)
	}
	if info, err := os.Stat(s.at("team/claim-pvc-1")); err != nil || info.Mode() != os.ModeDir|0o777 {
		t.Errorf("the directory is %v (%v)", info, err)
	}
	a := s.held(s.start("node", "a"), v, "nfsvers=4.1")
	a.must(a.publish("pod", false))
	if m := a.mount(a.target("pod")); !hasVersion(m.VFSOptions, "4.1") {
		t.Errorf("mounted with %s", m.VFSOptions)
	}
	a.must(os.WriteFile(a.target("pod/said"), []byte("hello"), 0o644))
	a.leave("pod")

	s.restart()
	if r, err := s.controller().ControllerGetVolume(soon(t), &csi.ControllerGetVolumeRequest{VolumeId: id}); err != nil || r.Volume.VolumeContext["subDir"] != "team/claim-pvc-1" {
		t.Errorf("after a restart the volume is %v (%v)", r, err)
	}
	s.mustDelete(id, id)
	if data, err := os.ReadFile(s.at("team/archived-claim-pvc-1/said")); string(data) != "hello" {
		t.Errorf("the archive holds %q (%v)", data, err)
	}
	s.empty("team", "team/archived-claim-pvc-1", "team/archived-claim-pvc-1/said")
}

// TestHandles checks the forms of a volume's handle. Each is enough to delete the volume after a restart.
func TestHandles(t *testing.T) {
	long := strings.Repeat("n", 100)
	for _, c := range []struct{ name, csiName, key string }{
		{"a name", "pvc-51cce4ed-3a3f", "pvc-51cce4ed-3a3f"},
		{"a long name", long, "h-"},
		{"an odd name", "Übung / 1", "h-"},
		{"dots", "..", "h-"},
		{"a name like a hash", "h-name", "h-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			r := request(c.csiName, params{"subDir": "dir"})
			made, err := s.controller().CreateVolume(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			id := made.Volume.VolumeId
			key, ok := strings.CutPrefix(id, "nas1/")
			if !ok || len(id) > 128 || key != c.key && (c.key != "h-" || len(key) != 54 || !strings.HasPrefix(key, "h-")) {
				t.Errorf("the handle is %q", id)
			}
			if again, err := s.controller().CreateVolume(soon(t), r); err != nil || again.Volume.VolumeId != id {
				t.Errorf("the second answer is %v (%v)", again, err)
			}
			if _, err := os.Stat(s.at(".mooring/volumes", filepath.Base(key), "record.json")); err != nil {
				t.Error(err)
			}
			s.restart()
			s.mustDelete(id)
			s.empty()
		})
	}
	t.Run("too long", func(t *testing.T) {
		s := newSite(t)
		s.config = ""
		path := s.path + "/" + strings.Repeat("x", 100)
		mkdir(t, path)
		unchanged(t, s.export, func() {
			_, err := s.create("pvc-1", params{"server": "127.0.0.1", "share": path})
			wantCode(t, err, codes.InvalidArgument, "127.0.0.1:"+path, "128", "register")
		})
	})
}
