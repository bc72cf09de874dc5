// SPDX-License-Identifier: Apache-2.0

package chart

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/config"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// check is one value of a share that the driver checks at its start, and so does the chart.
type check struct {
	driver    func(string) error
	values    func(string) any // the chart's values with it
	good, bad []string
}

// withShare returns values with one share, of which one field is another.
func withShare(field string, value any) any {
	share := map[string]any{"name": "a", "servers": []string{"nas"}, "path": "/x"}
	share[field] = value
	return map[string]any{"shares": []any{share}}
}

var checks = map[string]check{
	"share name": {
		volume.CheckShareName,
		func(s string) any { return withShare("name", s) },
		[]string{"nas1", "a", "0", "a.b-c", "nas.1", strings.Repeat("a", 40)},
		[]string{"", "-a", "a-", ".a", "a.", "A", "a_b", "a b", "a/b", "a:b", "a,b", "*", "..", "ä", "a\n", strings.Repeat("a", 41)},
	},
	"server": {
		volume.CheckServer,
		func(s string) any { return withShare("servers", []string{s}) },
		[]string{
			"10.0.0.200", "nas", "nas.example.com", "nas.example.com.", "NAS", "nas_1", "999.999.999.999", strings.Repeat("a", 253),
			"fd00::1", "::", "::1", "1::", "fe80::1%eth0.7", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "FD00:0:0::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "1:2:3:4:5:6:10.0.0.1",
		},
		[]string{
			"", "nas:2049", "10.0.0.200:2049", "10.0.0.200:/export", "nas/export", "nas:/export", "[fd00::1]", "[fd00::1]:2049", "nas example", " nas", "nas ", "nas\t", "nas\n",
			"nas1,nas2", "-nas", "-o", "nä", "nfs://nas", "root@nas", strings.Repeat("a", 254),
			":", ":::", "1:2", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::12345", "::g", ":1::2", "1::2:", "::10.0.0", "::10.0.0.256", "::010.0.0.1", "10.0.0.1::",
			"10.0.0.1%eth0", "fe80::1%", "fe80::1%a/b", "fe80::1%a%b", "fe80::1%-", "fe80::1% ", "1:2:3:4:5:6:7:10.0.0.1",
		},
	},
	"path": {
		volume.CheckExportPath,
		func(s string) any { return withShare("path", s) },
		[]string{"/", "/a", "/export/kubernetes", "/a b/c,d", "/ä", "/.a", "/..a", "/...", "/a:b", "/" + strings.Repeat("a", 1023)},
		[]string{"", "a", "export", "//", "//a//b", "//a", "/a/", "/a//b", "/..", "/a/../b", "/./a", "/a/.", "/a\n", "/a\tb", "/\x7f", "nas:/a", "/" + strings.Repeat("a", 1024), "/" + strings.Repeat("ä", 512)},
	},
	"mount options": {
		func(s string) error { return volume.CheckMountOptions([]string{s}) },
		func(s string) any { return withShare("mountOptions", []string{s}) },
		[]string{
			"ro", "hard", "nodev", "_netdev", "noresvport", "nconnect=4", "nfsvers=4.2", "vers=3", "v4.1", "minorversion=1", "sec=krb5p", "sec=krb5:krb5i:sys", "xprtsec=mtls", "port=2049", "port=0", "mountport=65535", "port=00020049",
			"nfsvers=4.2,nconnect=4", "proto=rdma", "background", "clientaddr=10.0.0.1", "local_lock=none", `context="system_u:object_r:container_file_t:s0:c1,c2"`, `rootcontext="a b"`, `ro,fscontext="a,bg",hard`, "context=a",
		},
		[]string{
			"", "bg", "fg", "ro,bg", "bg,ro", "bg=1", "ro,", ",ro", "ro,,rw", "addr=10.0.0.1", "mountaddr=10.0.0.1", "mounthost=nas", "bind", "rbind", "move", "remount", "loop", "user", "users", "owner", "group", "noauto", "nofail", "sloppy",
			"private", "rshared", "slave", "runbindable", "x-systemd.automount", "X-mount.mkdir", "comment=a", "comments", "ro rw", " ro", "ro\n", "ro\t", "rsize=1 2", "-o", "a:b", "=a", "ä", `a\b`, `a="b"`, `context="a`, `context=a"b"`, `context="a"b`, `"ro"`, `context="a",bg`,
			"vers", "vers=5", "vers=4.3", "nfsvers=", "nfsvers=4.2.0", "minorversion=3", "sec=krb", "sec=", "sec=sys:", "sec", "xprtsec=on", "port=65536", "port=", "port=-1", "port=nfs", "mountport",
		},
	},
	"default directory": {
		func(s string) error {
			_, err := config.Parse([]byte("defaults: {subDir: " + asYAML(s) + "}"))
			return err
		},
		func(s string) any { return map[string]any{"defaults": map[string]any{"subDir": s}} },
		[]string{"", "${pvc.metadata.namespace}/${pvc.metadata.name}", "a/${pv.metadata.name}", "${.PVC.namespace}-${.PVC.name}", "a$b", ".a", "mooring", ".mooring-a", "...", "a b"},
		[]string{"/a", "a/", "a//b", ".", "..", "a/../b", "./a", ".mooring", ".mooring/a", "a/.Mooring. ", "${", "${a}", "${pvc.metadata.name", "${PVC.name}", "a\nb"},
	},
	"retention": {
		func(s string) error {
			_, err := config.Parse([]byte("shares: [{name: a, servers: [nas], path: /x, trashRetention: " + asYAML(s) + "}]"))
			return err
		},
		func(s string) any { return withShare("trashRetention", s) },
		[]string{"", "0", "0s", "24h", "1h30m", "1.5h", ".5h", "1.h", "90m10s", "100ms"},
		[]string{"24", "1d", "1w", "-1h", "h", ".h", "1h 30m", " 1h", "1H", "1h-30m", "forever"},
	},
	"id": {
		func(s string) error { _, err := volume.ParseShareID(s); return err },
		func(s string) any { return withShare("id", s) },
		[]string{"0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d", "0B1C2D3E-4F50-4A6B-8C7D-9E0F1A2B3C4D"},
		[]string{"nas1", "7", "0b1c2d3e4f504a6b8c7d9e0f1a2b3c4d", "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d ", "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4g"},
	},
}

// asYAML returns a value in JSON, which is YAML. YAML does not take DEL as it is.
func asYAML(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(data), "\x7f", `\u007f`)
}

// TestSameChecks proves that chart and driver refuse the same values.
func TestSameChecks(t *testing.T) {
	for what, c := range checks {
		for _, value := range slices.Concat(c.good, c.bad) {
			want := c.driver(value)
			if good := slices.Contains(c.good, value); good != (want == nil) {
				t.Errorf("%s %q: the driver says %v", what, value, want)
			}
			if _, err := tryRender(t, "mooring", asYAML(c.values(value))); (err == nil) != (want == nil) {
				t.Errorf("%s %q: the driver says %v, the chart %v", what, value, want, err)
			}
		}
	}
}

// TestSameChecksOfChangedValues changes a few characters of good and bad values: chart and driver still agree.
func TestSameChecksOfChangedValues(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	const letters = "aA0f1.:%-/,=\" g_"
	for what, c := range checks {
		all := slices.Concat(c.good, c.bad)
		for range 40 {
			value := []rune(all[random.IntN(len(all))])
			for range 1 + random.IntN(2) {
				at, letter := random.IntN(len(value)+1), rune(letters[random.IntN(len(letters))])
				switch {
				case at == len(value) || random.IntN(2) == 0:
					value = append(value[:at:at], append([]rune{letter}, value[at:]...)...)
				default:
					value = append(value[:at:at], value[at+1:]...)
				}
			}
			want := c.driver(string(value))
			if _, err := tryRender(t, "mooring", asYAML(c.values(string(value)))); (err == nil) != (want == nil) {
				t.Errorf("%s %q: the driver says %v, the chart %v", what, string(value), want, err)
			}
		}
	}
}

// TestSameChecksOfShares proves that chart and driver refuse the same shares beside each other.
func TestSameChecksOfShares(t *testing.T) {
	const id = "0b1c2d3e-4f50-4a6b-8c7d-9e0f1a2b3c4d"
	share := func(name, server, path string) string {
		return fmt.Sprintf("{name: %s, servers: [other-%s, %q], path: %s}", name, name, server, path)
	}
	for _, c := range []struct {
		a, b string
		good bool
	}{
		{share("a", "nas", "/x"), share("b", "nas", "/y"), true},
		{share("a", "nas", "/x"), share("b", "nas2", "/x"), true},
		{share("a", "nas", "/x"), share("b", "nas", "/xy"), true},
		{share("a", "nas", "/x/y"), share("b", "nas", "/x/z"), true},
		{share("a", "fd00::1", "/x"), share("b", "fd00::2", "/x"), true},
		{share("nas.1", "nas", "/x"), share("nas-1", "nas", "/y"), true},
		{share("a", "nas", "/x"), share("a", "nas", "/y"), false},
		{share("a", "nas", "/x"), share("b", "nas", "/x"), false},
		{share("a", "nas", "/x"), share("b", "nas", "/x/y"), false},
		{share("a", "nas", "/x/y"), share("b", "nas", "/x"), false},
		{share("a", "nas", "/"), share("b", "nas", "/x"), false},
		{share("a", "nas", "/x"), share("b", "NAS.", "/x"), false},
		{share("a", "fd00::1", "/x"), share("b", "FD00:0:0::0001", "/x"), false},
		{share("a", "::", "/x"), share("b", "0:0:0:0:0:0:0:0", "/x"), false},
		{share("a", "10.0.0.1", "/x"), share("b", "::ffff:10.0.0.1", "/x"), false},
		{share("a", "10.0.0.1", "/x"), share("b", "::FFFF:a00:1", "/x"), false},
		{share("a", "fe80::1%eth0", "/x"), share("b", "fe80::1%eth1", "/x"), true},
		{"{name: a, servers: [nas], path: /x, id: " + id + "}", "{name: b, servers: [nas2], path: /x, id: " + strings.ToUpper(id) + "}", false},
	} {
		shares := "shares: [" + c.a + ", " + c.b + "]\n"
		_, driver := config.Parse([]byte(shares))
		_, chart := tryRender(t, "mooring", shares+"controller: {mountShares: kubelet}\n")
		if (driver == nil) != c.good || (chart == nil) != c.good {
			t.Errorf("%s: the driver says %v, the chart %v", shares, driver, chart)
		}
	}
}
