// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

type keys map[string]string

func TestParseParams(t *testing.T) {
	day := 24 * time.Hour
	for what, c := range map[string]struct {
		keys keys
		want Params
	}{
		"the least": {keys{"share": "nas1"}, Params{Shares: []string{"nas1"}}},
		"every key": {
			keys{
				"share": "nas1", "subDir": "${.PVC.namespace}/${.PVC.name}", "onDelete": "archive", "mountPermissions": "02770", "uid": "1000", "gid": "0",
				"existingDirectory": "adopt", "capacity": "checked", "trashRetention": "24h",
			},
			Params{
				Shares: []string{"nas1"}, SubDir: MustTemplate("${.PVC.namespace}/${.PVC.name}"), OnDelete: Archive, Mode: new(uint32(0o2770)),
				UID: new(uint32(1000)), GID: new(uint32(0)), Adopt: true, CheckCapacity: true, Retention: &day,
			},
		},
		"the same in any case": {
			keys{"SHARE": "nas1", "SUBDIR": "a", "ondelete": "RETAIN", "MountPermissions": "0777", "UID": "4294967294", "Gid": "7", "existingdirectory": "Refuse", "Capacity": "Unchecked", "trashretention": "0s"},
			Params{Shares: []string{"nas1"}, SubDir: MustTemplate("a"), OnDelete: Retain, Mode: new(uint32(0o777)), UID: new(uint32(1<<32 - 2)), GID: new(uint32(7)), Retention: new(time.Duration)},
		},
		"csi-driver-nfs's": {
			keys{"server": "10.0.0.1", "share": "/export", "subDir": "${pvc.metadata.name}", "onDelete": "delete", "mountPermissions": "0"},
			Params{Shares: []string{"10.0.0.1:/export"}, SubDir: MustTemplate("${pvc.metadata.name}"), OnDelete: Delete},
		},
		"provisioner's metadata": {
			keys{"share": "nas1", reservedPrefix + "pvc/name": "data", reservedPrefix + "pvc/namespace": "shop", reservedPrefix + "pv/name": "pvc-1", reservedPrefix + "fstype": "x", reservedPrefix + "provisioner-secret-name": "x"},
			Params{Shares: []string{"nas1"}, Names: Names{PVC: "data", Namespace: "shop", PV: "pvc-1"}},
		},
		"nothing given": {
			keys{"share": "nas1", "server": "", "onDelete": "", "mountPermissions": "", "uid": "", "gid": "", "existingDirectory": "", "capacity": "", "trashRetention": ""},
			Params{Shares: []string{"nas1"}},
		},
	} {
		got, err := ParseParams(c.keys)
		wantKind(t, what, err, nil)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is %+v, want %+v", what, got, c.want)
		}
	}
}

func TestParamsKnowEveryKey(t *testing.T) {
	for key, help := range ParameterHelp {
		_, err := ParseParams(keys{key: "/../\x00"})
		if help == "" || err == nil || strings.Contains(err.Error(), "is not a parameter") {
			t.Errorf("the parameter %s (%q) with nonsense: %v", key, help, err)
		}
	}
	for key := range mutableParameters {
		if ParameterHelp[key] == "" {
			t.Errorf("%s is mutable, but not a parameter", key)
		}
	}
}

func TestParamsShares(t *testing.T) {
	for _, c := range []struct {
		server, share string
		want          []string
	}{
		{"", "nas1", []string{"nas1"}},
		{"", "nas1,nas2", []string{"nas1", "nas2"}},
		{"", " nas1 , nas2 ", []string{"nas1", "nas2"}},
		{"", "*", []string{"*"}},
		{"nas", "/export", []string{"nas:/export"}},
		{"nas", "/export/", []string{"nas:/export"}},
		{"nas", "/", []string{"nas:/"}},
		{"nas", "export/a", []string{"nas:/export/a"}},
		{"nas", "/a//", []string{"nas:/a"}},
		{"nas", "//a//b", []string{"nas:/a/b"}},
		{"fe80::1", "/a", []string{"[fe80::1]:/a"}},
		{"[fe80::1]", "/a", []string{"[fe80::1]:/a"}},

		{"", "", nil}, {"", "/export", nil}, {"", "NAS", nil}, {"", "nas:/export", nil}, {"", "nas1,", nil}, {"", ",", nil}, {"", "nas1,*", nil}, {"", "**", nil},
		{"", "nas1,nas1", nil}, {"", "nas1, nas1", nil}, {"", "nas1,/a", nil}, {"", "..", nil},
		{"nas", "", nil}, {"nas", "/a,/b/../c", nil}, {"nas", "/a/..", nil}, {"nas", "/a\n", nil},
		{"a/b", "/x", nil}, {"a,b", "/x", nil}, {"a b", "/x", nil}, {" ", "/x", nil}, {"-o", "/x", nil}, {"nas:", "/x", nil}, {"nas:/a", "/x", nil}, {"fe80::1%a/b", "/x", nil},
	} {
		p, err := ParseParams(keys{"server": c.server, "share": c.share})
		if c.want == nil {
			wantKind(t, c.server+" "+c.share, err, ErrInvalid)
			continue
		}
		wantKind(t, c.server+" "+c.share, err, nil)
		if !reflect.DeepEqual(p.Shares, c.want) {
			t.Errorf("server %q and share %q are %q, want %q", c.server, c.share, p.Shares, c.want)
		}
		for _, share := range p.Shares {
			h, err := ParseHandle(share + "/pvc-1")
			if share != "*" && (err != nil || h.Share != share) {
				t.Errorf("the share %q is %+v in a handle: %v", share, h, err)
			}
		}
	}
}

func TestParamsRefuses(t *testing.T) {
	for key, values := range map[string][]string{
		"mountPermissions":  {"999", "8", "17777", "-1", "+7", "0o7", "0x7", "u+x", " 7", "77777777777777"},
		"uid":               {"-1", "4294967295", "4294967296", "+1", "root", "1.0", "0x1", "1_0", " 1"},
		"gid":               {"-1", "4294967295", "4294967296", "+1", "wheel"},
		"onDelete":          {"remove", "keep", " delete"},
		"existingDirectory": {"true", "merge"},
		"capacity":          {"true", "10Gi"},
		"trashRetention":    {"1d", "-1h", "24", "forever", "99999999h"},
		"subDir":            {"${", "${.PVC.labels.x}"},
		"nfsvers":           {"4.2"}, "share ": {"nas2"}, "csi.storage.k8s.io": {"x"},
	} {
		for _, value := range values {
			_, err := ParseParams(keys{"share": "nas1", key: value})
			wantKind(t, key+" "+value, err, ErrInvalid)
			wantText(t, err, key)
		}
	}
	_, err := ParseParams(keys{"share": "nas1", "SHARE": "nas2"})
	wantKind(t, "one key in two spellings", err, ErrInvalid)
	wantText(t, err, "share is given twice")

	_, err = ParseParams(keys{"share": "/x", "uid": "-1", "mountPermission": "0777", "path": "x", "trashRetention": "1d"})
	wantKind(t, "several faults", err, ErrInvalid)
	wantText(t, err, "needs a server", "uid", `"-1"`, `"mountPermission" is not a parameter`, `"path" is not a parameter`, "trashRetention", "there are capacity, existingDirectory, gid, mountPermissions")
}

func TestParseMutable(t *testing.T) {
	for what, c := range map[string]struct {
		keys keys
		want Mutable
	}{
		"nothing":         {nil, Mutable{}},
		"both":            {keys{"onDelete": "retain", "trashRetention": "1h"}, Mutable{Retain, new(time.Hour)}},
		"in any case":     {keys{"ONDELETE": "Archive", "TrashRetention": "0"}, Mutable{Archive, new(time.Duration)}},
		"one, and theirs": {keys{"onDelete": "delete", reservedPrefix + "x": "y"}, Mutable{Delete, nil}},
	} {
		got, err := ParseMutable(c.keys)
		wantKind(t, what, err, nil)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s is %+v, want %+v", what, got, c.want)
		}
	}
	_, err := ParseMutable(keys{"onDelete": "remove", "Share": "nas2", "uid": "0", "x": "y", "trashRetention": "1d"})
	wantKind(t, "several faults", err, ErrInvalid)
	wantText(t, err, "onDelete", "share cannot be changed", "uid cannot be changed", `"x" is not`, "trashRetention")
}
