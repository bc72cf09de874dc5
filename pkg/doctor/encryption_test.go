// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

func TestJudgeEncryption(t *testing.T) {
	share := volume.Share{Servers: []string{"nas"}, Path: "/export", MountOptions: []string{"nfsvers=4.2", "xprtsec=tls"}}
	for _, c := range []struct {
		source, kind, super, options string
		status                       Status
	}{
		{"nas:/export/v1", "nfs4", "vers=4.2,addr=10.0.0.1", "xprtsec=tls", Fail},
		{"nas:/export", "nfs", "vers=3", "xprtsec=mtls", Fail},
		{"10.0.0.1:/export/v1", "nfs4", "addr=10.0.0.1", "xprtsec=tls", Fail},
		{"other:/export/v1", "nfs4", "addr=10.0.0.1", "xprtsec=tls", Fail},
		{"[::ffff:10.0.0.1]:/export", "nfs4", "addr=::ffff:10.0.0.1", "xprtsec=tls", Fail},
		{"nas:/export/v1", "nfs4", "xprtsec=tls", "xprtsec=mtls", Fail},
		{"nas:/export/v1", "nfs4", "xprtsec=tls,addr=10.0.0.1", "xprtsec=tls", OK},
		{"nas:/export/v1", "nfs4", "xprtsec=mtls", "xprtsec=tls", OK},
		{"nas:/exports", "nfs4", "addr=10.0.0.1", "xprtsec=tls", OK},
		{"other:/export/v1", "nfs4", "addr=10.0.0.2", "xprtsec=tls", OK},
		{"nas:/export/v1", "fuse", "", "xprtsec=tls", OK},
		{"nas:/export/v1", "nfs4", "", "xprtsec=none", Skip},
		{"nas:/export/v1", "nfs4", "", "nfsvers=4.2", Skip},
	} {
		share.MountOptions = []string{c.options}
		table := mount.Table{{Source: c.source, Target: "/pod", Type: c.kind, Super: strings.Split(c.super, ",")}}
		var s reportBuilder
		judgeEncryption(&s, table, []volume.Share{share}, func(string) []string { return []string{"10.0.0.1"} })
		if len(s.all) != 1 || s.all[0].Status != c.status || c.status == Fail && !strings.Contains(s.all[0].Detail, "/pod") {
			t.Errorf("%s with %q, for a share with %s: got %+v, want %s", c.source, c.super, c.options, s.all, c.status)
		}
	}
}
