// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/mooring-csi/mooring/pkg/volume"
)

const (
	modeUnknown = csi.VolumeCapability_AccessMode_UNKNOWN
	modeRWX     = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	modeRWO     = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	modeRWOP    = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	modeROX     = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	modeRO      = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
)

// capable returns a capability of a mounted volume.
func capable(mode csi.VolumeCapability_AccessMode_Mode, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func ofType(fsType string) *csi.VolumeCapability {
	c := capable(modeRWX)
	c.GetMount().FsType = fsType
	return c
}

var block = &csi.VolumeCapability{
	AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	AccessMode: &csi.VolumeCapability_AccessMode{Mode: modeRWX},
}

// refused fails the test unless err has this kind and contains part.
func refused(t *testing.T, what string, err, kind error, part string) {
	t.Helper()
	if err == nil || volume.Kind(err) != kind || !strings.Contains(err.Error(), part) {
		t.Errorf("%s: error = %v (kind %v), want kind %v and %q", what, err, volume.Kind(err), kind, part)
	}
}

func TestCheckCapabilities(t *testing.T) {
	for what, c := range map[string]*csi.VolumeCapability{
		"any mode": capable(modeRWX, "ro"), "one pod": capable(modeRWOP), "nfs": ofType("nfs"), "nfs4": ofType("nfs4"),
	} {
		if _, err := checkCapability(c); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, c := range map[string]struct {
		list []*csi.VolumeCapability
		part string
	}{
		"none":           {nil, "no volume capability"},
		"nothing":        {[]*csi.VolumeCapability{nil}, "no volume capability"},
		"block":          {[]*csi.VolumeCapability{capable(modeRWX), block}, "volumeMode: Filesystem"},
		"no access type": {[]*csi.VolumeCapability{{AccessMode: capable(modeRWX).AccessMode}}, "no access type"},
		"no mode":        {[]*csi.VolumeCapability{{AccessType: capable(modeRWX).AccessType}}, "no access mode"},
		"unknown mode":   {[]*csi.VolumeCapability{capable(modeUnknown)}, "no access mode"},
		"ext4":           {[]*csi.VolumeCapability{ofType("ext4")}, `"ext4"`},
		"bad options":    {[]*csi.VolumeCapability{capable(modeRWX, "ro"), capable(modeRWO, "hard,bind")}, `"bind"`},
	} {
		_, err := checkCapabilities(c.list)
		refused(t, what, err, volume.ErrInvalid, c.part)
	}
	options, err := checkCapabilities([]*csi.VolumeCapability{capable(modeRWX, "hard"), capable(modeRWO, "vers=3")})
	if err != nil || !slices.Equal(options, []string{"hard", "vers=3"}) {
		t.Errorf("options = %q, %v", options, err)
	}
}

func TestLocation(t *testing.T) {
	for _, c := range []struct {
		share   string
		context map[string]string
	}{
		{"nas1", map[string]string{"share": "nas1", "subDir": "a/b"}},
		{"10.0.0.1:/x", map[string]string{"server": "10.0.0.1", "share": "/x", "subDir": "a/b"}},
		{"nas.example:/", map[string]string{"server": "nas.example", "share": "/", "subDir": "a/b"}},
		{"[fe80::1]:/x:/y", map[string]string{"server": "fe80::1", "share": "/x:/y", "subDir": "a/b"}},
	} {
		l := volume.Location{Share: c.share, Directory: "a/b"}
		if got := encodeLocation(l); !maps.Equal(got, c.context) {
			t.Errorf("%s is encoded as %v, want %v", c.share, got, c.context)
		}
		if got, err := decodeLocation(c.context); err != nil || got.Location != l {
			t.Errorf("%v is decoded as %v, %v, want %v", c.context, got, err, l)
		}
	}
	for what, c := range map[string]struct {
		context map[string]string
		want    volume.Location
	}{
		"a bracketed server": {map[string]string{"server": "[fe80::1]", "share": "/x", "subDir": "a"}, volume.Location{Share: "[fe80::1]:/x", Directory: "a"}},
		// As csi-driver-nfs writes it into the PVs that it makes.
		"another driver's": {map[string]string{
			"server": "nas", "share": "/x", "subdir": "pvc-1", "mountPermissions": "0777", "onDelete": "archive", "uid": "1000",
			"csi.storage.k8s.io/pv/name": "pvc-1", "storage.kubernetes.io/csiProvisionerIdentity": "1-2-nfs.csi.k8s.io",
		}, volume.Location{Share: "nas:/x", Directory: "pvc-1"}},
		"any case": {map[string]string{"SERVER": "nas", "Share": "/x", "SUBDIR": "a", "mountPermissions": "0"}, volume.Location{Share: "nas:/x", Directory: "a"}},
		"a template": {map[string]string{
			"server": "nas", "share": "/x", "subDir": "/${pvc.metadata.namespace}/${pvc.metadata.name}",
			"csi.storage.k8s.io/pvc/name": "claim", "csi.storage.k8s.io/pvc/namespace": "team",
		}, volume.Location{Share: "nas:/x", Directory: "team/claim"}},
	} {
		if got, err := decodeLocation(c.context); err != nil || got.Location != c.want {
			t.Errorf("%s is decoded as %v, %v", what, got, err)
		}
	}
	for part, context := range map[string]map[string]string{
		"no share":                          {"server": "10.0.0.1", "subDir": "a"},
		`"sub_dir" is not known`:            {"server": "10.0.0.1", "share": "/x", "sub_dir": "a"},
		`"subdir" is given twice`:           {"server": "10.0.0.1", "share": "/x", "subdir": "a", "subDir": "a"},
		`"mountpermissions" does not apply`: {"server": "10.0.0.1", "share": "/x", "subDir": "a", "mountPermissions": "0777"},
		"needs the names":                   {"server": "10.0.0.1", "share": "/x", "subDir": "${pvc.metadata.name}"},
		"${nonsense}":                       {"server": "10.0.0.1", "share": "/x", "subDir": "${nonsense}"},
	} {
		_, err := decodeLocation(context)
		refused(t, part, err, volume.ErrInvalid, part)
	}
}

func TestIDs(t *testing.T) {
	long := "nas1/" + strings.Repeat("x", volume.MaxHandle-5)
	for _, id := range []string{"nas1/v", "anything#at all", long} {
		if err := checkVolumeID(id); err != nil {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	refused(t, "empty", checkVolumeID(""), volume.ErrInvalid, "no volume id")
	refused(t, "long", checkVolumeID(long+"x"), volume.ErrInvalid, "129 bytes")

	if h, err := parseVolumeHandle("10.0.0.1:/x/pvc-1"); err != nil || h != (volume.Handle{Share: "10.0.0.1:/x", Key: "pvc-1"}) {
		t.Errorf("handle = %v, %v", h, err)
	}
	_, err := parseVolumeHandle("")
	refused(t, "no handle", err, volume.ErrInvalid, "no volume id")
	for _, id := range []string{"v", "nas#share#dir##", "NAS/v", long + "x"} {
		_, err := parseVolumeHandle(id)
		refused(t, id, err, volume.ErrNotFound, "")
	}
}

func TestSecret(t *testing.T) {
	const key = secretMountOptions
	options, err := addSecretOptions([]string{"hard"}, map[string]string{key: "nfsvers=3,nolock", "password": "x"})
	if err != nil || !slices.Equal(options, []string{"hard", "nfsvers=3", "nolock"}) {
		t.Errorf("options = %q, %v", options, err)
	}
	for _, secrets := range []map[string]string{nil, {"password": "x"}, {key: ""}} {
		if options, err := addSecretOptions([]string{"hard"}, secrets); err != nil || !slices.Equal(options, []string{"hard"}) {
			t.Errorf("options with %v = %q, %v", secrets, options, err)
		}
	}
	_, err = addSecretOptions(nil, map[string]string{key: "bind,pass word=hunter2"})
	refused(t, "a bad secret", err, volume.ErrInvalid, key)
	if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "pass")) {
		t.Errorf("the secret is in the error: %v", err)
	}
}
