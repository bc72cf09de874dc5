// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-csi/mooring/pkg/volume"
)

// A server's name can have several addresses, and some of them may not answer. mount.nfs uses the
// first, and the kernel tries it until the mount's deadline. So Kernel finds an address that answers,
// and passes it to mount(8). Kerberos and TLS verify the server's name: the kernel then needs the name
// and the address, which mount.nfs cannot pass. mount(8) can do so without mount.nfs (-i), for NFSv4,
// which needs nothing else of mount.nfs. NFSv3 with Kerberos or TLS uses mount.nfs and the order of
// the name's addresses.

// withAddress points an attempt to an address that answers, if the server's name has several.
func (k *Kernel) withAddress(ctx context.Context, a attempt) attempt {
	server, path, ok := volume.SplitExport(a.source)
	if !ok || k.Answers == nil || a.address != "" {
		return a
	}
	addresses := filterByFamily(a.options, k.lookUpAddresses(ctx, "ip", server))
	if len(addresses) < 2 {
		return a
	}
	table, err := k.Table()
	if err != nil {
		return a // verify returns the error after the mount
	}
	answers, ok := k.firstAnswering(ctx, sortUsedFirst(table, addresses), a.options)
	if !ok {
		return a // mount(8) reports the error
	}
	source := volume.ExportName(answers.String(), path)
	host, err := (Spec{Source: source, MultipleAddresses: true}).hostname(a.options)
	if err != nil {
		host = a.host
	}
	a.host = host
	switch {
	case !needsName(a.options):
		a.source = source
	case versionOf(a.options) != "3":
		a.address = answers.String()
	}
	return a
}

// lookUpAddresses returns the addresses of a server in the order in which to try them. It returns
// none if the lookup fails: mount(8) reports the error.
func (k *Kernel) lookUpAddresses(ctx context.Context, network, server string) []netip.Addr {
	if a, err := netip.ParseAddr(server); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	resolve := net.DefaultResolver.LookupNetIP
	if k.resolve != nil {
		resolve = k.resolve
	}
	found, _ := resolve(ctx, network, server)
	for i, a := range found {
		found[i] = a.Unmap()
	}
	return found
}

// filterByFamily removes the addresses that proto= excludes (nfs(5)).
func filterByFamily(options []string, addresses []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(addresses, func(a netip.Addr) bool {
		for _, o := range options {
			switch o {
			case "proto=tcp", "tcp", "proto=udp", "udp", "proto=rdma", "rdma":
				return !a.Is4()
			case "proto=tcp6", "tcp6", "proto=udp6", "udp6", "proto=rdma6":
				return a.Is4()
			}
		}
		return false
	})
}

// sortUsedFirst sorts the addresses so that those with a mount on this machine come first: all
// mounts of a file system by one address share a superblock, with its cache and its locks.
func sortUsedFirst(table Table, addresses []netip.Addr) []netip.Addr {
	used := map[string]bool{}
	for _, e := range table {
		if strings.HasPrefix(e.Type, "nfs") {
			used[ValueOf(e.Super, "addr")] = true
		}
	}
	sorted := slices.Clone(addresses)
	slices.SortStableFunc(sorted, func(a, b netip.Addr) int {
		switch x, y := used[a.String()], used[b.String()]; {
		case x == y:
			return 0
		case x:
			return -1
		}
		return 1
	})
	return sorted
}

// firstAnswering probes the addresses one after the other, and returns the first that answers.
func (k *Kernel) firstAnswering(ctx context.Context, addresses []netip.Addr, options []string) (netip.Addr, bool) {
	if k.Answers == nil || len(addresses) < 2 {
		return netip.Addr{}, false // there is nothing to choose
	}
	for _, a := range addresses {
		if ctx.Err() == nil && k.Answers(ctx, a.String(), options) == nil {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// mountByName mounts by name and address, without mount.nfs. So it does what mount.nfs would do: it
// tries one version after the other.
func (k *Kernel) mountByName(ctx context.Context, s Spec, a attempt) (err error) {
	versions := []string{versionOf(a.options)}
	if versions[0] == "" {
		versions = []string{"4.2", "4.1", "4.0"}
	}
	options := slices.DeleteFunc(slices.Clone(a.options), func(o string) bool { return strings.HasPrefix(o, "retry=") })
	for _, v := range versions {
		a.options = volume.MergeMountOptions(options, []string{"nfsvers=" + v, "addr=" + a.address})
		err = k.run(ctx, s, a)
		if cause, _ := CauseOf(err); cause != NoVersion {
			return err
		}
	}
	return err
}

// mountNFSWording replaces messages of mount(8) with those of mount.nfs, if they differ or mean
// another problem.
var mountNFSWording = strings.NewReplacer(
	"bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program", "an incorrect mount option was specified",
	"permission denied", "access denied by server",
	"read-only", "read-only: access denied by server", // EACCES; mount(8) has tried that, too
	"special device", "No such file or directory: special device",
	"Not a directory", "it is not a directory",
)
