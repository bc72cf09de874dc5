// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/mount"
	"github.com/mooring-csi/mooring/pkg/volume"
)

// judgeEncryption looks for mounts of shares with TLS that have none. The driver makes no such mount; it
// has, before it compared what it got with what was asked for, and others do.
func judgeEncryption(s *reportBuilder, table mount.Table, shares []volume.Share, lookUp func(server string) []string) {
	asked, plain := false, []string{}
	for _, def := range shares {
		options := slices.DeleteFunc(volume.MergeMountOptions(def.MountOptions), func(o string) bool { return !strings.HasPrefix(o, "xprtsec=") })
		if len(options) == 0 || options[0] == "xprtsec=none" {
			continue
		}
		asked = true
		servers := slices.Clone(def.Servers)
		for _, server := range def.Servers {
			servers = append(servers, lookUp(server)...)
		}
		for _, e := range table {
			if strings.HasPrefix(e.Type, "nfs") && isMountOf(e, servers, def.Path) && mount.VerifyOptions(e, options) != nil {
				plain = append(plain, e.Target)
			}
		}
	}
	switch {
	case !asked:
		s.skip("tls", "no share has xprtsec among its options")
	case len(plain) > 0:
		more := ""
		if len(plain) > 5 {
			plain, more = plain[:5], " and more"
		}
		s.problem("tls", "plain", "without it are mounted %s%s", strings.Join(plain, ", "), more)
	default:
		s.ok("tls", "no mount of such a share is without it")
	}
}

// isMountOf reports whether a mount is of a directory of one of the servers, or of what is in that. The
// kernel can have another of the server's names than whoever has mounted.
func isMountOf(e mount.Entry, servers []string, path string) bool {
	server, p, ok := volume.SplitExport(e.Source)
	address := strings.TrimPrefix(mount.ValueOf(e.Super, "addr"), "::ffff:")
	known := slices.Contains(servers, server) || slices.Contains(servers, cmp.Or(address, server))
	return ok && known && strings.HasPrefix(strings.TrimSuffix(p, "/")+"/", strings.TrimSuffix(path, "/")+"/")
}

// checkEncryption examines the mounts of this machine.
func (d *Doctor) checkEncryption(ctx context.Context, s *reportBuilder, visits []*shareCheck) {
	table, err := new(mount.Kernel).Table()
	if err != nil {
		s.skip("tls", "%v", err)
		return
	}
	var shares []volume.Share
	for _, v := range visits {
		shares = append(shares, v.def)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	judgeEncryption(s, table, shares, func(server string) []string {
		found, _ := net.DefaultResolver.LookupHost(ctx, server)
		return found
	})
}
