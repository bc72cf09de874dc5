// SPDX-License-Identifier: Apache-2.0

//go:build lab

package nfs

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
)

// TestModeAndOwner reads mode and owner of new directories on the server.
func TestModeAndOwner(t *testing.T) {
	s := newSite(t)
	mkdir(t, s.at("setgid"))
	if err := os.Chown(s.at("setgid"), 0, 77); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.at("setgid"), fs.ModeSetgid|0o755); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		p        params
		mode     fs.FileMode
		uid, gid uint32
	}{
		{params{}, 0o755, 0, 0},
		{params{"mountPermissions": "0"}, 0o755, 0, 0},
		{params{"mountPermissions": "0777"}, 0o777, 0, 0},
		{params{"mountPermissions": "700"}, 0o700, 0, 0},
		{params{"mountPermissions": "2770"}, fs.ModeSetgid | 0o770, 0, 0},
		{params{"mountPermissions": "1777"}, fs.ModeSticky | 0o777, 0, 0},
		{params{"mountPermissions": "2770", "uid": "1000", "gid": "2000"}, fs.ModeSetgid | 0o770, 1000, 2000},
		{params{"uid": "1000"}, 0o755, 1000, 0},
		{params{"gid": "4294967294"}, 0o755, 0, 4294967294},
		{params{"subDir": "a/b/c", "mountPermissions": "0750", "uid": "5"}, 0o750, 5, 0},
		{params{"subDir": "setgid/x", "mountPermissions": "0750"}, 0o750, 0, 77}, // the group of the parent, as with mkdir
		{params{"subDir": "setgid/y"}, fs.ModeSetgid | 0o755, 0, 77},
	} {
		t.Run(fmt.Sprint(map[string]string(c.p)), func(t *testing.T) {
			v, err := s.create(fmt.Sprintf("pvc-%d", i), c.p)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(s.at(v.VolumeContext["subDir"]))
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if info.Mode() != fs.ModeDir|c.mode || st.Uid != c.uid || st.Gid != c.gid {
				t.Errorf("the directory is %v of %d:%d, not %v of %d:%d", info.Mode(), st.Uid, st.Gid, fs.ModeDir|c.mode, c.uid, c.gid)
			}
			s.mustDelete(v.VolumeId)
		})
	}
	s.empty("setgid")
}

// TestRetry asks for volumes again, with the same parameters and with others.
func TestRetry(t *testing.T) {
	s := newSite(t)
	p := params{"subDir": "apps/db", "mountPermissions": "0750", "uid": "1000", "onDelete": "retain"}
	first, err := s.controller().CreateVolume(soon(t), request("pvc-1", p))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.at("apps/db/data"), "data")
	size := func(required, limit int64) *csi.CreateVolumeRequest {
		r := request("pvc-1", p)
		r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
		return r
	}
	none := request("pvc-1", p)
	none.CapacityRange = nil
	for _, restart := range []bool{false, true} {
		if restart {
			s.restart()
		}
		unchanged(t, s.export, func() {
			for i, r := range []*csi.CreateVolumeRequest{request("pvc-1", p), size(1<<30, 2<<30), size(1<<29, 0), size(0, 1<<30), none} {
				again, err := s.controller().CreateVolume(soon(t), r)
				if err != nil || again.String() != first.String() {
					t.Errorf("request %d is answered %v (%v), not %v", i, again, err, first)
				}
			}
		})
	}
	for _, c := range []struct {
		name string
		r    *csi.CreateVolumeRequest
		says []string
	}{
		{"larger", size(2<<30, 0), []string{"capacity is 1073741824 bytes", "at least 2147483648"}},
		{"smaller", size(0, 1<<29), []string{"capacity is 1073741824 bytes", "536870912"}},
		{"elsewhere", request("pvc-1", p.with("subDir", "apps/other")), []string{"apps/db", "apps/other"}},
		{"another mode", request("pvc-1", p.with("mountPermissions", "0777")), []string{"mountPermissions is 0750, not 0777"}},
		{"another owner", request("pvc-1", p.with("uid", "1001", "gid", "7")), []string{"uid is 1000, not 1001", "gid is the default, not 7"}},
		{"another end", request("pvc-1", p.with("onDelete", "delete")), []string{`onDelete is "retain", not "delete"`}},
		{"adopting", request("pvc-1", p.with("existingDirectory", "adopt")), []string{"existingDirectory: adopt is false, not true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			unchanged(t, s.export, func() {
				_, err := s.controller().CreateVolume(soon(t), c.r)
				wantCode(t, err, codes.AlreadyExists, append(c.says, "pvc-1", "nas1 (127.0.0.1:"+s.path+")")...)
			})
		})
	}
}

// TestLongNames uses the longest names of namespace and PVC that Kubernetes allows.
func TestLongNames(t *testing.T) {
	s := newSite(t)
	namespace, pvc := strings.Repeat("n", 63), strings.Repeat("p", 253)
	seen := map[string]string{}
	for i, name := range []string{pvc[:252] + "1", pvc[:252] + "2", strings.Repeat("ü", 126), pvc[:60]} {
		p := params{"csi.storage.k8s.io/pvc/namespace": namespace, "csi.storage.k8s.io/pvc/name": name}
		v, err := s.create(fmt.Sprintf("pvc-%d", i), p)
		if err != nil {
			t.Fatal(err)
		}
		dir := v.VolumeContext["subDir"]
		if len(dir) > 255 || !strings.HasPrefix(dir, namespace+"-") || filepath.Base(dir) != dir || seen[dir] != "" {
			t.Errorf("the directory of %s is %q, of %d bytes", name, dir, len(dir))
		}
		seen[dir] = v.VolumeId
		if again, err := s.create(fmt.Sprintf("pvc-%d", i), p); err != nil || again.VolumeContext["subDir"] != dir {
			t.Errorf("the second answer is %v (%v)", again, err)
		}
	}
	for dir := range seen {
		if _, err := os.Stat(s.at(dir)); err != nil {
			t.Error(err)
		}
	}
	for id := range maps.Values(seen) {
		s.mustDelete(id)
	}
	s.empty()
}

// TestAdopt makes volumes of existing directories.
func TestAdopt(t *testing.T) {
	for _, c := range []struct {
		name, onDelete, modify string
		there                  bool
		left                   []string
	}{
		{"stays", "", "", true, []string{"apps", "apps/old", "apps/old/data"}},
		{"deleted where that is said", "delete", "", true, []string{"apps"}},
		{"archived where that is said", "archive", "", true, []string{"apps", "apps/archived-old", "apps/archived-old/data"}},
		{"deleted where that is said later", "", "delete", true, []string{"apps"}},
		{"retained where that is said later", "delete", "retain", true, []string{"apps", "apps/old", "apps/old/data"}},
		{"not there, and therefore made", "", "", false, []string{"apps"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			mkdir(t, s.at("apps"))
			if c.there {
				write(t, s.at("apps/old/data"), "from before")
				if err := os.Chown(s.at("apps/old"), 12, 34); err != nil {
					t.Fatal(err)
				}
			}
			p := params{"subDir": "apps/old", "existingDirectory": "adopt", "onDelete": c.onDelete, "uid": "1000", "mountPermissions": "0777"}
			make := func() {
				for range 2 {
					if _, err := s.create("pvc-1", p); err != nil {
						t.Fatal(err)
					}
					s.restart()
				}
			}
			if c.there {
				unchanged(t, s.at("apps"), make)
			} else {
				make()
			}
			if c.modify != "" {
				_, err := s.controller().ControllerModifyVolume(soon(t), &csi.ControllerModifyVolumeRequest{
					VolumeId: "nas1/pvc-1", MutableParameters: params{"onDelete": c.modify},
				})
				wantCode(t, err, codes.OK)
			}
			s.mustDelete("nas1/pvc-1", "nas1/pvc-1")
			s.empty(c.left...)
		})
	}
}
