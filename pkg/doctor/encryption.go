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

// judgeEncryption looks for mounts without TLS of shares that have xprtsec. The driver makes no such
// mount; older versions, which did not verify their mounts, and other programs can.
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
		s.skip("tls", "no share has the option xprtsec")
	case len(plain) > 0:
		more := ""
		if len(plain) > 5 {
			plain, more = plain[:5], " and more"
		}
		s.problem("tls", "plain", "mounts without TLS: %s%s", strings.Join(plain, ", "), more)
	default:
		s.ok("tls", "all mounts of such shares have it")
	}
}

// isMountOf reports whether a mount shows a path of one of the servers, or a directory inside it. The
// kernel may have recorded another name or address of the server than the share has.
func isMountOf(e mount.Entry, servers []string, path string) bool {
	server, p, ok := volume.SplitExport(e.Source)
	address := strings.TrimPrefix(mount.ValueOf(e.Super, "addr"), "::ffff:")
	known := slices.Contains(servers, server) || slices.Contains(servers, cmp.Or(address, server))
	return ok && known && strings.HasPrefix(strings.TrimSuffix(p, "/")+"/", strings.TrimSuffix(path, "/")+"/")
}

// checkEncryption checks the mounts of this machine.
func (d *Doctor) checkEncryption(ctx context.Context, s *reportBuilder, checks []*shareCheck) {
	table, err := new(mount.Kernel).Table()
	if err != nil {
		s.skip("tls", "%v", err)
		return
	}
	var shares []volume.Share
	for _, sc := range checks {
		shares = append(shares, sc.def)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	judgeEncryption(s, table, shares, func(server string) []string {
		found, _ := net.DefaultResolver.LookupHost(ctx, server)
		return found
	})
}
