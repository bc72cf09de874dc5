// SPDX-License-Identifier: Apache-2.0

package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-csi/mooring/pkg/volume"
)

const good = `
# the registry
---
shares:
  - name: nas1
    servers: [10.0.0.200]          # more than one: tried in order
    path: /ifs/kubernetes
    id: 0B1C2D3E-4f50-4a6b-8c7d-9e0f1a2b3c4d
    mountOptions: [nfsvers=4.2, nconnect=4]
    inline: false
    trashRetention: 24h
    maxVolumes: 0
  - name: nas2
    servers: [fe80::1, nas.example]
    path: /
    mountOptions: ["dev,ro"]
    inline: true
    maxVolumes: 7
defaults:
  mountOptions: [nodev, nosuid]
  subDir: ${pvc.metadata.namespace}/${pv.metadata.name}
unregistered: allow
`

// anID is a valid id of a share.
const anID = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"

func TestParse(t *testing.T) {
	got, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := &volume.Registry{
		Shares: []volume.Share{
			{Name: "nas1", Servers: []string{"10.0.0.200"}, Path: "/ifs/kubernetes", ID: "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d", MountOptions: []string{"nodev", "nosuid", "nfsvers=4.2", "nconnect=4"}, TrashRetention: 24 * time.Hour},
			{Name: "nas2", Servers: []string{"fe80::1", "nas.example"}, Path: "/", MountOptions: []string{"nosuid", "dev", "ro"}, Inline: true, MaxVolumes: 7},
		},
		SubDir:       volume.MustTemplate("${pvc.metadata.namespace}/${pv.metadata.name}"),
		MountOptions: []string{"nodev", "nosuid"},
		Unregistered: true,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the file parses to\n%+v, want\n%+v", got, want)
	}
}

func TestParseDefaults(t *testing.T) {
	const share = "\nshares: [{name: a, servers: [h], path: /x}]"
	for text, want := range map[string][]string{
		"": {"nodev", "nosuid"}, "defaults: {}": {"nodev", "nosuid"}, "defaults: {subDir: ''}": {"nodev", "nosuid"},
		"defaults: {mountOptions: []}": nil, "defaults: {mountOptions: ['hard,ro', nodev]}": {"hard", "ro", "nodev"},
	} {
		r, err := Parse([]byte(text + share))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if !slices.Equal(r.MountOptions, want) || !slices.Equal(r.Shares[0].MountOptions, want) {
			t.Errorf("%q has the mount options %q, and its share %q, want %q", text, r.MountOptions, r.Shares[0].MountOptions, want)
		}
		if r.Unregistered || r.SubDir.String() != volume.DefaultSubDir || r.Shares[0].TrashRetention != 0 {
			t.Errorf("%q has the defaults %+v", text, r)
		}
	}
	if r, err := Parse([]byte("unregistered: refuse" + share)); err != nil || r.Unregistered {
		t.Errorf("unregistered: refuse is %+v, %v", r, err)
	}

	d := Default()
	if !d.Unregistered || len(d.Shares) != 0 || d.SubDir.String() != volume.DefaultSubDir || !slices.Equal(d.MountOptions, []string{"nodev", "nosuid"}) {
		t.Errorf("the default registry is %+v", d)
	}
}

func TestParseRefuses(t *testing.T) {
	const nas = "shares:\n- {name: nas1, servers: [10.0.0.1], path: /x}\n"
	with := func(change string) string { // replaces or adds a key in nas
		key, _, _ := strings.Cut(change, ":")
		for _, old := range []string{"name: nas1", "servers: [10.0.0.1]", "path: /x"} {
			if strings.HasPrefix(old, key+":") {
				return strings.Replace(nas, old, change, 1)
			}
		}
		return strings.Replace(nas, "path: /x", "path: /x, "+change, 1)
	}
	for text, wants := range map[string]string{
		"shares: [": "YAML", "[]": "YAML", "text": "YAML", "shares: {}": "YAML", "shares: [x]": "YAML", "\xff": "YAML",
		nas + "mountOptions: []": `"mountOptions"`, nas + "default: {}": `"default"`, nas + "shares: []": "shares", "defaults: {subdirs: a}": `"subdirs"`,
		nas + "---\nbogus: 1\n": "more than one YAML document", "  " + strings.ReplaceAll(nas, "\n", "\n  ") + "\n---\n" + nas: "more than one YAML document", "---\n---\n" + nas: "more than one YAML document", nas + "...\nbogus: 1": "more than one YAML document",
		nas + "- {name: nas1, servers: [h], path: /y}": "shares[1] (nas1): the name is taken",
		"shares: [null]":                 "shares[0]",
		with("name: ''"):                 "share's name",
		with("name: NAS"):                `"NAS"`,
		with("name: a/b"):                `"a/b"`,
		with("name: '*'"):                `"*"`,
		with("servers: []"):              "no address",
		with("servers: null"):            "no address",
		with("servers: 10.0.0.1"):        "YAML",
		with("servers: [h, a b]"):        `"a b"`,
		with("servers: ['h,i']"):         `"h,i"`,
		with("servers: ['']"):            ".servers",
		with("path: x"):                  "does not begin with /",
		with("path: ''"):                 "does not begin with /",
		with("path: /x/../y"):            `"/y"`,
		with("path: /x/"):                `"/x"`,
		with("mountOptions: [ro, bind]"): "shares[0] (nas1).mountOptions",
		with("mountOptions: ['']"):       ".mountOptions",
		with("mountOptions: ro"):         "YAML",
		with("id: nas1"):                 `shares[0] (nas1).id: "nas1" is not the id of a share`,
		with("id: 7"):                    `"7" is not the id`,
		"shares: [{name: a, servers: [h], path: /x, id: " + anID + "}, {name: b, servers: [i], path: /y, id: " + anID + "}]": "shares[1] (b): its id is that of share a (h:/x)",
		with("maxVolumes: -1"):                "-1 is negative",
		with("maxVolumes: 1.5"):               "YAML",
		with("trashRetention: 1d"):            ".trashRetention",
		with("trashRetention: 24"):            ".trashRetention",
		with("trashRetention: -1h"):           "negative",
		with("inline: maybe"):                 "YAML",
		with("retention: 1h"):                 `"retention"`,
		"defaults: {mountOptions: [remount]}": "defaults.mountOptions",
		"defaults: {subDir: '${.PVC.x}'}":     "defaults.subDir",
		"defaults: {subDir: '${'}":            "defaults.subDir",
		"defaults: {subDir: ../a}":            "defaults.subDir",
		"defaults: {subDir: /a}":              "defaults.subDir",
		"defaults: {subDir: .mooring/a}":      "defaults.subDir",
		"unregistered: true":                  "neither allow nor refuse",
		"unregistered: Allow":                 "neither allow nor refuse",
	} {
		r, err := Parse([]byte(text))
		if err == nil || volume.Kind(err) != volume.ErrInvalid || !strings.Contains(err.Error(), wants) || r != nil {
			t.Errorf("%s\nis %+v, and the error is %v, want one with %q", text, r, err, wants)
		}
		if faults := strings.Join(Faults([]byte(text)), "; "); err != nil && faults != err.Error() {
			t.Errorf("%s\nhas the faults %q, and the error %v", text, faults, err)
		}
	}

	_, err := Parse([]byte("shares:\n- {name: A, path: x, maxVolumes: -1}\n- {name: b, servers: [h], path: /, trashRetention: 1d, mountOptions: [bind]}\nunregistered: x\ndefaults: {subDir: '${', mountOptions: [fg]}"))
	for _, part := range []string{"shares[0] (A):", ".servers", ".path", ".maxVolumes", "shares[1] (b).trashRetention", ".mountOptions", "unregistered", "defaults.subDir", "defaults.mountOptions"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in the error for many faults: %v", part, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{good, "", "---\n---", "shares: [null]", "defaults: {mountOptions: ['a,b']}", "shares: &a [*a]", "shares: [{name: a, servers: [h], path: /x}]"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if faults := Faults(data); (len(faults) == 0) != (err == nil) {
			t.Errorf("%q has the faults %q, and the error %v", data, faults, err)
		}
		if err != nil {
			if volume.Kind(err) != volume.ErrInvalid || r != nil {
				t.Errorf("%q is %+v, and the error is %v", data, r, err)
			}
			return
		}
		seen := map[string]bool{}
		for _, s := range r.Shares {
			if volume.CheckShareName(s.Name) != nil || volume.CheckExportPath(s.Path) != nil || volume.CheckMountOptions(s.MountOptions) != nil ||
				len(s.Servers) == 0 || slices.ContainsFunc(s.Servers, func(h string) bool { return volume.CheckServer(h) != nil }) ||
				s.MaxVolumes < 0 || s.TrashRetention < 0 || seen[s.Name] {
				t.Errorf("%q has the share %+v", data, s)
			}
			seen[s.Name] = true
		}
		if dir, err := r.SubDir.ExpandDefault(volume.Names{PVC: "data", Namespace: "shop", PV: "pvc-1"}); err != nil || volume.CheckDirectory(dir) != nil {
			t.Errorf("%q has the template %q, which gives %q, %v", data, r.SubDir, dir, err)
		}
		if err := volume.CheckMountOptions(r.MountOptions); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	})
}

// TestParseOverlap parses files in which two shares are equal, or one is inside the other.
func TestParseOverlap(t *testing.T) {
	for _, pair := range [][4]string{
		{"nas.example.com", "/export", "nas.example.com", "/export"},
		{"nas.example.com", "/export", "NAS.example.com", "/export"},
		{"nas.example.com", "/export", "nas.example.com.", "/export/a"},
		{"fd00::1", "/export", "FD00:0:0::1", "/export/a"},
		{"10.0.0.1", "/export", "::ffff:10.0.0.1", "/"},
	} {
		_, err := Parse([]byte("shares:\n- {name: a, servers: ['" + pair[0] + "'], path: " + pair[1] + "}\n- {name: b, servers: [other, '" + pair[2] + "'], path: " + pair[3] + "}\n"))
		if volume.Kind(err) != volume.ErrInvalid || !strings.Contains(err.Error(), "holds share a") {
			t.Errorf("%q: %v", pair, err)
		}
	}
}
